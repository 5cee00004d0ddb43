"""Time by state: the states of its spans, and when a new one begins. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from supervisor_app.core.status import DOWN, FailureKind, Status

if TYPE_CHECKING:
    from supervisor_app.core.status import Failure


class SpanState(StrEnum):
    """State of a server for some time, the worst first: a slice of a bar shows the worst of its states."""

    CRASHED = "crashed"
    """Down against somebody's wish: between two tries, or given up."""
    HUNG = "hung"
    """Down because its work did not move."""
    UNKNOWN = "unknown"
    """Nobody supervised it, and its process did not live through that time."""
    STARTING = "starting"
    MAINTENANCE = "maintenance"
    STOPPED = "stopped"
    """Stopped by people, or with its supervisor."""
    UNLOADED = "unloaded"
    """No process until somebody asks: stopped for idleness, or to make room for another server."""
    READY = "ready"


@dataclass(frozen=True, kw_only=True)
class SpanBegan:
    """A server is in another state from now on."""

    at: float
    """Unix seconds."""
    state: SpanState
    down: bool = False
    """The time counts as downtime: it is not ready, because of a failure."""
    reason: str = ""
    """Title of that failure."""
    unknown_since: float | None = None
    """Unix seconds of the last look of the supervisor before: nobody knows what was between then and now."""


def span_of(status: Status, failure: Failure | None, *, unloaded: bool, at: float) -> SpanBegan:
    """Return the span that a status means, if it began at this moment, in Unix seconds.

    `failure`: of the last run, until the next one is ready; so a start after a failure is downtime.
    `unloaded`: the server has no process, or soon has none, until somebody asks for it.
    """
    reason = failure.title if failure is not None else ""
    if status is Status.READY:
        return SpanBegan(at=at, state=SpanState.READY)
    if status is Status.STARTING:
        return SpanBegan(at=at, state=SpanState.STARTING, down=bool(reason), reason=reason)
    if status in DOWN:
        hung = failure is not None and failure.kind is FailureKind.HUNG
        found = SpanState.HUNG if hung else SpanState.CRASHED
        return SpanBegan(at=at, state=found, down=True, reason=reason)
    return SpanBegan(at=at, state=SpanState.UNLOADED if unloaded else SpanState.STOPPED)


@dataclass
class SpanLog:
    """The span of one server that was told last, so that only changes are."""

    seen_at: float | None = None
    """Unix seconds of the last supervisor's last look; None: there was none."""
    resumed: bool = False
    """The process on record lives on: until more is known, it is what it was."""
    ended_unseen: bool = False
    """The process on record has ended, and nobody saw when."""
    down_since: float | None = None
    """Unix seconds at which it went down, or could not be started, and was not ready since; None: neither."""
    _told: tuple[SpanState, bool, str] | None = field(default=None, init=False)

    def follow(
        self, status: Status, failure: Failure | None, *, unloaded: bool, now: float
    ) -> SpanBegan | None:
        """Return the span that begins; None: the last one goes on. `now` in Unix seconds."""
        if self.resumed and status is Status.STARTING:
            return None
        self.resumed = False
        began = span_of(status, failure, unloaded=unloaded, at=now)
        if began.down:
            self.down_since = now if self.down_since is None else self.down_since
        elif began.state is not SpanState.STARTING:  # another try alone does not end it
            self.down_since = None
        known = (began.state, began.down, began.reason)
        if known == self._told:
            return None
        self._told = known
        if not self.ended_unseen:
            return began
        self.ended_unseen = False
        return replace(began, unknown_since=self.seen_at)
