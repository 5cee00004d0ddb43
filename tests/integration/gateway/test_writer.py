"""Records on their way to the database, in batches for which nobody waits."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from supervisor_app.gateway.edge import ledger
from supervisor_app.gateway.edge.writer import RecordWriter
from tests.integration.building import STARTED, db, make_record
from tests.integration.gateway.record_writing import NEVER, kept, numbered, put_all, until_kept, writing

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_record_is_written_within_a_moment():
    async with writing() as taking:
        for record in numbered(3):
            taking.put(record)
        await until_kept([0, 1, 2])
        taking.put(make_record(at=STARTED + 3))
        await until_kept([0, 1, 2, 3])


async def test_a_full_batch_does_not_wait_for_its_second(monkeypatch):
    monkeypatch.setattr(ledger, "WRITE_ROWS", 5)
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(5):
            taking.put(record)
        await until_kept([0, 1, 2, 3, 4])


async def test_no_batch_is_larger_than_allowed(monkeypatch):
    sizes, real = [], ledger.write

    def write(records):
        sizes.append(len(records))
        real(records)

    monkeypatch.setattr(ledger, "WRITE_ROWS", 4)
    monkeypatch.setattr(ledger, "write", write)
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(10):
            taking.put(record)
        await until_kept([*range(10)])
    assert sizes == [4, 4, 2]


@pytest.fixture
def meanwhile(monkeypatch):
    """Calls something in the event loop while the first batch, of four, is written. Returns all their sizes."""
    calls, sizes, real = [], [], ledger.write

    def write(records):
        sizes.append(len(records))
        while calls:
            loop, call = calls.pop()
            loop.call_soon_threadsafe(call)
        real(records)

    monkeypatch.setattr(ledger, "WRITE_ROWS", 4)
    monkeypatch.setattr(ledger, "write", write)

    def during_the_first(call):
        calls.append((asyncio.get_running_loop(), call))
        return sizes

    return during_the_first


async def test_records_that_come_while_a_batch_is_written_wait_until_they_fill_one(meanwhile):
    over = asyncio.Event()

    def in_use():
        over.set()
        return []

    async with writing(flush_seconds=NEVER, in_use=in_use) as taking:
        sizes = meanwhile(partial(put_all, taking, numbered(7)[4:]))
        put_all(taking, numbered(4))
        await over.wait()
        assert sizes == [4]
        put_all(taking, numbered(8)[7:])
        await until_kept([*range(8)])
    assert sizes == [4, 4]


async def test_a_batch_filled_while_another_was_written_does_not_wait_for_its_second(meanwhile):
    async with writing(flush_seconds=NEVER) as taking:
        sizes = meanwhile(partial(put_all, taking, numbered(9)[4:]))
        put_all(taking, numbered(4))
        await until_kept([*range(9)])
    assert sizes == [4, 4, 1]


async def test_at_the_end_all_that_waits_is_written():
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(7):
            taking.put(record)
    assert await db(kept) == [*range(7)]
    assert taking.dropped == 0


async def test_a_writer_that_was_never_started_ends_at_once():
    await RecordWriter().aclose()
