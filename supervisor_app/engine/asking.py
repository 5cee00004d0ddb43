"""Questions that an engine answers and ends, such as `--version`. Blocking."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE = 10.0
"""Seconds: a build for GPUs opens their driver before it says anything."""

T = TypeVar("T")
_Program = tuple[object, ...]


class SilentError(Exception):
    """The engine cannot be run, or does not answer in time; the message says which, as part of a sentence."""


def ask(
    command: Sequence[str], question: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return what an engine says. Raises SilentError.

    `environment`: variables that a server gets beside our own.
    """
    try:
        return subprocess.run(
            [*command, question],
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise SilentError(f"no answer within {PATIENCE:g} seconds") from error
    except OSError as error:
        raise SilentError(error.strerror or str(error)) from error
    except (ValueError, subprocess.SubprocessError) as error:
        raise SilentError(str(error)) from error


class AskedOnce(Generic[T]):
    """Answers of engines, each asked once: of a program as it lies there, with its variables.

    To ask is to start the engine, and many servers that start together have the same question.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[str], Mapping[str, str]], T],
        *,
        holds: Callable[[T, float], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`holds`: is an answer, so many seconds after it came, still good?"""
        self._ask = ask
        self._holds = holds
        self._clock = clock
        self._answers: dict[_Program, tuple[T, float]] = {}
        self._turns: dict[_Program, Lock] = {}

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> T:
        """Return the answer. Raises OSError: there is no such file, perhaps a name to be found on PATH."""
        program = (*command, *sorted(environment.items()), *_files_of(command))
        with self._turns.setdefault(program, Lock()):
            if program in self._answers:
                answer, at = self._answers[program]
                if self._holds(answer, self._clock() - at):
                    return answer
            answer = self._ask(command, environment)
            self._answers[program] = answer, self._clock()
            return answer


def _files_of(command: Sequence[str]) -> _Program:
    """Differs once the program, or the script that it runs, is replaced or changed. Raises OSError."""
    files = [Path(command[0]), *(Path(word) for word in command[1:] if os.sep in word)]
    stats = [file.stat() for file in files]
    return tuple((stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns) for stat in stats)
