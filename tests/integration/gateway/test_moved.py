"""Answers that pass the gateway tell its supervisor that a server works."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.edge import supervisors
from supervisor_app.roles.nudges import SupervisorConsumer
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_ready_server, make_server
from tests.integration.gateway.linking import announce, linked, told
from tests.unit.gateway.test_gate import Visitor

pytestmark = pytest.mark.django_db(transaction=True)


async def test_the_supervisor_of_a_moved_servers_node_hears_of_the_move(monkeypatch):
    monkeypatch.setattr(supervisors, "MOVED_SECONDS", 0.01)
    server = await db(make_ready_server)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gateway.backends["default"].moved = True
        assert (await told("server.moved", server.node))["servers"] == ["default"]
        assert not gateway.backends["default"].moved


async def test_the_supervisor_hears_how_many_wait_until_nobody_does(monkeypatch):
    monkeypatch.setattr(supervisors, "MOVED_SECONDS", 0.01)
    server = await db(make_server)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gate, visitor = gateway.backends["default"].gate, Visitor()
        gate.enter(visitor)
        while not (counts := (await told("server.waiting", server.node))["counts"]):
            pass
        assert counts == {"default": 1}
        gate.leave(visitor)
        while (await told("server.waiting", server.node))["counts"]:
            pass


async def test_a_supervisor_hears_of_a_gateway_before_anybody_waits_there(by_news_only):
    server = await db(make_server)
    async with linked(), asyncio.timeout(DEADLINE):
        assert (await told("server.waiting", server.node))["counts"] == {}


async def test_a_supervisor_of_another_node_hears_of_a_gateway_as_soon_as_that_knows_of_it(often):
    await db(make_server)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        await db(make_server, "far", node="far")
        await eventually(lambda: "far" in gateway.backends)
        assert (await told("server.waiting", "far"))["counts"] == {}


async def closed(node):
    said = await told("server.closed", node)
    return said["server"], said["version"], said["in_flight"]


async def test_a_gateway_that_has_closed_a_gate_says_what_it_has_in_flight_there(by_news_only):
    url = "http://localhost:8134"
    server = await db(make_ready_server, pid=11, url=url)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gate = gateway.backends["default"].gate
        early, late = Visitor(), Visitor()
        assert gate.enter(early)
        await announce(Status.READY, 7, pid=11, url=url, draining=True)
        assert await closed(server.node) == ("default", 7, 1)
        assert not gate.enter(late), "whatever comes after that word is not sent there"
        gate.leave(early)
        await announce(Status.READY, 8, pid=11, url=url, draining=True)
        assert await closed(server.node) == ("default", 8, 0)
        assert late.times == 0


async def test_a_gateway_that_knows_already_that_a_gate_is_closed_says_so_all_the_same(by_news_only):
    state = (await db(make_ready_server, pid=11)).state
    state.draining, state.version = True, 9
    await db(state.save)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        assert not gateway.backends["default"].gate.is_open
        await announce(Status.READY, 8, pid=11, draining=True)
        assert await closed("local") == ("default", 9, 0)


def consumer_with(**ears):
    deaf = dict.fromkeys(("nudge", "moved", "waits", "closed"), lambda *_: None)
    return SupervisorConsumer(**deaf | ears)


async def test_the_worker_passes_on_that_a_gateway_has_closed_its_gate():
    heard = []
    consumer = consumer_with(closed=lambda *said: heard.append(said))
    said = {"gateway": "g", "server": "default", "version": 3, "in_flight": 1}
    await consumer.server_closed({"type": "server.closed", **said})
    assert heard == [("g", "default", 3, 1)]


async def test_the_worker_passes_on_how_many_wait():
    heard = []
    consumer = consumer_with(waits=lambda *said: heard.append(said))
    await consumer.server_waiting({"type": "server.waiting", "gateway": "g", "counts": {"default": 2}})
    assert heard == [("g", {"default": 2})]


async def test_the_worker_passes_the_news_of_a_move_on():
    heard = []
    consumer = consumer_with(moved=heard.append)
    await consumer.server_moved({"type": "server.moved", "servers": ["default"]})
    assert heard == [["default"]]
