"""The chores of the writer of records: servers in use are noted, old records pruned."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.testing import FakeClock
from supervisor_app.gateway.edge import idleness, ledger, retention, writer
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import ServerUse
from tests.deadline import DEADLINE
from tests.integration.building import STARTED, db, eventually, make_record, make_server
from tests.integration.gateway.record_writing import kept, until_kept, writing

pytestmark = pytest.mark.django_db(transaction=True)


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
