"""The course of a change of a server's configuration, from the moment that it is made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from supervisor_app.core.status import DOWN, Status

if TYPE_CHECKING:
    from supervisor_app.core.status import LlamaStatus


class Step(StrEnum):
    """Step of a change on its way into force."""

    RESTARTING = "restarting"
    READY = "ready"
    IN_FORCE = "in force"
    """No restart was needed."""
    FAILED = "failed"
    WAITS = "waits"
    """The change holds from the next start."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Course of the newest version."""

    step: Step
    since: float | None = None
    """Unix seconds, where it is ready."""
    why: str = ""
    """Words of the server's status, where it is not ready."""


def course_of(status: LlamaStatus, *, is_to_run: bool, runs_it: bool, changed_at: float) -> Course | None:
    """Return where a change of `changed_at` (Unix seconds) is; None: what happens is not about it.

    `runs_it`: the newest process was launched with it.
    """
    if not is_to_run or status.unloaded:
        return Course(step=Step.WAITS)
    if status.status in DOWN:
        why = status.failure.title if status.failure else status.detail
        return Course(step=Step.FAILED, why=why.rstrip(".")) if status.can_roll_back else None
    if status.status is not Status.READY or not runs_it:
        return Course(step=Step.RESTARTING, why=status.detail)
    if (status.started_at or 0) < changed_at:
        return Course(step=Step.IN_FORCE)
    return Course(step=Step.READY, since=status.ready_at)
