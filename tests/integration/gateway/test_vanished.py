"""A host that vanishes: power, cable. No connection to it is closed, and nobody says a word."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from django.utils import timezone

from supervisor_app.core.status import Status
from supervisor_app.fleet.lease import NodeLease
from supervisor_app.gateway.edge import link, lookout, survey
from supervisor_app.gateway.servers.catalogue import catalogue
from supervisor_app.gateway.servers.elsewhere import as_reached
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, long_ago, make_server, make_state
from tests.integration.gateway.far import FarServer, far_host
from tests.integration.gateway.linking import announce, facts, linked
from tests.integration.gateway.plane import question, streaming
from tests.integration.gateway.scripts import answers, event, hangs, stream_of, waits_for

ONE = {"models": ("one", "m"), "offered": ("m",)}
TWO = {"models": ("two", "m"), "offered": ("m",)}
LONG = DEADLINE * 2
"""Seconds. The kernel takes eleven to find out."""


@pytest.fixture
def far():
    with far_host() as host:
        yield host


async def far_server(host, *scripts):
    server = FarServer(host, *scripts)
    await server.start()
    return server


# --- Connections that nobody closes --------------------------------------------------------------------


async def test_a_request_at_a_vanished_host_is_told_so_or_sent_again(far, plane):
    """Nobody has to say that the host is gone: the connections find out."""
    gone = await far_server(far, hangs(stream_of(event("a"))), hangs())
    await plane.serve(answers(), name="one", url=gone.url, **ONE)
    streamer, asker = await plane.connect(), await plane.connect()
    await streamer.send(streaming(model="m"))
    begun = await streamer.head()
    assert begun.status == 200
    await streamer.read_until(b"\n\n\r\n")
    asked = asyncio.create_task(asker.ask(question(model="m")))
    await gone.until_called(2)
    two = await plane.serve(answers(b'{"from": "two"}'), name="two", **TWO)

    far.vanish()
    async with asyncio.timeout(LONG):
        assert (await asked).json == {"from": "two"}
        last = await streamer.read_until(b"0\r\n\r\n")
    assert b"was lost with its host while answering" in last
    assert len(two.calls) == 1
    await gone.stop()


async def test_a_request_is_sent_again_as_soon_as_its_host_is_given_up(far, plane):
    """A long body is one for which no time limit of the connection counts."""
    gone = await far_server(far, waits_for(asyncio.Event(), answers(), reads=False))
    facts = {"is_elsewhere": True, "silent_since": 1_750_000_000.0, **ONE}
    one = await plane.serve(answers(), name="one", url=gone.url, **facts)
    asked = plane.asks(question("x" * 6_000_000, model="m"))
    await gone.until_called()
    await plane.serve(answers(b'{"from": "two"}'), name="two", **TWO)
    far.vanish()
    plane.gateway.hear(as_reached(one.facts, False))
    async with asyncio.timeout(LONG):
        assert (await asked).json == {"from": "two"}
    connections = gone.connections
    assert (await plane.ask(question(model="m"))).json == {"from": "two"}
    assert gone.connections == connections
    await gone.stop()


async def test_a_request_for_a_vanished_model_is_held_and_then_told_why(far, plane):
    gone = await far_server(far, answers())
    facts = {"is_elsewhere": True, "silent_since": 1_750_000_000.0, "hold_seconds": 0.2, **ONE}
    one = await plane.serve(answers(), name="one", url=gone.url, **facts)
    known = one.facts
    plane.gateway.hear(as_reached(known, False))
    answer = await plane.ask(question(model="m"))
    assert answer.status == 503
    assert "Its host does not answer, and no supervisor has reported since" in answer.error["message"]
    one.says(hold_seconds=600)
    asked = plane.asks(question(model="m"))
    await plane.until_waiting(1, "one")
    plane.gateway.hear(replace(known, version=9))
    assert (await asked).status == 200
    await gone.stop()


# --- Servers whose supervisor is silent ----------------------------------------------------------------


@pytest.fixture
def looks_often(often, monkeypatch):
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.05)


async def lease_of(node, renewed_at):
    fields = {"holder": "1 1 boot/1 there", "token": "t", "renewed_at": renewed_at}
    await db(NodeLease.objects.update_or_create, node=node, defaults=fields)


async def ready_on(node, url, boot="another"):
    """A server there, proved to listen, and a supervisor that holds the node."""
    port = int(url.rpartition(":")[2])
    endpoint = {"address": "0.0.0.0", "port": port, "uid": 1, "realm": f"{boot}/1/2"}
    server = await db(make_server, node=node)
    await db(make_state, server, "ready", url=url, pid=11, version=1, detail="Serving.", endpoint=endpoint)
    await lease_of(node, timezone.now())


@pytest.mark.django_db(transaction=True)
async def test_a_silent_server_is_used_while_it_can_be_reached_and_not_after_that(far, looks_often):
    server = await far_server(far, answers(b'{"total_slots": 3}'))
    await ready_on("far", server.url)
    async with linked() as gateway:
        assert facts(gateway).ready
        assert facts(gateway).is_elsewhere
        gate = gateway.backends["default"].gate

        await lease_of("far", long_ago())  # its supervisor was killed
        connections = server.connections
        await eventually(lambda: facts(gateway).silent_since and server.connections > connections + 1)
        assert facts(gateway).ready
        assert gate.is_open

        far.vanish()
        await eventually(lambda: facts(gateway).away, DEADLINE)
        assert not facts(gateway).ready
        assert not gate.is_open
        assert facts(gateway).detail.startswith("Its host does not answer, and no supervisor has reported")
        assert catalogue(gateway.facts(), None, 0)["data"][0]["status"] == {"value": "unloaded"}

        far.return_()
        await eventually(lambda: facts(gateway).ready and gate.is_open, DEADLINE)
        await lease_of("far", timezone.now())
        await eventually(lambda: facts(gateway).silent_since is None)
        assert facts(gateway).detail == "Serving."
    await server.stop()


@pytest.mark.django_db(transaction=True)
async def test_a_silent_supervisor_of_this_host_takes_no_server_out_of_use(looks_often, looks):
    """A port where nobody listens: that it refuses is for requests to find out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    await ready_on("local", url)
    await lease_of("local", long_ago())
    async with linked() as gateway:
        looks.clear()
        await eventually(lambda: len(looks) > 20)
        assert facts(gateway).silent_since is not None
        assert facts(gateway).ready


@pytest.mark.django_db(transaction=True)
async def test_a_word_of_its_supervisor_brings_a_silent_server_back_at_once(looks_often, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(survey, "is_elsewhere", lambda url, endpoint, here: True)
    await ready_on("far", f"http://127.0.0.1:{port}")
    await lease_of("far", long_ago())
    async with linked() as gateway:
        await eventually(lambda: facts(gateway).away)
        monkeypatch.setattr(link, "REFRESH_SECONDS", 600.0)
        await lease_of("far", timezone.now())
        await announce(Status.READY, 2, pid=11, url=f"http://127.0.0.1:{port}")
        await eventually(lambda: facts(gateway).ready)
