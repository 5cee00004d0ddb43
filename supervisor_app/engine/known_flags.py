"""The flags that an engine knows, by its own `--help`. `flags_of` blocks."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.engine.asking import SilentError, ask

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_FLAG = re.compile(r"(--?[A-Za-z][\w-]*)(,?\s*)")
_IS_FLAG = re.compile(r"--?[A-Za-z]")


def flags_in(said: str) -> frozenset[str]:
    """Return the flags of a text of `--help`: those at the beginning of a line, separated by commas."""
    found = set()
    for line in said.splitlines():
        at = 0
        while match := _FLAG.match(line, at):
            found.add(match[1])
            if not match[2].startswith(","):
                break
            at = match.end()
    return frozenset(found)


def flags_of(command: Sequence[str]) -> frozenset[str]:
    """Return the flags that an engine lists; none when it does not say. Asked once of each build."""
    try:
        stamp = Path(command[0]).stat().st_mtime_ns
        return _asked(tuple(command), stamp)
    except (IndexError, OSError, SilentError):
        return frozenset()


def unknown_flags(args: Sequence[str], known: Collection[str]) -> list[str]:
    """Return a sentence for each flag that is not known, with its nearest neighbour. Pure."""
    sentences = []
    for word in dict.fromkeys(word for word in args if _IS_FLAG.match(word)):
        if (flag := spelled(word)) in known:
            continue
        near = get_close_matches(flag, known, n=1, cutoff=0.75)
        what = f"Did you mean {near[0]}?" if near else "llama-server --help lists those that it knows."
        sentences.append(f"This llama-server knows no {flag}. {what}")
    return sentences


@lru_cache(maxsize=8)
def _asked(command: tuple[str, ...], _stamp: int) -> frozenset[str]:
    """Raises SilentError, which is not kept: the engine is asked again the next time."""
    return flags_in(ask(command, "--help").stdout)
