"""The flags that an engine knows, by its own `--help`. `FlagSource` blocks."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.engine.asking import AskedOnce, SilentError, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

RETRY_SECONDS = 30.0
"""An engine that has not answered is not asked again for so long: each try may take all of `PATIENCE`."""
LONGEST_QUOTED = 200
"""Characters of what an engine says instead."""
_FLAG = re.compile(r"(--?[A-Za-z][\w-]*)(,?\s*)")
_IS_FLAG = re.compile(r"--?[A-Za-z]")


@dataclass(frozen=True, kw_only=True)
class KnownFlags:
    """The flags of an engine; none: nobody can say."""

    flags: frozenset[str] = frozenset()
    problem: str = ""
    """Reason, as a sentence, for which the engine has not said."""


class FlagSource:
    """Flags of engines, as they were told last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked = AskedOnce(_asked, holds=_holds, clock=clock)

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> KnownFlags:
        """Return the flags that an engine lists. `environment`: variables that a server gets beside ours."""
        try:
            return self._asked(command, environment)
        except OSError as error:
            return KnownFlags(problem=_unanswered(command, error.strerror or str(error)))


def _holds(known: KnownFlags, age: float) -> bool:
    return bool(known.flags) or age < RETRY_SECONDS


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


def _asked(command: Sequence[str], environment: Mapping[str, str]) -> KnownFlags:
    try:
        said = ask(command, "--help", environment)
    except SilentError as error:
        return KnownFlags(problem=_unanswered(command, str(error)))
    if flags := flags_in(said.stdout):
        return KnownFlags(flags=flags)
    lines = (said.stderr or said.stdout).strip().splitlines()
    quoted = f'it says "{lines[0][:LONGEST_QUOTED]}"' if lines else "it says nothing"
    return KnownFlags(problem=_unanswered(command, quoted))


def _unanswered(command: Sequence[str], why: str) -> str:
    return f"Flags are not checked: {command[0]} does not tell them ({why})."


flags_of = FlagSource()
"""The answers that this process has heard."""
