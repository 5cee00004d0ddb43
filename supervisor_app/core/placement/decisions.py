"""Answers of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.core.placement.reasons import Reason


@dataclass(frozen=True)
class Start:
    """All that it needs is free now."""

    name: str
    remark: Reason | None = None
    """Doubt that people should read: nobody knows what it needs, or an estimate says that it is too large."""


@dataclass(frozen=True)
class Evict:
    """Take no new requests for it, let those in flight finish, and end it. From then on it stands as leaving.

    Only under `Policy.max_wait_for_busy_seconds` it may be busy.
    """

    name: str
    for_: str
    """Server that gets the room."""


@dataclass(frozen=True)
class Wait:
    """A server that may fit later; ask again with each change, and at `Plan.again_at`."""

    name: str
    reason: Reason


@dataclass(frozen=True)
class Refuse:
    """A server that cannot fit, even if all went that may go: pinned servers and strangers stay."""

    name: str
    reason: Reason


Decision = Start | Evict | Wait | Refuse


@dataclass(frozen=True)
class Plan:
    decisions: tuple[Decision, ...]
    """Exactly one of start, wait and refuse for each demand, and any number of evictions."""
    again_at: float | None
    """Next moment at which time alone may change the answer; None: none."""
