"""Build of an engine, as it says itself. `build_of` blocks."""

from __future__ import annotations

import re
from importlib import metadata
from threading import Lock
from typing import TYPE_CHECKING

from supervisor_app.engine.asking import AskedOnce, SilentError, ask
from supervisor_app.engine.resolve import LAUNCHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BUILD = re.compile(r"(?m)^version: (?:\S+ \(build )?(\d+)\b")
"""`version: 8763 (ff5ef8278)`; where releases have numbers `version: 0.7.0 (build 11669, commit Debian)`."""
_NUMBERS = re.compile(r"\d+")
_said: dict[tuple[str, ...], str] = {}
"""Build that each command told last: as many as the node has engines."""
_lock = Lock()


def build_of(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return `b11669`; empty when the engine does not say, or cannot be run.

    An engine that has said its build is asked again when its program has changed. `environment`: variables
    that a server gets beside our own.
    """
    build = _bundled(command) or _told(command, environment)
    with _lock:
        _said[tuple(command)] = build
    return build


def _bundled(command: Sequence[str]) -> str:
    """Return the version of the bundled engine, which costs nothing to read; empty: it is another one."""
    return f"xllamacpp {metadata.version('xllamacpp')}" if str(LAUNCHER) in command else ""


def _told(command: Sequence[str], environment: Mapping[str, str]) -> str:
    try:
        return _asked(command, environment)
    except (OSError, ValueError):  # to be found on PATH, where another program may take its place unseen
        return _ask(command, environment)


def told_build(argv: Sequence[str]) -> str:
    """Return what the engine of this command line told `build_of` last; empty: it was not asked yet."""
    with _lock:
        known = [command for command in _said if tuple(argv[: len(command)]) == command]
        return _said[max(known, key=len)] if known else ""


def reaches(build: str, other: str) -> bool:
    """Tell whether a build is another one or newer; so is one that does not say, or of another kind."""
    kind, number = _taken_apart(build)
    other_kind, least = _taken_apart(other)
    return number >= least or kind != other_kind or not number


def _taken_apart(build: str) -> tuple[str, tuple[int, ...]]:
    return _NUMBERS.sub("", build).strip(" ."), tuple(map(int, _NUMBERS.findall(build)))


def _ask(command: Sequence[str], environment: Mapping[str, str]) -> str:
    try:
        said = ask(command, "--version", environment)
    except SilentError:
        return ""
    found = _BUILD.search(said.stdout + said.stderr)
    return f"b{found[1]}" if found else ""


_asked = AskedOnce(_ask, holds=lambda build, _age: bool(build))
