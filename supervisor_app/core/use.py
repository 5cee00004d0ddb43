"""Note the use of a server: its right to room in memory depends on that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.lifecycle import ActivitySeen, Event, Phase, State

if TYPE_CHECKING:
    from supervisor_app.core.ports import Clock

UNTOLD = frozenset({Phase.WAITING, Phase.READING_MODELS, Phase.ENDING})
"""Phases whose begin changes nothing for those who wait for room."""


class Use:
    """Moments of one server, in monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self.ready_since: float | None = None
        """Moment since which it is ready; None: it is not."""
        self.last_used = clock.monotonic()
        """Moment of the last sign of a request, or at which it got ready."""
        self._clock = clock

    def used(self) -> None:
        """Note a sign of a request."""
        self.last_used = self._clock.monotonic()

    def instated(self, state: State) -> None:
        """Note that another process, in this state, has become the server's own."""
        self.ready_since = self._clock.monotonic() if state.phase is Phase.SERVING else None

    def follow(self, before: State, state: State, event: Event) -> None:
        """Note what a step of the server's own process says of its use."""
        serves = state.phase is Phase.SERVING
        if serves and before.phase is not Phase.SERVING:
            self.ready_since = self.last_used = self._clock.monotonic()
        elif not serves:
            self.ready_since = None
        elif isinstance(event, ActivitySeen) and not event.activity.quiet:
            self.used()


def concerns_room(before: State, state: State, *, beside: bool) -> bool:
    """Return whether a step changes something for those who wait for room.

    `beside`: the process is not the server's own. Each of its phases may free room or need some.
    """
    moved_on = state.phase is not before.phase
    if beside:
        return moved_on
    return (moved_on and state.phase not in UNTOLD) or (state.gone and not before.gone)
