"""Hand the changes of one server to the database and to the pages, without ever delaying supervision."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.core.changes import RunClosed, RunOpened, RunReady

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervisor_app.core.changes import Change
    from supervisor_app.core.ports import Clock, Publisher, Store
    from supervisor_app.core.status import LlamaStatus

log = logging.getLogger(__name__)

STORE_RETRY_SECONDS = 1.0
REST, LONGEST_REST = 4, 0.1
"""Pause after a save, in units of the time that it took, and its seconds at most.

In a swap each of two servers changes five times within 0.2 s: every save, and the push and the reads that
follow it, has the loading server wait for a core.
"""
GATHER_SECONDS = 0.03
"""Time for other changes to join one that is no history: a start has three before it spawns anything, an
eviction two before its process ends.
"""
HISTORY = (RunOpened, RunReady, RunClosed)
"""Events without which the next supervisor would not know which process is the server's."""
PUBLISH_ANYWAY_SECONDS = 0.25
"""Longest delay of a push, also while the database is locked."""


class Recorder:
    """Three loops, one that saves, one that publishes, and one that announces to the gateways.

    The supervisor only submits a change and goes on, and the gateways do not wait for the save. If several
    snapshots wait, only the newest is saved and published; run events wait in order and none is ever dropped.
    A database that fails is tried again every second with all that has come since.
    """

    def __init__(self, *, store: Store, publisher: Publisher, clock: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._unsaved: Change | None = None
        self._unpublished: LlamaStatus | None = None
        self._newest: LlamaStatus
        self._saving = False
        self._publishing = False
        self._outage = Outage(
            log,
            "❌ [STORE] {reason}. Supervision goes on; the state is saved as soon as it can be.",
            "✅ [STORE] The database answers again, the state is saved",
            level=logging.ERROR,
        )
        self._save_due = asyncio.Event()
        self._hurry = asyncio.Event()
        """A change is history, or somebody waits for the save."""
        self._publish_due = asyncio.Event()
        self._announce_due = asyncio.Event()
        self._progress = asyncio.Condition()

    def submit(self, change: Change) -> None:
        """Queue a change. Never waits."""
        self._unsaved = _merge(self._unsaved, change)
        self._unpublished = self._newest = change.snapshot
        self._announce_due.set()
        if any(isinstance(event, HISTORY) for event in change.run_events):
            self._hurry.set()
        self._save_due.set()
        self._publish_due.set()

    async def run(self) -> None:
        """Save, publish and announce until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_saving(), name="save")
            group.create_task(self._keep_publishing(), name="publish")
            group.create_task(self._keep_announcing(), name="announce")

    async def flush(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until all is saved and published; False when `timeout` seconds were not enough."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(self._idle)
        except TimeoutError:
            return False
        return True

    async def saved(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until all is saved; False when `timeout` seconds were not enough."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(self._is_saved)
        except TimeoutError:
            return False
        return True

    def _is_saved(self) -> bool:
        return not (self._unsaved or self._saving)

    def _idle(self) -> bool:
        return self._is_saved() and not (self._unpublished or self._publishing)

    async def _keep_saving(self) -> None:
        while True:
            await self._save_due.wait()
            await self._first_of(GATHER_SECONDS, self._hurry.wait())
            self._save_due.clear()
            self._hurry.clear()
            change, self._unsaved = self._unsaved, None
            self._saving = change is not None
            began = self._clock.monotonic()
            if change is not None and not await self._save(change):
                self._unsaved = _merge(change, self._unsaved)
                self._save_due.set()
                await self._clock.sleep_until(self._clock.monotonic() + STORE_RETRY_SECONDS)
                continue
            self._saving = False
            await self._tell()
            now = self._clock.monotonic()
            await self._clock.sleep_until(now + min(REST * (now - began), LONGEST_REST))

    async def _save(self, change: Change) -> bool:
        try:
            await self._store.save(change)
        except StoreError as error:
            self._outage.failed(error)
            return False
        self._outage.over()
        return True

    async def _keep_announcing(self) -> None:
        while True:
            await self._announce_due.wait()
            self._announce_due.clear()
            await self._publisher.announce(self._newest)

    async def _keep_publishing(self) -> None:
        while True:
            await self._publish_due.wait()
            self._publish_due.clear()
            await self._wait_for_save()
            snapshot, self._unpublished = self._unpublished, None
            self._publishing = snapshot is not None
            if snapshot is not None:
                await self._publisher.publish(snapshot)
            self._publishing = False
            await self._tell()

    async def _wait_for_save(self) -> None:
        """Let a quick save go first: then a page that loads right now is not older than the push."""
        if not self._is_saved():
            await self._first_of(PUBLISH_ANYWAY_SECONDS, self._progressed(self._is_saved))

    async def _progressed(self, done: Callable[[], bool]) -> None:
        async with self._progress:
            await self._progress.wait_for(done)

    async def _first_of(self, seconds: float, other: Coroutine[Any, Any, object]) -> None:
        """Wait for one thing, and so long at most."""
        alarm = asyncio.create_task(self._clock.sleep_until(self._clock.monotonic() + seconds))
        waiting = asyncio.create_task(other)
        try:
            await asyncio.wait((alarm, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            waiting.cancel()

    async def _tell(self) -> None:
        async with self._progress:
            self._progress.notify_all()


def _merge(older: Change | None, newer: Change | None) -> Change | None:
    """Return the newer state, with the run events and spans of both in order."""
    if older is None or newer is None:
        return older or newer
    return replace(newer, run_events=older.run_events + newer.run_events, spans=older.spans + newer.spans)
