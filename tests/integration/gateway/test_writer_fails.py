"""Records while the database is away or refuses one: few are lost, and those are counted."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import OperationalError

from supervisor_app.gateway.edge import ledger, writer
from supervisor_app.gateway.edge.writer import RecordWriter
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import RequestRecord
from tests.integration.building import STARTED, db, eventually, make_record
from tests.integration.gateway.record_writing import NEVER, kept, numbered, put_all, until_kept, writing

pytestmark = pytest.mark.django_db(transaction=True)


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
