"""The cause of a permanent failure, as a look at the machine shows it.

A failure with nothing to watch (a flag that is refused) waits for a person or for another configuration.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.decisive import ABOUT_A_FILE
from supervisor_app.core.diagnosis.explanations import CANNOT_RUN
from supervisor_app.core.diagnosis.named_files import parts_of
from supervisor_app.core.machine.listeners import answers, in_the_way, is_blocked, why_not_bindable
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Cause
from supervisor_app.core.status import Failure, FailureKind

if TYPE_CHECKING:
    from supervisor_app.core.spec import LaunchSpec

_OF_THE_BINARY = frozenset({FailureKind.BINARY_MISSING, FailureKind.LIBRARY_MISSING})
_OF_A_MISSING_FILE = frozenset({FailureKind.BINARY_MISSING, FailureKind.MODEL_MISSING})


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
