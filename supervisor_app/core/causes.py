"""The cause of a permanent failure, and whether the cause is gone.

A failure with nothing to watch (a flag that is refused) waits for a person or for another configuration.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from supervisor_app.core.decisive import ABOUT_A_FILE
from supervisor_app.core.diagnosis import CANNOT_RUN
from supervisor_app.core.listeners import answers, in_the_way, is_blocked, why_not_bindable
from supervisor_app.core.named_files import parts_of
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Cause
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import Failure, FailureKind

_OF_THE_BINARY = frozenset({FailureKind.BINARY_MISSING, FailureKind.LIBRARY_MISSING})
_OF_A_MISSING_FILE = frozenset({FailureKind.BINARY_MISSING, FailureKind.MODEL_MISSING})


@dataclass
class CauseWatch:
    """Compares looks at one cause. Gone means changed and then at rest: a file that still grows is a download
    under way.

    A file that was said to be missing and is there at the first look appeared in between, most likely: worth
    one try. If the failure comes again with the same file there, only a change of it counts.
    """

    _first: Cause | None = None
    """The look when the failure happened."""
    _last: Cause | None = None
    _tried: Cause | None = None
    """A cause that was there at the first look, and with which a start has been tried."""

    _unseen: bool = False
    """Nobody could look when the failure happened."""

    def begin(self, cause: Cause | None) -> None:
        """Remember the cause of a failure that has just happened."""
        self._first = self._last = cause
        self._unseen = False

    def begin_unseen(self) -> None:
        """Take the next look for the first one: the cause cannot be looked at now."""
        self._unseen = True

    def is_gone(self, cause: Cause | None) -> bool:
        if self._unseen:
            self.begin(cause)
            return False
        settled, self._last = cause == self._last, cause
        if not settled or cause is None:
            return False
        if cause != self._first or (cause.is_port and not cause.present):
            return True
        if cause.present or cause == self._tried:
            return False
        self._tried = cause
        return True


def cause_of(failure: Failure, spec: LaunchSpec) -> Cause | None:
    """Return the cause of the failure as it is now; None when nobody can tell from outside. Blocking."""
    if failure.kind is FailureKind.PORT_TAKEN:
        found = in_the_way(spec)
        blocked = is_blocked(spec, found)
        why = "" if blocked else why_not_bindable(spec)
        held = blocked or bool(why) or (not found and answers(spec))
        return Cause(present=held, mark=(why, *found), is_port=True)
    file = _file_of(failure, spec)
    if file is None:
        return None
    missing = failure.kind in _OF_A_MISSING_FILE and failure.title != CANNOT_RUN
    return Cause(
        present=not (missing and file.exists()), mark=tuple(_fingerprint(part) for part in parts_of(file))
    )


def _file_of(failure: Failure, spec: LaunchSpec) -> Path | None:
    if failure.file:
        return Path(failure.file)
    if failure.kind in _OF_THE_BINARY and spec.command:
        return Path(spec.cwd, spec.command[0])
    return spec.model_file if failure.kind in ABOUT_A_FILE else None


def _fingerprint(path: Path) -> tuple[object, ...]:
    """Differs once the file appears, is replaced, written to, or may be read or run."""
    try:
        stat = path.stat()
    except OSError as error:
        raise_shortage(error)
        return (error.errno,)
    except ValueError as error:  # a name that no disk can hold
        return (str(error),)
    allowed = os.access(path, os.R_OK), os.access(path, os.X_OK)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode, *allowed)
