"""Starting a child: its environment, its log, and the reason where it cannot be started."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from supervisor_app.common.redact import redact_argv
from supervisor_app.core.command_line.moved_door import moved_door
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.diagnosis.spawn_failure import look_at_program, why_no_engine, why_not_started
from supervisor_app.core.machine.children import Child, start_child
from supervisor_app.core.machine.file_limit import give_back_file_limit
from supervisor_app.core.machine.identity import boot_id, identity_of
from supervisor_app.core.ports import SpawnError
from supervisor_app.core.shortage import ShortageError, raise_shortage
from supervisor_app.core.sightings import Identity
from supervisor_app.core.status import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.machine.logs import LogFile
    from supervisor_app.core.spec import LaunchSpec

OUR_SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
NO_ORIGIN = "none"
"""An origin that no page has: llama-server echoes any by default."""


def child_environment(environ: Mapping[str, str], spec: LaunchSpec) -> dict[str, str]:
    """Make the environment of a child: no LLAMA_ARG_* (each is a flag of its own) and none of our secrets."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("LLAMA_ARG_") and name != "LLAMA_API_KEY" and name not in OUR_SECRETS
    }
    kept.update(spec.environment)
    if spec.has_own_key:
        # Nobody but us knows the key, so no page in a browser has business here. Older builds ignore it; a
        # flag of people wins over it.
        kept["LLAMA_ARG_CORS_ORIGINS"] = NO_ORIGIN
    return {**kept, "LLAMA_API_KEY": spec.api_key} if spec.api_key else kept


@dataclass(frozen=True)
class Born:
    """A new child."""

    child: Child
    identity: Identity
    log_start: int
    """Offset in the log at which this run begins."""


def spawn_child(spec: LaunchSpec, log: LogFile, no_engine: str) -> Born:
    """Start a child that writes to this log. Raises SpawnError, ShortageError."""
    if door := moved_door(spec.args):
        raise SpawnError(failure_of(FailureKind.BAD_ARGUMENT, door))
    if not spec.command:
        raise SpawnError(why_no_engine(spec.engine_problem, no_engine))
    try:
        output = log.open()
    except OSError as error:
        raise_shortage(error)
        closed = f"its log cannot be opened: {error.filename or log.path}: {error.strerror}"
        raise SpawnError(failure_of(FailureKind.UNKNOWN, closed)) from error
    with output:
        _mark_start(output, log, spec)
        log_start = log.size()
        try:
            environment = child_environment(os.environ, spec)
            child = start_child(spec.argv, cwd=str(spec.cwd), env=environment, output=output.fileno())
        except OSError as error:
            raise_shortage(error)
            program = look_at_program(spec.command[0], Path(spec.cwd))
            raise SpawnError(why_not_started(error, program, Path(spec.cwd))) from error
        except ValueError as error:  # half a character, a NUL, or what this locale has no bytes for
            raise SpawnError(_unspeakable(error)) from error
    give_back_file_limit(child.pid)
    return Born(child, _identity_of_child(child.pid), log_start)


def _unspeakable(error: ValueError) -> Failure:
    detail = f"its command line cannot be handed to the system: {error}"
    return replace(failure_of(FailureKind.UNKNOWN, detail), permanent=True)


def _identity_of_child(pid: int) -> Identity:
    """Identity of a new child, made up where it cannot be read: an unwatched child would be lost."""
    nameless = Identity(pid=pid, start=0, boot_id="")
    try:
        return identity_of(pid) or replace(nameless, boot_id=boot_id())
    except ShortageError:
        return nameless


def unspawn(born: Born) -> None:
    """End a child that was started too late: in its place another child may have been started."""
    born.child.kill()
    born.child.wait()


def _mark_start(output: BinaryIO, log: LogFile, spec: LaunchSpec) -> None:
    """Mark in the log where this run begins, on a line of its own; `supervisor_app.logs.lives` reads it."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    break_ = "" if log.ends_whole else "\n"
    with contextlib.suppress(OSError):  # a full disk is no reason not to start
        os.write(
            output.fileno(),
            f"{break_}--- {stamp} starting: {shlex.join(redact_argv(spec.argv))}\n".encode(errors="replace"),
        )
