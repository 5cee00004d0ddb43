"""Takes records from the event loop to the database, without ever holding it up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from django.db import DataError, IntegrityError

from supervisor_app.common.database import DatabaseThread
from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.common.words import MISTAKE
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.gateway.edge import idleness, ledger, retention
from supervisor_app.gateway.records.record import LONGEST_NAME, Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from supervisor_app.core.ports import Clock

log = logging.getLogger(__name__)

CAPACITY = 50_000
"""Records that may wait, about 25 MB, or 110 if clients make up the longest names; beyond that the oldest are
dropped. At 20 000 requests/s they bridge the seconds that another writer, a checkpoint or a restart of
PostgreSQL takes.
"""
WORDS_CAPACITY = 2_000
"""Number of waiting records from which on prompts and answers are not kept: each may have 64 kB."""
FLUSH_SECONDS = 1.0
USE_SECONDS = 2.0
"""Pause between two notes that a server is in use. `idleness.USE_SLACK_SECONDS` counts on them."""
PRUNE_SECONDS = 3600.0
CUTS = 50
"""Portions of rows beyond `retention.KEEP_ROWS` that are deleted in one round: more than it writes."""
REST = 1
"""Pause after a batch, in units of the time it took: other writers get at the database, too."""
CLOSE_SECONDS = 5.0
"""Time for the last records at the end."""


class Publish(Protocol):
    """Writes down what is in flight, where that has changed."""

    def __call__(self, database: DatabaseThread, *, is_over: bool) -> Awaitable[None]: ...


class RecordWriter:
    """Made and used in one event loop: `start`, then `put` for each request, `aclose` at the end.

    It also keeps `ServerUse` fresh and the records pruned. `in_use` names the servers that are working on
    something now; `publish` writes down what is in flight, where that has changed.
    """

    def __init__(
        self,
        *,
        in_use: Callable[[], Iterable[str]] = tuple,
        publish: Publish | None = None,
        clock: Clock | None = None,
        flush_seconds: float = FLUSH_SECONDS,
        keep_days: float = retention.KEEP_DAYS,
    ) -> None:
        self.dropped = 0
        """Records lost since the start: too many waited, or no database would take them."""
        self._in_use = in_use
        self._publish = publish
        self._clock = clock or SystemClock()
        self._flush_seconds = flush_seconds
        self._keep_days = keep_days
        self._waiting: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._used: set[str] = set()
        self._touched: dict[str, float] = {}
        """Time at which each server's use was noted last, in monotonic seconds."""
        self.prune_at = 0.0
        """Monotonic seconds of the next pruning; 0: old rows are still being pruned."""
        self._is_over = True
        """True while there may be more rows than are kept."""
        self._outage = Outage(
            log,
            "⚠️ [GATEWAY] {reason}. The records of requests wait until it is back.",
            "✅ [GATEWAY] The records of requests are written again",
        )
        self._mistakes = Outage(
            log,
            f"❌ [GATEWAY] {MISTAKE}. Requests are still answered.",
            None,
            level=logging.ERROR,
        )
        self._forgetful = False
        self._leaving = False
        self._database: DatabaseThread | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._database = DatabaseThread("gateway-records")
        self._task = asyncio.create_task(self._work(self._database), name="gateway-records")

    def put(self, record: Record) -> None:
        """Take a record without waiting or raising. Long names are cut to what will be written."""
        record.model, record.route = record.model[:LONGEST_NAME], record.route[:LONGEST_NAME]
        if record.counts_as_use and record.outcome is not Outcome.REFUSED:
            self._used.add(record.server)
        if record.captured_request is not None and len(self._waiting) >= WORDS_CAPACITY:
            self._forget_words(record)
        if len(self._waiting) >= CAPACITY:
            self._waiting.popleft()
            self._lose(1, "more requests come than the database takes")
        self._waiting.append(record)
        if len(self._waiting) == ledger.WRITE_ROWS and not self._outage.lasts:
            self._wake.set()

    @property
    def is_failing(self) -> bool:
        """Has the last write failed?"""
        return self._outage.lasts

    async def aclose(self) -> None:
        """Writes what waits, for `CLOSE_SECONDS` at most."""
        if self._task is None or self._database is None:
            return
        self._leaving = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._task
        self._database.close()
        if self._waiting:
            self._lose(len(self._waiting), "the database did not take them before the end")

    async def _work(self, database: DatabaseThread) -> None:
        while not self._leaving:
            await self._pause()
            await self._round(database)
        await self._round(database)  # for what came during the last one

    async def _round(self, database: DatabaseThread) -> None:
        try:
            await self._write_all(database)
            await self._chores(database)
        except StoreError as error:
            self._outage.failed(error)
        except Exception as error:
            self._mistakes.failed(error)
        else:
            self._outage.over()
            self._mistakes.over()

    async def _pause(self) -> None:
        """A second, or until a batch is full."""
        self._wake.clear()
        if len(self._waiting) >= ledger.WRITE_ROWS and not self._outage.lasts:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._flush_seconds):
                await self._wake.wait()

    async def _write_all(self, database: DatabaseThread) -> None:
        """All that waits now: what comes meanwhile is left to fill a batch of its own.

        One record that no database would take must not keep the others from being written: batches get
        smaller until it is alone.
        """
        due, rows = len(self._waiting), ledger.WRITE_ROWS
        while due > 0 and self._waiting:
            began = self._clock.monotonic()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), rows))]
            if await self._write(database, batch):
                due -= len(batch)
                rows = min(rows * 2, ledger.WRITE_ROWS)
            else:
                rows = len(batch) // 2
            if not self._leaving:
                took = self._clock.monotonic() - began
                await asyncio.sleep(min(REST * took, self._flush_seconds))

    async def _write(self, database: DatabaseThread, batch: list[Record]) -> bool:
        """Write a batch. False: it has to wait again. Raises StoreError while the database is away."""
        try:
            await database.call(partial(ledger.write, batch))
        except (Exception, asyncio.CancelledError) as error:
            refused = _is_refusal(error)
            if refused and len(batch) == 1:
                self._lose(1, f"the database refused one: {error}")
                return True
            self._waiting.extendleft(reversed(batch))
            if not refused:
                raise
            return False
        self._is_over = True
        return True

    async def _chores(self, database: DatabaseThread) -> None:
        if self._publish is not None:
            await self._publish(database, is_over=self._leaving)
        now = self._clock.monotonic()
        used = {*self._used, *self._in_use()} - {""}
        due = {name for name in used if now - self._touched.get(name, -USE_SECONDS) >= USE_SECONDS}
        if due:
            await database.call(partial(idleness.touch_use, due, self._clock.time()))
            self._touched.update(dict.fromkeys(due, now))
        self._used -= due
        for _ in range(CUTS):
            if self._is_over and not self._leaving:
                self._is_over = await database.call(retention.cut)
        if now >= self.prune_at and not self._leaving:
            pruned = await database.call(partial(retention.prune, self._clock.time(), self._keep_days))
            if not pruned:
                self.prune_at = now + PRUNE_SECONDS

    def _forget_words(self, record: Record) -> None:
        if not self._forgetful:
            log.warning("⚠️ [GATEWAY] So many requests wait to be recorded that what they say is not kept.")
        self._forgetful = True
        record.captured_request = record.captured_answer = None
        record.captured_request_head = record.captured_answer_head = None

    def _lose(self, count: int, why: str) -> None:
        if not self.dropped:
            log.warning("⚠️ [GATEWAY] Requests are answered but not all are recorded: %s.", why)
        self.dropped += count


def _is_refusal(error: BaseException) -> bool:
    """Tell whether the database refused a record, so that trying again would not help."""
    if isinstance(error, StoreError):
        return isinstance(error.__cause__, DataError | IntegrityError)
    return not isinstance(error, asyncio.CancelledError)
