"""The gateway from its start to its end: it listens, finishes what it began, and breaks nothing off in silence."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import threading
from contextlib import asynccontextmanager, closing

import pytest
import uvloop
from django.db import OperationalError

from supervisor_app.common.storage import StoreError
from supervisor_app.core.machine.file_limit import WANTED, raise_file_limit
from supervisor_app.fleet.conf import Overlay
from supervisor_app.gateway.edge import link, service, survey
from supervisor_app.gateway.edge.service import Service, is_loopback, listening_socket
from supervisor_app.traffic.models import RequestRecord
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_key, make_ready_server
from tests.integration.gateway.plane import Caller, question, request, streaming
from tests.integration.gateway.scripts import (
    Scripted,
    answers,
    event,
    hangs,
    stream_of,
    streams,
    waits_for,
)

pytestmark = pytest.mark.usefixtures("process_as_before")
in_database = pytest.mark.django_db(transaction=True)

HEALTH = request("/health")
MODELS = request("/v1/models")


# --- The socket ----------------------------------------------------------------------------------------


def port_of(bound):
    return bound.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "family", "v6_only"),
    [("127.0.0.1", socket.AF_INET, None), ("::1", socket.AF_INET6, 1), ("::", socket.AF_INET6, 0)],
)
def test_the_gateway_listens_on_addresses_of_both_kinds(host, family, v6_only):
    with listening_socket(host, 0) as bound:
        assert (bound.family, bound.getsockname()[0]) == (family, host)
        if v6_only is not None:  # all addresses means those of IPv4, too
            assert bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == v6_only


def test_an_address_that_somebody_else_has_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError) as raised:
        listening_socket("127.0.0.1", port_of(other))
    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_that_is_not_of_this_machine_is_an_error():
    with pytest.raises(OSError) as raised:
        listening_socket("203.0.113.1", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_only_those_who_want_to_share_an_address_can():
    with listening_socket("127.0.0.1", 0, shared=True) as one:
        one.listen()
        listening_socket("127.0.0.1", port_of(one), shared=True).close()
        with pytest.raises(OSError) as raised:
            listening_socket("127.0.0.1", port_of(one))
    assert raised.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.7.7.7", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("gpu-1.lan", False),
        ("", False),
    ],
)
def test_whether_only_this_machine_can_reach_it(host, expected):
    assert is_loopback(host) is expected


# --- The limit of open files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 524_288, WANTED),
        (1024, resource.RLIM_INFINITY, WANTED),
        (1024, 4096, 4096),
        (4096, 4096, None),
        (524_288, 524_288, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_gateway_may_open_as_many_files_as_it_has_connections(monkeypatch, soft, hard, expected):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: changes.append(limits))
    raise_file_limit()
    assert changes == ([] if expected is None else [(expected, hard)])


def test_the_kernel_takes_the_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_file_limit()
    soft, still_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 256
    assert still_hard == hard


# --- A service -----------------------------------------------------------------------------------------


class Everywhere(socket.socket):
    """Bound to one address only, but says that it is bound to all."""

    def getsockname(self):
        return ("0.0.0.0", super().getsockname()[1])


class Served:
    """A service that listens, and its clients."""

    def __init__(self, made, port):
        self.service = made
        self._port = port
        self._callers = []

    async def connect(self):
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self._port))
        self._callers.append(caller)
        return caller

    async def ask(self, data):
        """Ask on a new connection."""
        return await (await self.connect()).ask(data)

    async def begins(self, upstream, data):
        """A client whose request has come to the server."""
        before = len(upstream.calls)
        caller = await self.connect()
        await caller.send(data)
        await upstream.until_called(before + 1)
        return caller

    @property
    def refuses(self):
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self._port)) != 0

    def leave(self):
        for caller in self._callers:
            caller.leave()


def make_service(bound, *, insecure_open=False, grace=30.0, on_listening=lambda made: None, **overlay):
    return Service(
        bound,
        overlay=lambda: Overlay(values=overlay),
        allowed_hosts=["localhost"],
        insecure_open=insecure_open,
        public_metrics=False,
        grace_seconds=grace,
        on_listening=on_listening,
    )


@asynccontextmanager
async def served(bound=None, **options):
    """Serve until the block ends; the service is cut off then, unless it has ended before."""
    bound = bound or listening_socket("127.0.0.1", 0)
    port, listens = port_of(bound), asyncio.Event()
    made = make_service(bound, on_listening=lambda made: listens.set(), **options)
    task = asyncio.create_task(made.serve())
    await asyncio.wait({task, asyncio.ensure_future(listens.wait())}, return_when=asyncio.FIRST_COMPLETED)
    clients = Served(made, port)
    try:
        yield clients
    finally:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
        clients.leave()
        assert isinstance(ended, asyncio.CancelledError), ended


@asynccontextmanager
async def upstream(*scripts):
    """A server that is ready, as far as the database knows. It has more slots than anybody needs."""
    server = Scripted(*scripts)
    await server.start()
    await db(make_ready_server, url=f"http://127.0.0.1:{server.port}", pid=11)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture(autouse=True)
def _slots_are_known(monkeypatch):
    """Let slots be known, so that a script is asked for nothing else."""
    monkeypatch.setattr(link.Link, "_learn_slots", lambda self, backend: None)


class Outage(asyncio.Event):
    tries = 0
    """Reads that have failed."""


@pytest.fixture
def outage(monkeypatch):
    """A database that fails until the event is set."""
    over, load = Outage(), survey.load_facts

    def fail(overlay):
        if not over.is_set():
            over.tries += 1
            raise OperationalError("gone")
        return load(overlay)

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
async def test_without_a_database_it_does_not_start_and_leaves_nothing_behind(outage):
    with closing(listening_socket("127.0.0.1", 0)) as bound:
        with pytest.raises(StoreError, match="gone"):
            await make_service(bound).start()
        await eventually(lambda: not readers())


@in_database
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_address_that_is_taken_while_it_starts_is_an_error_too(run):
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
async def test_unless_somebody_said_that_all_may():
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


# --- Its end -------------------------------------------------------------------------------------------


@in_database
async def test_a_stream_in_flight_is_finished_and_nobody_new_is_let_in(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    finish = asyncio.Event()
    script = waits_for(finish, streams(event("a"), event("b")))
    async with upstream(script) as server, served(grace=600) as gateway:
        idle = await gateway.connect()
        await idle.ask(HEALTH)
        caller = await gateway.begins(server, streaming())
        stopping = asyncio.create_task(gateway.service.stop())
        assert await idle.is_cut_off()
        assert gateway.refuses
        assert not stopping.done()
        finish.set()
        answer = await caller.answer()
        assert answer.content == event("a") + event("b") + b"data: [DONE]\n\n"
        assert answer.whole
        await asyncio.wait_for(stopping, DEADLINE)
        assert caplog.messages == ["👋 [GATEWAY] Finishing 1 request, for up to 10 m"]


@in_database
async def test_a_request_that_takes_longer_than_the_grace_is_ended_honestly_and_recorded(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    async with (
        upstream(hangs(stream_of(event("a"))), hangs()) as server,
        served(grace=0.05) as gateway,
    ):
        stream = await gateway.begins(server, streaming())
        await stream.head()
        waiting = await gateway.begins(server, question())
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert b'"code":"gateway_stopping"' in await stream.rest()
        answer = await waiting.answer()
        assert (answer.status, answer.error["code"]) == (503, "gateway_stopping")
        assert answer.fields["retry-after"] == "1"
        await eventually(lambda: all(call.left for call in server.calls))
    assert caplog.messages == ["👋 [GATEWAY] Finishing 2 requests, for up to 0.05 s"]
    assert await RequestRecord.objects.acount() == 2


@in_database
async def test_a_second_request_to_end_waits_for_nobody():
    async with upstream(hangs(stream_of(event("a")))) as server, served(grace=600) as gateway:
        stream = await gateway.begins(server, streaming())
        await stream.head()
        stopping = asyncio.create_task(gateway.service.stop())
        await eventually(lambda: gateway.refuses)
        gateway.service.force()
        await asyncio.wait_for(stopping, DEADLINE)
        assert b'"code":"gateway_stopping"' in await stream.rest()


@in_database
async def test_a_service_forced_from_the_beginning_waits_for_nobody_either():
    async with upstream(hangs()) as server, served(grace=600) as gateway:
        waiting = await gateway.begins(server, question())
        gateway.service.force()
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert (await waiting.answer()).status == 503


@in_database
async def test_with_nothing_in_flight_it_ends_at_once_without_a_word(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    async with served(grace=600) as gateway:
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert gateway.refuses
    assert caplog.messages == []


@in_database
async def test_a_bug_in_it_is_raised_and_it_listens_no_more(monkeypatch):
    def broken(overlay):
        raise RuntimeError("a bug")

    monkeypatch.setattr(link, "REFRESH_SECONDS", 0.01)
    bound, said = listening_socket("127.0.0.1", 0), []
    task = asyncio.create_task(make_service(bound, on_listening=said.append).serve())
    await eventually(lambda: said)
    monkeypatch.setattr(survey, "load_facts", broken)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(task, DEADLINE)
    assert raised.group_contains(RuntimeError, match="a bug")
    assert bound.fileno() == -1
