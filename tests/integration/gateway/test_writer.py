"""Records on their way to the database: none is waited for, few are lost, and those are counted."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from functools import partial

import pytest
from django.db import OperationalError

from supervisor_app.core.testing import FakeClock
from supervisor_app.gateway.edge import idleness, ledger, retention, writer
from supervisor_app.gateway.edge.writer import RecordWriter
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import RequestRecord, ServerUse
from tests.deadline import DEADLINE
from tests.integration.building import STARTED, db, eventually, make_record, make_server

pytestmark = pytest.mark.django_db(transaction=True)

NEVER = 3600.0


@asynccontextmanager
async def writing(**options):
    taking = RecordWriter(**{"flush_seconds": 0.02, "clock": FakeClock(wall=STARTED), **options})
    taking.start()
    try:
        yield taking
    finally:
        await taking.aclose()


def kept():
    return [round(row.at.timestamp() - STARTED) for row in RequestRecord.objects.order_by("pk")]


async def until_kept(expected):
    async with asyncio.timeout(DEADLINE):
        while (found := await db(kept)) != expected:
            assert len(found) <= len(expected), found
            await asyncio.sleep(0.01)


def numbered(count):
    return [make_record(at=STARTED + number) for number in range(count)]


def put_all(taking, records):
    for record in records:
        taking.put(record)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
def away(monkeypatch):
    """While set, the database refuses every record."""
    gone, real = threading.Event(), ledger.write
    gone.tried = 0

    def write(records):
        gone.tried += 1
        if gone.is_set():
            raise OperationalError("database is locked")
        real(records)

    monkeypatch.setattr(ledger, "write", write)
    gone.set()
    return gone


# --- Writing -------------------------------------------------------------------------------------------


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


# --- When the database is away -------------------------------------------------------------------------


async def test_records_wait_while_the_database_is_away_and_that_is_told_once(away, caplog):
    async with writing() as taking:
        for record in numbered(3):
            taking.put(record)
        await eventually(lambda: away.tried >= 3)
        taking.put(make_record(at=STARTED + 3))
        away.clear()
        await until_kept([0, 1, 2, 3])
    assert taking.dropped == 0
    assert warnings(caplog) == [
        "⚠️ [GATEWAY] The database failed: database is locked. The records of requests wait until it is back."
    ]


async def test_a_full_batch_does_not_hammer_a_database_that_is_away(away, monkeypatch):
    monkeypatch.setattr(ledger, "WRITE_ROWS", 2)
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(2):
            taking.put(record)
        await eventually(lambda: taking.is_failing)
        for record in numbered(50):
            taking.put(record)
            await asyncio.sleep(0)
        assert away.tried == 1
        away.clear()


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.REFUSED])
async def test_names_that_a_client_makes_long_do_not_wait_as_a_whole(away, outcome):
    async with writing() as taking:
        record = make_record(route="/" + "r" * 60_000, model="m" * 60_000, outcome=outcome)
        taking.put(record)
        assert (record.route, record.model) == ("/" + "r" * 199, "m" * 200)
        away.clear()
        await until_kept([0])


async def test_records_beyond_the_bound_are_dropped_oldest_first_counted_and_told_once(
    away, monkeypatch, caplog
):
    monkeypatch.setattr(writer, "CAPACITY", 4)
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(10):
            taking.put(record)
        assert taking.dropped == 6
        away.clear()
    assert await db(kept) == [6, 7, 8, 9]
    assert warnings(caplog) == [
        "⚠️ [GATEWAY] Requests are answered but not all are recorded: "
        "more requests come than the database takes."
    ]


async def test_records_that_the_database_does_not_take_at_the_end_are_told(away, caplog):
    async with writing(flush_seconds=NEVER) as taking:
        taking.put(make_record())
    assert taking.dropped == 1
    assert "the database did not take them before the end" in warnings(caplog)[-1]


async def test_a_database_that_hangs_does_not_hold_up_the_end(monkeypatch):
    hung, free = threading.Event(), threading.Event()

    def write(records):
        hung.set()
        free.wait()

    monkeypatch.setattr(ledger, "write", write)
    monkeypatch.setattr(writer, "CLOSE_SECONDS", 0.05)
    taking = RecordWriter(flush_seconds=0.01)
    taking.start()
    taking.put(make_record())
    await eventually(hung.is_set)
    await taking.aclose()
    assert taking.dropped == 1
    free.set()


@pytest.mark.parametrize("bad", [{"held_ms": None}, {"replays": 2**70}], ids=["refused", "cannot be said"])
async def test_a_record_that_cannot_be_stored_does_not_cost_the_others(bad, caplog):
    good, worse, better = numbered(3)
    async with writing() as taking:
        for record in (good, make_record(**bad), better):
            taking.put(record)
        await until_kept([0, 2])
        taking.put(worse)
        await until_kept([0, 2, 1])
    assert taking.dropped == 1
    assert "the database refused one" in warnings(caplog)[0]


async def test_a_full_batch_loses_only_what_cannot_be_stored(monkeypatch):
    monkeypatch.setattr(ledger, "WRITE_ROWS", 16)
    records = numbered(40)
    for number in (0, 7, 8, 15, 38):
        records[number].held_ms = None
    async with writing(flush_seconds=NEVER) as taking:
        put_all(taking, records)
        await until_kept([number for number in range(40) if number not in (0, 7, 8, 15, 38)])
    assert taking.dropped == 5


async def test_a_database_that_goes_away_while_the_bad_one_is_sought_is_told_nothing_twice(monkeypatch):
    monkeypatch.setattr(ledger, "WRITE_ROWS", 8)
    tries, real = [], ledger.write

    def write(records):
        tries.append(len(records))
        if len(tries) in (3, 4, 6):
            raise OperationalError("database is locked")
        real(records)

    monkeypatch.setattr(ledger, "write", write)
    records = numbered(8)
    records[6].held_ms = None
    async with writing() as taking:
        put_all(taking, records)
        await until_kept([0, 1, 2, 3, 4, 5, 7])
    assert taking.dropped == 1
    assert tries[:3] == [8, 4, 4]


async def test_text_of_many_waiting_records_is_not_kept(away, monkeypatch, caplog):
    monkeypatch.setattr(writer, "WORDS_CAPACITY", 2)
    async with writing(flush_seconds=NEVER) as taking:
        for record in numbered(4):
            record.captured_request, record.captured_answer = "asked", "said"
            taking.put(record)
        away.clear()
    captured = RequestRecord.objects.order_by("at").values_list("captured_request", "captured_answer")
    assert await db(list, captured) == [("asked", "said")] * 2 + [(None, None)] * 2
    assert warnings(caplog) == [
        "⚠️ [GATEWAY] So many requests wait to be recorded that what they say is not kept."
    ]


# --- Chores --------------------------------------------------------------------------------------------


def uses():
    """Seconds: the database's clock is not quite that of this host."""
    found = ServerUse.objects.select_related("server")
    return {use.server.name: round(use.last_request_at.timestamp()) for use in found}


