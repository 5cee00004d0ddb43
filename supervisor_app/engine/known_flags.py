"""The flags that an engine knows, by its own `--help`. `FlagSource` blocks."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.engine.asking import SilentError, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

RETRY_SECONDS = 30.0
"""An engine that has not answered is not asked again for so long: each try may take all of `PATIENCE`."""
LONGEST_QUOTED = 200
"""Characters of what an engine says instead."""
_FLAG = re.compile(r"(--?[A-Za-z][\w-]*)(,?\s*)")
_IS_FLAG = re.compile(r"--?[A-Za-z]")

_Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class KnownFlags:
    """The flags of an engine; none: nobody can say."""

    flags: frozenset[str] = frozenset()
    problem: str = ""
    """Reason, as a sentence, for which the engine has not said."""


@dataclass
class FlagSource:
    """Answers of engines, each asked once: of a program as it lies there, with its variables."""

    clock: Callable[[], float] = time.monotonic
    """Seconds."""
    _answers: dict[_Key, tuple[KnownFlags, float]] = field(default_factory=dict)
    _turns: dict[_Key, Lock] = field(default_factory=dict)

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> KnownFlags:
        """Return the flags that an engine lists. `environment`: variables that a server gets beside ours."""
        try:
            key = (*command, *sorted(environment.items()), *_identity(command))
        except OSError as error:
            return KnownFlags(problem=_unanswered(command, error.strerror or str(error)))
        with self._turns.setdefault(key, Lock()):
            answer, at = self._answers.get(key, (KnownFlags(), 0.0))
            if answer.flags or (answer.problem and self.clock() - at < RETRY_SECONDS):
                return answer
            answer = _asked(command, environment)
            self._answers[key] = answer, self.clock()
            return answer


flags_of = FlagSource()
"""The answers that this process has heard."""


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


def _identity(command: Sequence[str]) -> _Key:
    """Differs once the program, or the script that it runs, is replaced or changed. Raises OSError."""
    files = [Path(command[0]), *(Path(word) for word in command[1:] if os.sep in word)]
    stats = [file.stat() for file in files]
    return tuple((stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns) for stat in stats)


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
