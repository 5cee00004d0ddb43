"""Wake a server's supervisor for its events, each in its turn, and for its deadlines."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.core.lifecycle import Event
    from supervisor_app.core.ports import Clock
    from supervisor_app.core.seat import Seat

PULSE_SECONDS = 1.0
"""Pause between two moments in which we see that we run, while there is a process."""
GAP_SECONDS = 2.0
"""Later than planned by more than this: we were stopped, frozen or starved, perhaps the server with us."""


class Wakes:
    """Queue of the events of one server, and its alarm."""

    def __init__(self, clock: Clock) -> None:
        self.missed = 0.0
        """Seconds in which we did not run, seen at the last wake-up; 0 when that came in time."""
        self._clock = clock
        self._events: asyncio.Queue[tuple[Seat | None, Event]] = asyncio.Queue()
        self._next: asyncio.Task[tuple[Seat | None, Event]]
        self._woken_at = 0.0

    def put(self, event: Event, seat: Seat | None = None) -> None:
        """Queue an event of a seat; None: of the server's own process."""
        self._events.put_nowait((seat, event))

    @property
    def empty(self) -> bool:
        return self._events.empty()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Wait for events in here: gaps count from now on."""
        self._woken_at = self._clock.monotonic()
        self._next = asyncio.create_task(self._events.get())
        try:
            yield
        finally:
            self._next.cancel()

    async def wait(self, due: float | None, *, pulse: bool) -> None:
        """Wait until an event is there or `due` (monotonic seconds) has come.

        `pulse`: there is a process. So wake once a second: a much longer pause means that we did not run.
        """
        if pulse:
            due = min(self._clock.monotonic() + PULSE_SECONDS, due or inf)
        waiting: set[asyncio.Task[Any]] = {self._next}
        if due is not None:
            waiting.add(asyncio.create_task(self._clock.sleep_until(due)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for alarm in waiting - {self._next}:
                alarm.cancel()
        before, self._woken_at = self._woken_at, self._clock.monotonic()
        slept = self._woken_at - before
        self.missed = slept if pulse and slept > PULSE_SECONDS + GAP_SECONDS else 0.0

    def take(self) -> tuple[Seat | None, Event] | None:
        """Return the event that is there, with its seat; None when it was the alarm that woke us."""
        if not self._next.done():
            return None
        taken = self._next.result()
        self._next = asyncio.create_task(self._events.get())
        return taken
