"""A node's supervisor put together: config file and engine as they change, nudges, the whole with real parts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from supervisor_app.core import node
from supervisor_app.core.chronicle import RENAMED
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.commands import ask
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.fleet.lease import Lease, NodeLease
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.gateway.edge import survey
from supervisor_app.gateway.edge.service import Service, listening_socket
from supervisor_app.roles import runtime as runtime_module
from supervisor_app.roles.runtime import EngineSource, Runtime
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_server, socket_to
from tests.integration.gateway.plane import request
from tests.ports import free_port

FAKE = Path(__file__).parents[2] / "fake_llama_server.py"


# --- The engine ----------------------------------------------------------------------------------------


@pytest.fixture
def binary(tmp_path):
    """Where a program is, once `make` was called."""
    path = tmp_path / "llama-server"

    def make(name="llama-server"):
        made = tmp_path / name
        made.write_text("#!/bin/sh\n")
        made.chmod(0o755)
        return made

    path_and_make = (path, make)
    return path_and_make


def test_the_configured_engine_is_found_once_and_told(binary, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.roles.runtime")
    path, make = binary
    make()
    source = EngineSource(lambda: Overlay(binary=str(path)))
    assert source() == source() == (str(path),)
    assert caplog.messages == [f"🔧 [ENGINE] Using llama-server at {path}"]


def test_a_configured_engine_that_is_missing_is_told_once_and_started_by_its_name(binary, caplog):
    path, _ = binary
    source = EngineSource(lambda: Overlay(binary=str(path)))
    assert source() == source() == (str(path),)
    assert len(caplog.messages) == 1
    assert str(path) in caplog.messages[0]


def test_a_configured_engine_that_appears_is_used_by_its_full_path(binary, monkeypatch):
    path, make = binary
    monkeypatch.setenv("HOME", str(path.parent))
    source = EngineSource(lambda: Overlay(binary="~/llama-server"))
    assert source() == ("~/llama-server",)
    make()
    assert source() == (str(path),)


def test_another_engine_is_taken_when_the_config_names_another(binary):
    _, make = binary
    first, second = make("first"), make("second")
    configured = [first]
    source = EngineSource(lambda: Overlay(binary=str(configured[0])))
    assert source() == (str(first),)
    configured[0] = second
    assert source() == (str(second),)


def test_an_engine_on_the_path_is_kept_although_another_appears_before_it(tmp_path, monkeypatch):
    for name in ("early", "late"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'early'}:{tmp_path / 'late'}")

    def make(name):
        path = tmp_path / name / "llama-server"
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    late = make("late")
    source = EngineSource(Overlay)
    assert source() == (str(late),)
    make("early")
    assert source() == (str(late),), "a server must not restart for it"


def test_a_node_without_any_engine_says_once_how_to_get_one_and_looks_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    source = EngineSource(Overlay)
    assert source() == source() == ()
    assert len(caplog.messages) == 1
    assert "No llama-server found. Install llama.cpp" in caplog.messages[0]
    path = tmp_path / "llama-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    assert source() == (str(path),)


# --- The whole -----------------------------------------------------------------------------------------


@asynccontextmanager
async def running(tmp_path, gateway=None, memory=None, **overlay):
    """A Runtime on the fake llama-server."""
    launcher = tmp_path / "llama-server"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -I {FAKE} "$@"\n')
    launcher.chmod(0o755)
    found = Overlay(binary=str(launcher), values=overlay, memory=memory)
    made = Runtime(
        node="local",
        overlay=lambda: found,
        log_dir=tmp_path / "logs",
        lease=Lease("local"),
        gateway=gateway,
    )
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def listens():
    return supervisor_channel("local") in get_channel_layer().channels


def supervision_task():
    return next(task for task in asyncio.all_tasks() if "Runtime.run" in repr(task.get_coro()))


async def killed(pid):
    """It lives, until now."""
    os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):  # who watched it has reaped it
        await asyncio.to_thread(os.waitpid, pid, 0)


async def state_is(status):
    async with asyncio.timeout(DEADLINE):
        while not await ServerState.objects.filter(status=status).aexists():
            await asyncio.sleep(0.02)


async def detail_is(detail):
    async with asyncio.timeout(DEADLINE):
        while not await ServerState.objects.filter(detail=detail).aexists():
            await asyncio.sleep(0.02)


@pytest.fixture
def no_polling(monkeypatch):
    """Only a nudge makes it look."""
    monkeypatch.setattr(node, "POLL_SECONDS", 60.0)


@pytest.mark.django_db(transaction=True)
async def test_a_wish_is_acted_on_at_once(tmp_path, no_polling):
    async with running(tmp_path):
        await eventually(listens)
        await db(make_server, port=free_port(), desired_running=False)
        # As a view does: in a thread, over the channel layer of this event loop.
        await database_sync_to_async(ask)(Wish.START, LlamaServer.objects.all())
        await state_is("ready")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("message", [{"type": "no.such.thing"}, {}, {"type": 5}])
async def test_the_ear_survives_a_message_that_makes_no_sense(message, tmp_path, no_polling, monkeypatch):
    monkeypatch.setattr(runtime_module, "WORKER_RETRY_SECONDS", 0.02)
    async with running(tmp_path):
        await eventually(listens)
        await get_channel_layer().send(supervisor_channel("local"), message)
        await db(make_server, port=free_port(), desired_running=False)
        async with asyncio.timeout(DEADLINE):
            while not await ServerState.objects.aexists():
                await database_sync_to_async(ask)(Wish.STOP, LlamaServer.objects.all())
                await asyncio.sleep(0.1)


@pytest.mark.django_db(transaction=True)
async def test_from_start_to_stop_everything_is_on_disk_and_on_the_page(tmp_path):
    server = await db(make_server, port=free_port())
    async with socket_to() as page:
        async with running(tmp_path, args=["--alias", "tiny"]):
            await state_is("ready")
            run = await Run.objects.aget()
            assert (run.ended_at, run.adopted) == (None, False)
            assert run.argv[-2:] == ["--alias", "tiny"]
            state = await ServerState.objects.aget()
            assert (state.pid, state.url) == (run.pid, f"http://localhost:{server.port}")
            async with asyncio.timeout(DEADLINE):
                while 'data-status="ready"' not in await page.receive_from(timeout=DEADLINE):
                    pass
        await run.arefresh_from_db()
        assert run.ended_at is not None
        assert run.failure_kind == ""
        assert (await ServerState.objects.aget()).status == "initial"
        async with asyncio.timeout(DEADLINE):
            while 'data-status="initial"' not in await page.receive_from(timeout=DEADLINE):
                pass


@pytest.mark.django_db(transaction=True)
async def test_a_server_waits_for_its_turn_to_load_and_says_so(tmp_path):
    await db(make_server, "a", port=free_port(), args=["--fake-load-seconds", "600"])
    await db(make_server, "b", port=free_port())
    async with running(tmp_path, memory=MemoryRules(make_room=False, parallel_loads=1)):
        await detail_is("Waits for its turn to load: `a` loads now.")
        assert not await Run.objects.filter(server__name="b").aexists()
        await database_sync_to_async(ask)(Wish.STOP, LlamaServer.objects.filter(name="a"))
        await state_is("ready")


@pytest.mark.django_db(transaction=True)
async def test_a_deleted_server_is_stopped_and_disappears_from_the_page(tmp_path):
    server = await db(make_server, port=free_port())
    async with running(tmp_path), socket_to() as page:
        await state_is("ready")
        await server.adelete()
        async with asyncio.timeout(DEADLINE):
            while "No server yet" not in await page.receive_from(timeout=DEADLINE):
                pass


@pytest.mark.django_db(transaction=True)
async def test_a_renamed_server_waits_for_its_port_and_starts_anew(tmp_path):
    stubborn = {"args": ["--fake-ignore-sigterm"], "stop_grace_ms": 1000}
    server = await db(make_server, "old", port=free_port(), **stubborn)
    async with running(tmp_path):
        await state_is("ready")
        pid = (await Run.objects.aget()).pid
        await LlamaServer.objects.aupdate(name="new")
        waits = f"Waiting for port {server.port}: pid {pid} of the server old has it until it has ended."
        await detail_is(waits)
        await state_is("ready")
        new, old = [run async for run in Run.objects.all()]
        assert (old.note, old.failure_kind) == (RENAMED, "")
        assert (new.adopted, new.pid == pid) == (False, False)


@pytest.mark.django_db(transaction=True)
async def test_a_supervisor_that_loses_its_node_says_so_once_and_leaves_the_servers(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(node, "HEARTBEAT_SECONDS", 0.0)
    await db(make_server, port=free_port())
    async with running(tmp_path):
        await state_is("ready")
        (pid,) = [run.pid async for run in Run.objects.all()]
        supervision = supervision_task()
        await NodeLease.objects.aupdate(holder="77 5 boot gpu-2", token="theirs")
        with pytest.raises(NodeTakenError, match="pid 77 on gpu-2"):
            async with asyncio.timeout(DEADLINE):
                await asyncio.shield(supervision)
        assert await Run.objects.filter(pid=pid, ended_at=None).aexists()
        await killed(pid)
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["❌ [NODE] pid 77 on gpu-2 has node 'local' now: ending, the servers go on"]


@pytest.mark.django_db(transaction=True)
async def test_a_bug_in_supervision_is_raised_and_the_servers_go_on(tmp_path, monkeypatch):
    await db(make_server, port=free_port())
    async with running(tmp_path):
        await state_is("ready")
        (pid,) = [run.pid async for run in Run.objects.all()]
        supervision = supervision_task()

        async def broken(*args):
            raise RuntimeError("bug")

        monkeypatch.setattr(HttpProbe, "health", broken)
        with pytest.raises(RuntimeError, match="bug"):
            async with asyncio.timeout(DEADLINE):
                await asyncio.shield(supervision)
        await killed(pid)


# --- With the gateway in the same process --------------------------------------------------------------


@pytest.fixture
def bound(process_as_before):
    """Where the gateway listens."""
    with listening_socket("127.0.0.1", 0) as bound:
        yield bound


def make_gateway(bound, grace=30.0):
    return Service(
        bound,
        overlay=Overlay,
        allowed_hosts=["localhost"],
        insecure_open=False,
        public_metrics=True,
        grace_seconds=grace,
    )


SLOW = ["--fake-token-seconds", "0.02"]


def end(task):
    """As a signal does it. Await what is returned."""
    task.cancel()
    return asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def stream_through(bound, tokens):
    """The reader of an answer that has begun."""
    body = {"messages": [], "max_tokens": tokens, "stream": True}
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        writer.write(request("/v1/chat/completions", body=body))
        await reader.readuntil(b'"content": " word0"')
        try:
            yield reader
        finally:
            writer.close()


@pytest.mark.django_db(transaction=True)
async def test_requests_the_gateway_began_are_finished_before_the_servers_stop(tmp_path, bound):
    await db(make_server, port=free_port())
    async with running(tmp_path, make_gateway(bound), args=SLOW):
        await state_is("ready")
        async with stream_through(bound, tokens=20) as reader:
            ending = end(supervision_task())
            assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            await ending
    assert await ServerState.objects.filter(status="initial").aexists()


@pytest.mark.django_db(transaction=True)
async def test_a_second_request_to_end_waits_for_no_request(tmp_path, bound):
    await db(make_server, port=free_port())
    async with running(tmp_path, make_gateway(bound, grace=600), args=SLOW) as made:
        await state_is("ready")
        async with stream_through(bound, tokens=10**6) as reader:
            ending = end(supervision_task())
            await reader.readuntil(b"data: ")  # it is not broken off
            made.force()
            assert b"gateway_stopping" in await reader.read()
            await ending
    assert await ServerState.objects.filter(status="initial").aexists()


@pytest.mark.django_db(transaction=True)
async def test_a_bug_in_the_gateway_is_raised_as_one_in_supervision_is(tmp_path, bound, monkeypatch):
    await db(make_server, port=free_port())

    def broken(*_):
        raise RuntimeError("bug")

    async with running(tmp_path, make_gateway(bound)):
        await state_is("ready")
        (pid,) = [run.pid async for run in Run.objects.all()]
        supervision = supervision_task()
        monkeypatch.setattr(survey, "load_facts", broken)
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(DEADLINE):
                await asyncio.shield(supervision)
        assert raised.group_contains(RuntimeError, match="bug")
        await killed(pid)
