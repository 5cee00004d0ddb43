"""Requests in flight, from the gateways to the database; and wishes to cancel, on their way back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now

from supervisor_app.common.database import DatabaseThread
from supervisor_app.gateway.edge import sights
from supervisor_app.gateway.edge.sights import RENEW_SECONDS, SECONDS, Showcase
from supervisor_app.gateway.llama.operations import Operation, Scope
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts, Sight
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.live import Counts, cancel, flight, in_flight
from supervisor_app.traffic.models import CancelWish, GatewaySight
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_ready_server
from tests.integration.gateway.linking import linked

pytestmark = pytest.mark.django_db(transaction=True)

EMPTY = Sight(counts={}, requests=[], total=0)


def request(name="req_a_1", **fields):
    return InFlight(**{"id": name, "at": 5.0, "phase": Phase.GENERATING, "server": "default", **fields})


def sight(*requests, waiting=0, total=None):
    counts = {"default": ServerCounts(len(requests) - waiting, waiting)}
    return Sight(counts=counts, requests=list(requests), total=len(requests) if total is None else total)


def write(name, seen, age=timedelta()):
    sights.write(name, sights.encoded(seen.counts), sights.encoded(seen.requests), seen.total)
    GatewaySight.objects.filter(gateway=name).update(seen_at=Now() - age)


class Desk:
    """A showcase on its own clock, and the writes that it makes."""

    def __init__(self, monkeypatch, database):
        self.now = 100.0
        self.seen = EMPTY
        self.writes = 0
        self._database = database
        self._showcase = Showcase("one", lambda: self.seen, lambda: self.now)
        for name in ("write", "withdraw"):
            monkeypatch.setattr(sights, name, self._counted(getattr(sights, name)))

    def _counted(self, call):
        def counted(*arguments, **options):
            self.writes += 1
            call(*arguments, **options)

        return counted

    async def look(self, seen, after=1.0):
        """Publish this sight, so many seconds after the one before; return how often that wrote."""
        self.seen, self.now = seen, self.now + after
        before = self.writes
        await self._showcase.publish(self._database)
        return self.writes - before


@pytest.fixture
def desk(monkeypatch):
    database = DatabaseThread("test")
    yield Desk(monkeypatch, database)
    database.close()


# --- From the gateway ----------------------------------------------------------------------------------


async def test_an_idle_gateway_writes_nothing(desk):
    assert [await desk.look(EMPTY) for _ in range(3)] == [0, 0, 0]
    assert not await GatewaySight.objects.aexists()


async def test_a_change_is_written_at_most_once_a_second(desk):
    assert await desk.look(sight(request(tokens=1))) == 1
    assert await desk.look(sight(request(tokens=2)), after=SECONDS / 2) == 0
    assert await desk.look(sight(request(tokens=3)), after=SECONDS / 2 + 0.01) == 1
    (shown,) = (await db(flight)).requests
    assert shown.tokens == 3


async def test_a_row_is_renewed_so_that_nobody_takes_its_gateway_for_dead(desk):
    held = [sight(request(phase=Phase.HELD), waiting=1) for _ in range(4)]
    assert await desk.look(held[0]) == 1
    assert await desk.look(held[1]) == 0
    assert await desk.look(held[2], after=RENEW_SECONDS) == 1
    assert await desk.look(held[3]) == 0


async def test_the_row_of_a_gateway_that_has_become_idle_is_deleted_once(desk):
    await desk.look(sight(request()))
    assert [await desk.look(EMPTY) for _ in range(2)] == [1, 0]
    assert not await GatewaySight.objects.aexists()


async def test_the_speed_of_an_answer_is_told(desk):
    await desk.look(sight(request(tokens=10)))
    await desk.look(sight(request(tokens=30)), after=2.0)
    assert (await db(flight)).requests[0].tokens_per_second == 10.0
    assert await db(in_flight, ["default"]) == {"default": Counts(1, 0, 10.0)}


async def test_rows_of_gateways_that_are_long_dead_are_deleted(desk):
    await db(write, "dead", sight(request("req_d_1")), timedelta(hours=2))
    await desk.look(sight(request()))
    assert [row.gateway async for row in GatewaySight.objects.all()] == ["one"]


async def test_a_link_shows_what_its_gateway_has_in_flight_and_takes_it_back(monkeypatch):
    await db(make_ready_server)
    async with linked() as gateway:
        monkeypatch.setattr(gateway, "exchanges", {Waiting("req_x_1")})
        async with asyncio.timeout(DEADLINE):
            while not (seen := await db(flight)).requests:
                await asyncio.sleep(0.05)
        assert seen.requests[0].id == "req_x_1"
        gateway.exchanges.clear()
    assert not await GatewaySight.objects.aexists()


# --- To people -----------------------------------------------------------------------------------------


def test_gateways_are_added_up(django_assert_num_queries):
    write("one", sight(request("req_a_1"), request("req_a_2"), waiting=1))
    write("two", sight(request("req_b_1", at=1.0), total=4))
    with django_assert_num_queries(1):
        found = in_flight(["default", "idle"])
    assert found == {"default": Counts(2, 1, None), "idle": Counts(0, 0, None)}
    shown = flight()
    assert [each.id for each in shown.requests] == ["req_b_1", "req_a_1", "req_a_2"]
    assert shown.unlisted == 3


def test_a_gateway_that_is_silent_is_taken_for_dead():
    write("dead", sight(request()), timedelta(seconds=16))
    assert flight().requests == ()
    assert in_flight(["default"]) == {"default": Counts()}


def test_a_row_from_the_future_is_one_of_before_the_clock_was_put_back():
    write("odd", sight(request()), timedelta(hours=-1))
    assert flight().requests == ()


def test_requests_of_other_servers_are_left_out():
    write("one", sight(request(), request("req_a_2", server="other")))
    assert [each.id for each in flight("other").requests] == ["req_a_2"]


# --- Cancel --------------------------------------------------------------------------------------------


def test_a_wish_to_cancel_is_shown_and_noted_in_the_log_of_the_admin(staff):
    write("one", sight(request(key="chat", model="qwen3")))
    cancel(request(key="chat", model="qwen3"), staff.pk)
    assert flight().cancelled == {"req_a_1"}
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (staff, "req_a_1")
    assert entry.object_repr == "req_a_1 · default · qwen3 · key chat"
    assert entry.change_message == "Cancelled while it was in flight."


def test_wishes_are_heard_for_a_minute_and_deleted_later(staff):
    cancel(request("req_a_1"), staff.pk)
    CancelWish.objects.update(asked_at=Now() - timedelta(minutes=2))
    assert sights.unwanted() == frozenset()
    CancelWish.objects.update(asked_at=Now() - timedelta(hours=2))
    cancel(request("req_a_2"), staff.pk)
    assert [wish.request_id for wish in CancelWish.objects.all()] == ["req_a_2"]


class Waiting:
    """A request in flight, as far as a gateway needs it to show and to end it."""

    policy = None
    arrival = 1
    head = SimpleNamespace(operation=Operation(scope=Scope.INFERENCE))

    def __init__(self, name):
        self.id = name
        self.ended = []

    def in_flight(self):
        return request(self.id)

    def refuse(self, problem, outcome):
        self.ended.append((problem.code, outcome))


async def test_a_nudge_ends_the_request_at_once(by_news_only, staff, monkeypatch):
    async with linked() as gateway:
        wanted, unwanted = Waiting("req_x_1"), Waiting("req_x_2")
        monkeypatch.setattr(gateway, "exchanges", {wanted, unwanted})
        await db(cancel, request("req_x_2"), staff.pk)
        await eventually(lambda: unwanted.ended)
        assert unwanted.ended[0] == ("cancelled_by_staff", Outcome.CANCELLED)
        assert not wanted.ended
        gateway.exchanges.clear()


async def test_a_lost_nudge_costs_a_look(often, staff, monkeypatch):
    monkeypatch.setattr("supervisor_app.traffic.live.nudge_gateways", lambda: None)
    async with linked() as gateway:
        unwanted = Waiting("req_x_2")
        monkeypatch.setattr(gateway, "exchanges", {unwanted})
        await db(cancel, request("req_x_2"), staff.pk)
        await eventually(lambda: unwanted.ended)
        gateway.exchanges.clear()
