"""Wake a server's supervisor for its events, each in its turn, and for its deadlines."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle import Event
    from supervisor_app.core.ports import Clock
    from supervisor_app.core.seat import Seat

PULSE_SECONDS = 1.0
"""Pause between two moments in which we see that we run, while there is a process."""
GAP_SECONDS = 2.0
"""Later than planned by more than this: we were stopped, frozen or starved, perhaps the server with us."""


class Wakes:
    """Queue of the events of one server, and its alarm.

    Neither is a task: of many servers that idle, the tasks for each second would cost more than all else.
    """

    def __init__(self, clock: Clock) -> None:
        self.missed = 0.0
        """Seconds in which we did not run, seen at the last wake-up; 0 when that came in time."""
        self._clock = clock
        self._events: deque[tuple[Seat | None, Event]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._woken_at = 0.0

    def put(self, event: Event, seat: Seat | None = None) -> None:
        """Queue an event of a seat; None: of the server's own process."""
        self._events.append((seat, event))
        self._wake()

    @property
    def empty(self) -> bool:
        return not self._events

    def begin(self) -> None:
        """Count gaps from now on."""
        self._woken_at = self._clock.monotonic()

    async def wait(self, due: float | None, *, pulse: bool) -> None:
        """Wait until an event is there or `due` (monotonic seconds) has come.

        `pulse`: there is a process. So wake once a second: a much longer pause means that we did not run.
        """
        if pulse:
            due = min(self._clock.monotonic() + PULSE_SECONDS, due or inf)
        if self._events:
            await asyncio.sleep(0)  # others have their turn between two events
        else:
            await self._sleep(due)
        before, self._woken_at = self._woken_at, self._clock.monotonic()
        slept = self._woken_at - before
        self.missed = slept if pulse and slept > PULSE_SECONDS + GAP_SECONDS else 0.0

    async def _sleep(self, due: float | None) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        alarm = None if due is None else self._clock.call_at(due, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> tuple[Seat | None, Event] | None:
        """Return the event that is there, with its seat; None when it was the alarm that woke us."""
        return self._events.popleft() if self._events else None