async def until_used(expected):
    async with asyncio.timeout(DEADLINE):
        while await db(uses) != expected:
            await asyncio.sleep(0.01)


async def test_a_server_that_was_asked_is_in_use():
    await db(make_server)
    async with writing() as taking:
        taking.put(make_record())
        await until_used({"default": STARTED})


async def test_a_server_is_in_use_while_it_answers():
    await db(make_server)
    clock = FakeClock(wall=STARTED)
    async with writing(clock=clock, in_use=lambda: ["default"]):
        await until_used({"default": STARTED})
        await clock.advance(4)
        await clock.advance(2)
        await until_used({"default": STARTED + 6})


async def test_a_request_that_was_refused_or_only_looked_has_not_used_a_server():
    await db(make_server)
    async with writing() as taking:
        taking.put(make_record(outcome=Outcome.REFUSED, status=429))
        taking.put(make_record(server=""))
        taking.put(make_record(counts_as_use=False))
        await until_kept([0, 0, 0])
    assert await db(uses) == {}


async def test_use_is_not_noted_more_often_than_needed(monkeypatch):
    monkeypatch.setattr(writer, "USE_SECONDS", 5.0)
    noted = []
    monkeypatch.setattr(idleness, "touch_use", lambda names, now: noted.append(now))
    clock = FakeClock(wall=STARTED)
    async with writing(clock=clock) as taking:
        for second in range(12):
            taking.put(make_record(at=STARTED + second))
            await until_kept([*range(second + 1)])
            await clock.advance(1)
    assert [now - STARTED for now in noted] == [0, 5, 10]


async def test_old_records_are_pruned_at_the_start_and_each_hour(monkeypatch):
    monkeypatch.setattr(retention, "PRUNE_ROWS", 2)
    old = -31 * 86400
    clock = FakeClock(wall=STARTED)
    await db(ledger.write, [make_record(at=STARTED + second) for second in (old, old + 1, old + 2, 0)])
    async with writing(clock=clock) as taking:
        await until_pruned([0])
        await eventually(lambda: taking.prune_at)
        taking.put(make_record(at=STARTED + old))
        taking.put(make_record(at=STARTED + 1))
        await until_kept([0, old, 1])
        await clock.advance(writer.PRUNE_SECONDS - 1)
        taking.put(make_record(at=STARTED + 2))
        await until_kept([0, old, 1, 2])
        await clock.advance(2)
        await until_pruned([0, 1, 2])


async def test_more_rows_than_are_kept_are_cut_as_they_come(monkeypatch):
    monkeypatch.setattr(retention, "KEEP_ROWS", 3)
    async with writing() as taking:
        for number in range(8):
            taking.put(make_record(at=STARTED + number))
        await until_pruned([5, 6, 7])


async def until_pruned(expected):
    async with asyncio.timeout(DEADLINE):
        while await db(kept) != expected:
            await asyncio.sleep(0.01)


async def test_a_mistake_of_ours_is_told_and_records_are_written_all_the_same(caplog):
    def confused():
        raise ZeroDivisionError

    async with writing(in_use=confused) as taking:
        taking.put(make_record())
        await until_kept([0])
        await eventually(lambda: "This is a mistake in llamaproxy" in caplog.text)
