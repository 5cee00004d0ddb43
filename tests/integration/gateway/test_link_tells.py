"""What a gateway tells the database and the channel layer: whom it wakes, stops and does not send again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from channels.layers import get_channel_layer

from supervisor_app.fleet.events import PUSH_GROUP, supervisor_channel
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge import idleness, link, supervisors
from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord
from tests.deadline import DEADLINE
from tests.integration.building import (
    db,
    eventually,
    long_ago,
    make_ready_server,
    make_record,
    make_server,
    make_state,
)
from tests.integration.gateway.linking import complaints, facts, linked, told
from tests.unit.gateway.test_gate import Visitor

pytestmark = pytest.mark.django_db(transaction=True)

NOW = time.time()
ENTRY = QuarantineEntry(
    server="default", body_hash="ab" * 32, run_name="3", reason="It died.", at=NOW, until=NOW + 3600
)


# --- Quarantine ----------------------------------------------------------------------------------------


async def test_a_request_that_one_gateway_quarantined_is_not_sent_by_the_others_either(often, caplog):
    async with linked() as one, linked() as other:
        one.inquest.quarantined.add(ENTRY)
        one.outside.quarantined(ENTRY)
        await eventually(lambda: other.inquest.quarantined.find(ENTRY.body_hash, NOW))
        assert "🚫 [GATEWAY] A request that default died of is not sent again for an hour" in caplog.messages
        await db(QuarantinedRequest.objects.all().delete)
        await eventually(lambda: not (one.inquest.quarantined.entries or other.inquest.quarantined.entries))


async def test_a_quarantine_that_cannot_be_written_down_is_not_forgotten(often, outage, looks):
    async with linked() as gateway:
        gateway.inquest.quarantined.add(ENTRY)
        outage.lasts = True
        gateway.outside.quarantined(ENTRY)
        await outage.has_been_noticed()
        assert gateway.inquest.quarantined.find(ENTRY.body_hash, NOW)
        outage.lasts = False
        looks.clear()
        await eventually(lambda: looks)
        async with asyncio.timeout(DEADLINE):
            while not await QuarantinedRequest.objects.aexists():
                assert gateway.inquest.quarantined.find(ENTRY.body_hash, NOW)
                await asyncio.sleep(0.01)
        assert gateway.inquest.quarantined.find(ENTRY.body_hash, NOW)


# --- Waking and idleness -------------------------------------------------------------------------------


ASLEEP = {"desired_running": False, "stopped_for_idleness": True}


async def nudges():
    """Of the node `local`, as many as have come."""
    await asyncio.sleep(0)
    queue = get_channel_layer().channels.get(supervisor_channel("local"))
    messages = [queue.get_nowait()[1] for _ in range(queue.qsize())] if queue else []
    return [message["type"] for message in messages].count("server.nudge")


async def is_wanted(name="default"):
    server = await LlamaServer.objects.aget(name=name)
    return server.desired_running


async def test_a_request_for_a_sleeping_server_wakes_it_at_once(by_news_only, caplog):
    caplog.set_level(logging.INFO, link.__package__)
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        gateway.outside.wake("default")
        async with asyncio.timeout(DEADLINE):
            await told("server.nudge")
        assert await is_wanted()
        assert complaints(caplog) == ["☀️ [GATEWAY] default is asked for: starting it"]


async def test_a_crowd_that_asks_for_a_sleeping_server_wakes_it_once(by_news_only, monkeypatch):
    asked, wake = [], idleness.wake

    def count(name):
        asked.append(name)
        return wake(name)

    monkeypatch.setattr(idleness, "wake", count)
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        for _ in range(100):
            gateway.outside.wake("default")
        await eventually(lambda: asked)
        await gateway.outside.metrics()  # which the same thread looks up afterwards
        assert asked == ["default"]
        await db(LlamaServer.objects.filter(name="default").ask_to_idle)
        gateway.outside.wake("default")
        await eventually(lambda: len(asked) == 2)


async def test_a_mistake_on_the_way_to_waking_a_server_is_told(by_news_only, monkeypatch, caplog):
    def mistaken(name):
        raise ZeroDivisionError

    monkeypatch.setattr(idleness, "wake", mistaken)
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        gateway.outside.wake("default")
        await eventually(lambda: "ZeroDivisionError" in caplog.text)
    assert complaints(caplog) == ["❌ [GATEWAY] This is a mistake in llamaproxy."]


async def test_a_server_that_somebody_stopped_is_not_woken(by_news_only):
    await db(make_server, desired_running=False)
    async with linked() as gateway:
        gateway.outside.wake("default")
        await gateway.outside.metrics()  # which the same thread looks up afterwards
        assert not await is_wanted()
        assert await nudges() == 0


async def test_a_request_that_waits_while_its_server_falls_asleep_wakes_it_too(often):
    server = await db(make_server)
    async with linked() as gateway:
        gateway.backends["default"].gate.enter(Visitor())
        await db(LlamaServer.objects.filter(pk=server.pk).ask_to_idle)
        async with asyncio.timeout(DEADLINE):
            while not await is_wanted():
                await asyncio.sleep(0.01)
        await eventually(lambda: not facts(gateway).asleep)


async def test_a_request_that_waits_while_its_server_makes_room_wakes_it_once_that_is_saved(by_news_only):
    server = await db(make_server)
    await db(make_state, server, "initial", version=3, unloaded=True, generation=server.generation)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gateway.backends["default"].gate.enter(Visitor())
        push = {"type": "status.push", "server": "default", "version": 3}
        await get_channel_layer().group_send(PUSH_GROUP, push)
        await told("server.nudge")
        assert (await LlamaServer.objects.aget(pk=server.pk)).generation > server.generation


async def test_a_request_that_waits_but_needs_no_model_wakes_none(often, looks):
    server = await db(make_server)
    async with linked() as gateway:
        visitor = Visitor()
        visitor.wakes = False
        gateway.backends["default"].gate.enter(visitor)
        await db(LlamaServer.objects.filter(pk=server.pk).ask_to_idle)
        await eventually(lambda: facts(gateway).asleep)
        seen = len(looks)
        await eventually(lambda: len(looks) > seen + 2)
        assert not await is_wanted()


async def test_waking_without_a_database_is_told(by_news_only, outage, caplog):
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        outage.lasts = True
        gateway.outside.wake("default")
        await eventually(lambda: complaints(caplog) == ["⚠️ [GATEWAY] The database failed: gone"])


@pytest.fixture
def idle_soon(monkeypatch):
    monkeypatch.setattr(supervisors, "IDLE_SECONDS", 0.02)


async def test_a_server_that_nobody_asks_is_stopped_until_somebody_does(by_news_only, idle_soon, caplog):
    caplog.set_level(logging.INFO, link.__package__)
    await db(make_ready_server, ready_at=long_ago())
    async with linked(idle_stop_seconds=60) as gateway:
        async with asyncio.timeout(DEADLINE):
            await told("server.nudge")
        assert not await is_wanted()
        assert complaints(caplog) == [
            "💤 [GATEWAY] Nobody asks for default: it is stopped until somebody does"
        ]
        assert await LlamaServer.objects.filter(stopped_for_idleness=True).aexists()
        assert facts(gateway).wanted  # as long as no news have come


async def test_a_server_that_works_on_something_is_not_stopped(by_news_only, idle_soon):
    for name in ("busy", "idle"):
        server = await db(make_ready_server, name, ready_at=long_ago())
        await db(LlamaServer.objects.filter(pk=server.pk).update, idle_stop_seconds=60)
    async with linked() as gateway:
        gateway.backends["busy"].gate.enter(Visitor())
        async with asyncio.timeout(DEADLINE):
            while await is_wanted("idle"):
                await asyncio.sleep(0.01)
        assert await is_wanted("busy")


async def test_a_server_that_is_only_looked_at_is_stopped(by_news_only, idle_soon):
    await db(make_ready_server, ready_at=long_ago())
    async with linked(idle_stop_seconds=60) as gateway:
        visitor = Visitor()
        visitor.counts_as_use = False
        gateway.backends["default"].gate.enter(visitor)
        gateway.outside.record(make_record(counts_as_use=False))
        async with asyncio.timeout(DEADLINE):
            while await is_wanted():
                await asyncio.sleep(0.01)


async def test_a_server_that_is_not_known_here_yet_is_stopped_all_the_same(by_news_only, idle_soon):
    async with linked(idle_stop_seconds=60) as gateway:
        await db(make_ready_server, ready_at=long_ago())
        async with asyncio.timeout(DEADLINE):
            while await is_wanted():
                await asyncio.sleep(0.01)
        assert not gateway.backends
        assert await nudges() == 0  # its supervisor looks every second anyway


async def test_idleness_can_wait_until_the_database_is_back(by_news_only, idle_soon, outage):
    async with linked(idle_stop_seconds=60):
        outage.lasts = True
        await db(make_ready_server, ready_at=long_ago())
        await outage.has_been_noticed(by="idle_servers")
        assert await is_wanted()
        outage.lasts = False
        async with asyncio.timeout(DEADLINE):
            while await is_wanted():
                await asyncio.sleep(0.01)


# --- Movement ------------------------------------------------------------------------------------------


async def test_supervisors_are_told_which_of_their_servers_answer(by_news_only, monkeypatch):
    monkeypatch.setattr(supervisors, "MOVED_SECONDS", 0.02)
    for name, node in [("a", "one"), ("b", "one"), ("c", "other"), ("silent", "other")]:
        await db(make_server, name, node=node)
    async with linked() as gateway:
        for name in ("a", "b", "c"):
            gateway.backends[name].moved = True
        async with asyncio.timeout(DEADLINE):
            messages = [await told("server.moved", node) for node in ("one", "other")]
        assert [sorted(message["servers"]) for message in messages] == [["a", "b"], ["c"]]
        assert not any(backend.moved for backend in gateway.backends.values())


# --- The end -------------------------------------------------------------------------------------------


async def test_at_the_end_the_last_records_are_written(by_news_only):
    await db(make_ready_server)
    async with linked() as gateway:
        gateway.outside.record(make_record())
    assert await RequestRecord.objects.acount() == 1


async def test_servers_with_requests_are_in_use(by_news_only, monkeypatch):
    used = []
    monkeypatch.setattr(idleness, "touch_use", lambda names, now: used.append(set(names)))
    for name in ("busy", "idle"):
        await db(make_ready_server, name)
    async with linked() as gateway:
        gateway.backends["busy"].gate.enter(Visitor())
    assert used == [{"busy"}]
