"""The way of a change to the database and to the pages."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest

from supervisor_app.core.changes import Change, RunReady
from supervisor_app.core.recorder import GATHER_SECONDS, LONGEST_REST, PUBLISH_ANYWAY_SECONDS, Recorder
from supervisor_app.core.status import LlamaStatus
from supervisor_app.core.testing import FakeClock, InMemoryStore, RecordingPublisher, settle
from tests.deadline import DEADLINE


def change(version: int, *events) -> Change:
    return Change(
        snapshot=LlamaStatus(name="default", version=version),
        identity=None,
        generation=0,
        run_events=tuple(RunReady(at=event) for event in events),
    )


@asynccontextmanager
async def recording(store=None):
    store, publisher, clock = store or InMemoryStore(), RecordingPublisher(), FakeClock()
    recorder = Recorder(store=store, publisher=publisher, clock=clock)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder, store, publisher, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_change_is_saved_and_published():
    async with recording() as (recorder, store, publisher, _):
        recorder.submit(change(1))
        assert await recorder.flush(5)
        assert [saved.snapshot.version for saved in store.changes] == [1]
        assert [snapshot.version for snapshot in publisher.snapshots] == [1]


async def test_changes_that_are_no_history_are_saved_and_published_together():
    async with recording() as (recorder, store, publisher, clock):
        recorder.submit(change(1))
        await clock.advance(GATHER_SECONDS / 2)
        recorder.submit(change(2))
        await settle()
        assert (store.changes, publisher.snapshots) == ([], [])
        assert [snapshot.version for snapshot in publisher.announced] == [1, 2]
        await clock.advance(GATHER_SECONDS / 2)
        assert [saved.snapshot.version for saved in store.changes] == [2]
        assert [snapshot.version for snapshot in publisher.snapshots] == [2]


async def test_history_waits_for_no_other_change():
    async with recording() as (recorder, store, _, _):
        recorder.submit(change(1))
        await settle()
        assert store.changes == []
        recorder.submit(change(2, 2))
        await settle()
        assert [saved.snapshot.version for saved in store.changes] == [2]


async def test_a_change_that_somebody_needs_saved_does_not_wait_for_others():
    async with recording() as (recorder, store, _, _):
        recorder.submit(change(1))
        assert await recorder.saved(5)
        assert [saved.snapshot.version for saved in store.changes] == [1]


async def test_gateways_hear_of_a_change_that_cannot_be_saved_yet():
    async with recording(InMemoryStore(down=True)) as (recorder, _, publisher, _):
        recorder.submit(change(1))
        await settle()
        assert [snapshot.version for snapshot in publisher.announced] == [1]
        assert publisher.snapshots == []


async def test_a_burst_saves_the_newest_snapshot_and_every_run_event():
    async with recording() as (recorder, store, publisher, _):
        for version in range(1, 6):
            recorder.submit(change(version, version))
        assert await recorder.flush(5)
        assert store.changes[-1].snapshot.version == 5
        assert [event.at for saved in store.changes for event in saved.run_events] == [1, 2, 3, 4, 5]
        assert publisher.snapshots[-1].version == 5
        assert len(publisher.snapshots) < 5


async def test_while_the_database_is_away_pages_are_told_and_nothing_is_lost(caplog):
    caplog.set_level(logging.INFO)
    async with recording(InMemoryStore(down=True)) as (recorder, store, publisher, clock):
        recorder.submit(change(1, 1.0))
        await clock.advance(PUBLISH_ANYWAY_SECONDS)
        assert [snapshot.version for snapshot in publisher.snapshots] == [1]
        recorder.submit(change(2, 2.0))
        await clock.advance(3)
        assert store.changes == []
        store.down = False
        await clock.advance(2)
        assert await recorder.flush(5)
        assert store.changes[-1].snapshot.version == 2
        assert [event.at for saved in store.changes for event in saved.run_events] == [1.0, 2.0]
        said = [record.message for record in caplog.records if "[STORE]" in record.message]
        assert len(said) == 2, "once when it fails, once when it is back"


class SlowlyFailingStore(InMemoryStore):
    """Its calls wait for `answers` before they fail, as those of a database that is away do."""

    def __init__(self) -> None:
        super().__init__(down=True)
        self.answers = asyncio.Event()

    async def save(self, saved: Change) -> None:
        await self.answers.wait()
        await super().save(saved)


async def test_changes_during_a_failing_save_are_saved_after_it():
    store = SlowlyFailingStore()
    async with recording(store) as (recorder, _, _, clock):
        recorder.submit(change(1, 1))
        await settle()
        recorder.submit(change(2, 2))
        store.answers.set()
        await settle()
        store.down = False
        await clock.advance(5)
        (saved,) = store.changes
        assert saved.snapshot.version == 2, "the newer one"
        assert [event.at for event in saved.run_events] == [1, 2]


async def test_changes_soon_after_a_save_are_saved_together():
    store = InMemoryStore()
    async with recording(store) as (recorder, _, publisher, clock):
        save = store.save

        async def slow(change):
            await clock.sleep_until(clock.monotonic() + 0.01)
            await save(change)

        store.save = slow
        recorder.submit(change(1, 1))
        await clock.advance(0.01)
        for version in (2, 3):
            recorder.submit(change(version, version))
            await clock.advance(0.01)
        assert [snapshot.version for snapshot in publisher.announced] == [1, 2, 3]
        assert [saved.snapshot.version for saved in store.changes] == [1]
        await clock.advance(LONGEST_REST)
        assert [saved.snapshot.version for saved in store.changes] == [1, 3]
        assert [event.at for event in store.changes[-1].run_events] == [2, 3]
        assert [snapshot.version for snapshot in publisher.snapshots] == [1, 3]


async def test_flush_gives_up_in_time():
    async with recording(InMemoryStore(down=True)) as (recorder, *_):
        recorder.submit(change(1))
        assert not await recorder.flush(0.05)
        assert not await recorder.saved(0.05)


async def test_flush_of_nothing_is_immediate():
    async with recording() as (recorder, *_):
        await settle()
        assert await recorder.flush(1)


async def test_a_bug_in_the_store_is_raised():
    class Broken(InMemoryStore):
        async def save(self, change):
            raise RuntimeError("bug")

    recorder = Recorder(store=Broken(), publisher=RecordingPublisher(), clock=FakeClock())
    recorder.submit(change(1, 1))
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(recorder.run(), DEADLINE)
