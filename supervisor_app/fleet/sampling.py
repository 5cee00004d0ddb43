"""Sampling of the servers of a node while they run: looked at each second, written in batches in a thread.

Nothing here asks a server anything: the figures are those that the watchdog and the gateways know. Slots are
looked at every two seconds and no more often, because a server that is asked each second does not notice that
a client has left (`core.watch.watchdog`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from supervisor_app.common.database import DatabaseThread
from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.common.words import MISTAKE
from supervisor_app.fleet import sample_record
from supervisor_app.fleet.course import FRESH_SECONDS, Course, Passed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor_app.core.vitals import Vitals
    from supervisor_app.fleet.sample_rules import Figures

log = logging.getLogger(__name__)

PULSE_SECONDS = 2.0
"""Pause between two writes of what servers do now, while any of them works."""
FLUSH_SECONDS = 15.0
"""Pause between two batches; a supervisor that is killed loses one."""
MOST = 20_000
"""Samples that wait for the database at most: ten minutes of thirty servers that work."""
NOTHING = Passed()

Batch = dict[str, list[tuple[int, "Figures"]]]


class Sampler:
    """Looks each second, for one event loop. `run` until cancelled, then `close`."""

    def __init__(
        self,
        node: str,
        look: Callable[[], Mapping[str, Vitals]],
        passed: Callable[[], Mapping[str, Passed]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`look`: vital signs of the servers that run. `passed` asks the database, blocking.

        `clock` in Unix seconds.
        """
        self._node = node
        self._look = look
        self._clock = clock
        self._passed = passed
        self._courses: dict[str, Course] = {}
        self._waiting: deque[tuple[str, int, Figures]] = deque()
        """Samples that a batch has left behind, in the order of their times."""
        self._pulses: set[str] = set()
        """Servers that worked when they were written down last."""
        self._pulsed_at = self._rolled_at = 0.0
        self._flushed_at = clock()
        self._reader, self._writer = DatabaseThread("samples-read"), DatabaseThread("samples-write")
        self._writing: asyncio.Task[None] | None = None
        self._known: Mapping[str, Passed] = {}
        self._outage = Outage(
            log,
            "⚠️ [SAMPLES] {reason}. Figures wait until it is back; the oldest are dropped if that takes long.",
            "✅ [SAMPLES] Figures are written again",
        )
        self._mistakes = Outage(
            log, f"❌ [SAMPLES] {MISTAKE}. Servers are supervised all the same.", None, level=logging.ERROR
        )

    async def run(self) -> None:
        """Sample until cancelled. A lack of connections shows at the start, not with the first batch."""
        for thread in (self._reader, self._writer):
            with suppress(StoreError):  # the first step says so
                await thread.connect()
        while True:
            await self.step()
            await asyncio.sleep(1.0 - self._clock() % 1.0)

    async def step(self) -> None:
        """Look once. A mistake is told, and the next second is another one."""
        try:
            await self.tick()
        except Exception as error:
            self._mistakes.failed(error)

    @property
    def is_idle(self) -> bool:
        """Is nothing being written?"""
        return self._writing is None or self._writing.done()

    async def tick(self) -> None:
        """Look once; have written what is due, without waiting for that."""
        now = self._clock()
        vitals = {name: each for name, each in self._look().items() if now - each.at < FRESH_SECONDS}
        if vitals:
            try:
                self._known = await self._reader.call(self._passed)
            except StoreError as error:
                self._outage.failed(error)
        for name in self._courses.keys() - vitals.keys():
            self._end(name)
        for name, each in vitals.items():
            course = self._courses.setdefault(name, Course())
            course.take(now, each, self._known.get(name, NOTHING))
        if self.is_idle:
            self._writing = asyncio.create_task(self.write(now), name="samples")

    async def write(self, now: float) -> None:
        """Write what is due."""
        try:
            await self._pulse(now)
            await self._flush(now)
        except StoreError as error:
            self._outage.failed(error)
        except Exception as error:
            self._mistakes.failed(error)

    async def _save(self, work: Callable[[], None]) -> None:
        """Raises StoreError."""
        await self._writer.call(work)
        self._outage.over()
        self._mistakes.over()

    async def _pulse(self, now: float) -> None:
        """Write what servers do that work, and once more when they cease to."""
        if 0 <= now - self._pulsed_at < PULSE_SECONDS:
            return
        self._pulsed_at = now
        working = {name for name, course in self._courses.items() if course.works}
        pulses: dict[str, tuple[list[dict[str, Any]], list[tuple[int, Figures]]]] = {
            name: (course.pulse(), list(course.samples))
            for name in working | self._pulses
            for course in [self._courses.get(name, Course())]
        }
        if pulses:
            await self._save(lambda: sample_record.write_pulses(self._node, pulses))
            self._pulses = working

    async def _flush(self, now: float) -> None:
        if 0 <= now - self._flushed_at < FLUSH_SECONDS:
            return
        self._flushed_at = now
        self._collect()
        due, batch = len(self._waiting), self._batch()
        if batch:
            await self._save(lambda: sample_record.write(self._node, batch))
            for _ in range(due):
                self._waiting.popleft()
        if now // 60 != self._rolled_at // 60:
            self._rolled_at = now
            await self._save(lambda: sample_record.roll_up(self._node, now))

    def _collect(self) -> None:
        """Take the samples of all courses, and drop the oldest beyond `MOST`."""
        for name, course in self._courses.items():
            self._waiting.extend((name, at, figures) for at, figures in course.samples)
            course.samples.clear()
        while len(self._waiting) > MOST:
            self._waiting.popleft()

    def _batch(self) -> Batch:
        batch = Batch()
        for name, at, figures in self._waiting:
            batch.setdefault(name, []).append((at, figures))
        return batch

    def _end(self, name: str) -> None:
        """Forget a server that runs no more, but not its last samples."""
        course = self._courses.pop(name)
        self._waiting.extend((name, at, figures) for at, figures in course.samples)

    def close(self) -> None:
        """Write what waits, if that does not take long."""
        if self._writing is not None:
            self._writing.cancel()
        self._collect()
        batch = self._batch()
        self._writer.close((lambda: sample_record.write(self._node, batch)) if batch else None)
        self._reader.close()
