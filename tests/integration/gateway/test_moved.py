"""Answers that pass the gateway tell its supervisor that a server works."""

from __future__ import annotations

import asyncio

import pytest
from channels.layers import get_channel_layer

from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.gateway.edge import supervisors
from supervisor_app.roles.nudges import SupervisorConsumer
from tests.deadline import DEADLINE
from tests.integration.building import db, make_ready_server, make_server
from tests.integration.gateway.linking import linked
from tests.unit.gateway.test_gate import Visitor

pytestmark = pytest.mark.django_db(transaction=True)


async def test_the_supervisor_of_a_moved_servers_node_hears_of_the_move(monkeypatch):
    monkeypatch.setattr(supervisors, "MOVED_SECONDS", 0.01)
    server = await db(make_ready_server)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gateway.backends["default"].moved = True
        message = await get_channel_layer().receive(supervisor_channel(server.node))
        assert message == {"type": "server.moved", "servers": ["default"]}
        assert not gateway.backends["default"].moved


async def test_the_supervisor_hears_how_many_wait_until_nobody_does(monkeypatch):
    monkeypatch.setattr(supervisors, "MOVED_SECONDS", 0.01)
    server = await db(make_server)
    async with linked() as gateway, asyncio.timeout(DEADLINE):
        gate, visitor = gateway.backends["default"].gate, Visitor()
        gate.enter(visitor)
        told = await get_channel_layer().receive(supervisor_channel(server.node))
        assert (told["type"], told["counts"]) == ("server.waiting", {"default": 1})
        gate.leave(visitor)
        while told["counts"]:
            told = await get_channel_layer().receive(supervisor_channel(server.node))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):  # for once nothing is to come
                await get_channel_layer().receive(supervisor_channel(server.node))


async def test_the_worker_passes_on_how_many_wait():
    heard = []
    consumer = SupervisorConsumer(
        nudge=lambda: None, moved=lambda _: None, waits=lambda *said: heard.append(said)
    )
    await consumer.server_waiting({"type": "server.waiting", "gateway": "g", "counts": {"default": 2}})
    assert heard == [("g", {"default": 2})]


async def test_the_worker_passes_the_news_of_a_move_on():
    heard = []
    consumer = SupervisorConsumer(nudge=lambda: None, moved=heard.append, waits=lambda *_: None)
    await consumer.server_moved({"type": "server.moved", "servers": ["default"]})
    assert heard == [["default"]]
