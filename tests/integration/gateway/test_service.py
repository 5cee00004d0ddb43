"""A gateway starts, says that it listens, and lets in whom it should."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from contextlib import closing

import pytest
import uvloop
from django.db import OperationalError

from supervisor_app.common.storage import StoreError
from supervisor_app.gateway.edge import service, slots, survey
from supervisor_app.gateway.edge.service import Service, listening_socket
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_key, make_ready_server
from tests.integration.gateway.plane import question, request
from tests.integration.gateway.scripts import answers
from tests.integration.gateway.serving import HEALTH, in_database, make_service, served, upstream
from tests.ports import port_of

pytestmark = pytest.mark.usefixtures("process_as_before")
MODELS = request("/v1/models")


class Everywhere(socket.socket):
    """Bound to one address only, but says that it is bound to all."""

    def getsockname(self):
        return ("0.0.0.0", super().getsockname()[1])


@pytest.fixture(autouse=True)
def _slots_are_known(monkeypatch):
    """Let slots be known, so that a script is asked for nothing else."""
    monkeypatch.setattr(slots.SlotCounts, "look", lambda self, backend: None)


class Outage(asyncio.Event):
    tries = 0
    """Reads that have failed."""


@pytest.fixture
def outage(monkeypatch):
    """A database that fails until the event is set."""
    over, load = Outage(), survey.load_facts

    def fail(*known):
        if not over.is_set():
            over.tries += 1
            raise OperationalError("gone")
        return load(*known)

    monkeypatch.setattr(survey, "load_facts", fail)
    return over


def readers():
    """Threads that read the database for a gateway."""
    return [thread for thread in threading.enumerate() if thread.name == "gateway-read"]


# --- Its start -----------------------------------------------------------------------------------------


@in_database
async def test_a_request_goes_to_the_server_that_the_database_knows():
    async with upstream(answers(b'{"data": []}')) as server, served() as gateway:
        answer = await gateway.ask(question())
        assert (answer.status, answer.json) == (200, {"data": []})
        assert len(server.calls) == 1


@in_database
async def test_the_gateway_says_when_it_listens():
    said = []
    bound = listening_socket("127.0.0.1", 0)
    made = make_service(bound, on_listening=said.append)
    task = asyncio.create_task(made.serve())
    await eventually(lambda: said)
    assert said == [made]
    assert made.is_open
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_database
async def test_a_service_without_a_database_does_not_start_and_leaves_nothing_behind(outage):
    with closing(listening_socket("127.0.0.1", 0)) as bound:
        with pytest.raises(StoreError, match="gone"):
            await make_service(bound).start()
        await eventually(lambda: not readers())


@in_database
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_address_that_is_taken_during_the_start_is_an_error_too(run):
    with listening_socket("127.0.0.1", 0) as late, listening_socket("127.0.0.1", port_of(late)) as early:
        early.listen()
        with pytest.raises(OSError) as raised:
            run(asyncio.wait_for(make_service(late).start(), DEADLINE))
    assert raised.value.errno == errno.EADDRINUSE


@in_database
async def test_the_gateway_serves_once_the_database_is_back_and_says_once_that_it_waits(
    outage, monkeypatch, caplog
):
    monkeypatch.setattr(service, "RETRY_SECONDS", 0.01)
    bound = listening_socket("127.0.0.1", 0)
    said = []
    task = asyncio.create_task(make_service(bound, on_listening=said.append).serve())
    await eventually(lambda: caplog.messages)
    await eventually(lambda: outage.tries > 3)
    assert not said
    outage.set()
    await eventually(lambda: said)
    assert caplog.messages == ["⚠️ [GATEWAY] The database failed: gone. It starts as soon as it can."]
    assert len(readers()) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_service_that_never_started_gives_its_address_back():
    for end in (Service.stop, abandon):
        bound = listening_socket("127.0.0.1", 0)
        made = make_service(bound)
        made.force()
        await end(made)
        assert bound.fileno() == -1


async def abandon(made):
    made.abandon()


# --- Who may -------------------------------------------------------------------------------------------


def everywhere():
    return Everywhere(fileno=listening_socket("127.0.0.1", 0).detach())


@in_database
async def test_without_a_key_programs_of_this_machine_are_let_in():
    async with served() as gateway:
        assert (await gateway.ask(MODELS)).status == 200


@in_database
async def test_without_a_key_nobody_is_let_in_from_the_network():
    async with served(everywhere()) as gateway:
        assert (await gateway.ask(MODELS)).status == 401
        assert (await gateway.ask(request("/metrics"))).status == 401
        assert (await gateway.ask(HEALTH)).status == 200  # for load balancers


@in_database
async def test_insecure_open_lets_everybody_in_from_the_network():
    async with served(everywhere(), insecure_open=True) as gateway:
        assert gateway.service.is_open
        assert (await gateway.ask(MODELS)).status == 200


@in_database
async def test_with_a_key_its_holder_is_let_in():
    await db(make_key, secret="lp-secret")
    async with served(everywhere()) as gateway:
        assert not gateway.service.is_open
        assert (await gateway.ask(request("/v1/models", "X-Api-Key: lp-secret"))).status == 200
        assert (await gateway.ask(MODELS)).status == 401


# --- Several behind one address ------------------------------------------------------------------------


@in_database
async def test_several_share_an_address_and_all_serve():
    await db(make_ready_server)
    one = listening_socket("127.0.0.1", 0, shared=True)
    other = listening_socket("127.0.0.1", port_of(one), shared=True)
    async with served(one, aliases=["one"]) as gateway, served(other, aliases=["other"]):
        seen = set()
        async with asyncio.timeout(DEADLINE):
            while len(seen) < 2:  # the kernel spreads connections by their ports
                answer = await gateway.ask(MODELS)
                seen.add(answer.json["data"][0]["id"])
    assert seen == {"one", "other"}
