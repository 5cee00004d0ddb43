"""Macros of llama-swap: `${NAME}` in commands. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from supervisor_app.importing.found import ImportMistakeError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_ROUNDS = 20
LONGEST = 100_000
"""Characters: macros of macros grow quickly."""
KEPT = ("PORT", "PID")
"""Known to llama-swap alone, while it runs."""
_MACRO = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")


def expand(where: str, text: str, macros: Mapping[str, Any]) -> str:
    """Replace macros, also those in macros; `${env.X}` stays. Raises ImportMistakeError."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in KEPT:
            return match[0]
        if name not in macros:
            known = ", ".join(macros) or "none"
            raise ImportMistakeError(f"{where}: there is no macro ${{{name}}}. Macros: {known}.")
        said = macros[name]
        if said is None:
            raise ImportMistakeError(f"{where}: the macro ${{{name}}} has no value. Write one.")
        return str(said).lower() if isinstance(said, bool) else str(said)

    for _ in range(MOST_ROUNDS):
        after = _MACRO.sub(value, text)
        if after == text:
            return text
        if len(after) > LONGEST:
            break
        text = after
    raise ImportMistakeError(f"{where}: its macros do not come to an end.")
