"""`OrmStore` on a real database: what is read, what is written, what happens when it cannot be."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from supervisor_app.common.storage import StoreError
from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.ports import RunClosed, RunOpened, RunReady
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Model, Status
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.snapshots import (
    json_to_keep,
    load_views,
)
from supervisor_app.fleet.store import OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS
from supervisor_app.traffic.models import QuarantinedRequest
from tests.integration.building import (
    IDENTITY,
    OUT_OF_MEMORY,
    STARTED,
    at,
    change,
    db,
    eventually,
    long_ago,
    make_run,
    make_server,
    make_state,
)

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[3]

OPENED = RunOpened(identity=IDENTITY, adopted=False, retry=0, started_at=STARTED, argv=("llama-server", "-c"))


@asynccontextmanager
async def opened(node="local", overlay=None, command=("llama-server",)):
    store = OrmStore(
        node=node,
        overlay=lambda: overlay or Overlay(),
        command=lambda: command,
        lease=Lease(node),
        hooks=STORE_HOOKS,
    )
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
async def store():
    async with opened() as store:
        yield store


# --- What should run -----------------------------------------------------------------------------------


async def test_only_servers_of_this_node_are_supervised(store):
    await db(make_server, "here", node="local")
    await db(make_server, "there", node="elsewhere")
    assert [config.name for config in await store.configs()] == ["here"]


async def test_a_config_carries_the_row(store):
    await db(make_server, port=9000, max_retries=2, max_health_checks=7, desired_running=False, generation=3)
    (config,) = await store.configs()
    assert (config.spec.port, config.restart.max_retries, config.health.max_checks) == (9000, 2, 7)
    assert (config.desired_running, config.generation, config.restart_generation) == (False, 3, 0)


async def test_the_engines_command_is_in_the_config(store):
    await db(make_server)
    (config,) = await store.configs()
    assert config.spec.argv[0] == "llama-server"


async def test_settings_of_the_config_file_win_over_the_row_of_default_and_no_other():
    overlay = Overlay(values={"port": 9999})
    async with opened(overlay=overlay) as store:
        await db(make_server, "default", port=1)
        await db(make_server, "other", port=2)
        assert [config.spec.port for config in await store.configs()] == [9999, 2]
    assert (await LlamaServer.objects.aget(name="default")).port == 1, "the row keeps what people have set"


# --- What was ------------------------------------------------------------------------------------------


async def test_nothing_is_remembered_of_a_new_server(store):
    await db(make_server)
    remembered = await store.remember("default")
    assert (remembered.version, remembered.generation, remembered.retries) == (0, 0, 0)
    assert (remembered.identity, remembered.run_open, remembered.argv) == (None, False, ())
    assert (remembered.runs, remembered.loads) == ((), ())


async def test_an_open_run_is_remembered_with_its_process(store):
    server = await db(make_server)
    await db(make_state, server, "ready", version=7, generation=3, retries=2)
    await db(
        make_run,
        server,
        ended_at=None,
        pid=4242,
        process_start=99,
        boot_id="boot-1",
        argv=["a", "b"],
        retry=2,
    )
    remembered = await store.remember("default")
    assert (remembered.version, remembered.generation, remembered.retries) == (7, 3, 2)
    assert (remembered.identity, remembered.run_open, remembered.adopted) == (IDENTITY, True, False)
    assert remembered.argv == ("a", "b")
    assert [run.retry for run in remembered.runs] == [2]


async def test_a_process_that_ended_is_not_looked_for(store):
    server = await db(make_server)
    await db(make_run, server, pid=4242, process_start=99, boot_id="boot-1")
    remembered = await store.remember("default")
    assert (remembered.identity, remembered.run_open) == (None, False)


async def test_an_adopted_process_older_than_the_last_ten_runs_is_still_remembered(store):
    server = await db(make_server)
    await db(
        make_run,
        server,
        started_at=at(STARTED - 86400),
        ended_at=None,
        adopted=True,
        pid=4242,
        process_start=99,
        boot_id="boot-1",
    )
    for number in range(12):
        await db(make_run, server, started_at=at(STARTED + number))
    remembered = await store.remember("default")
    assert (remembered.identity, remembered.adopted) == (IDENTITY, True)


async def test_the_last_ten_runs_are_remembered_newest_first(store):
    server = await db(make_server)
    for number in range(12):
        await db(make_run, server, started_at=at(STARTED + number), retry=number)
    assert [run.retry for run in (await store.remember("default")).runs] == list(range(11, 1, -1))


async def test_how_long_past_starts_took_is_remembered_newest_first(store):
    server = await db(make_server)
    for number in range(7):
        start = STARTED + 100 * number
        model = ["llama-server", "-m", f"{number}.gguf"]
        await db(make_run, server, started_at=at(start), ready_at=at(start + number), argv=model)
    await db(make_run, server, started_at=at(STARTED + 900))  # never got ready
    await db(make_run, server, started_at=at(STARTED + 950), ready_at=at(STARTED + 951), adopted=True)
    loads = (await store.remember("default")).loads
    assert loads[0] == (("llama-server", "-m", "6.gguf"), 6)
    assert [seconds for _, seconds in loads] == [6, 5, 4, 3, 2, 1, 0]


# --- What is -------------------------------------------------------------------------------------------


async def test_state_and_history_are_saved(store):
    await db(make_server)
    await store.save(
        change("default", OPENED, status=Status.STARTING, identity=IDENTITY, version=3, generation=2)
    )
    state = await ServerState.objects.aget()
    assert (state.status, state.version, state.generation) == ("starting", 3, 2)
    run = await Run.objects.aget()
    assert (run.pid, run.process_start, run.boot_id) == (4242, 99, "boot-1")
    assert (run.argv, run.started_at, run.ended_at) == (["llama-server", "-c"], at(STARTED), None)


async def test_a_life_from_start_to_end_is_one_row(store):
    await db(make_server)
    await store.save(change("default", OPENED))
    await store.save(change("default", RunReady(at=STARTED + 2)))
    await store.save(
        change(
            "default",
            RunClosed(
                at=STARTED + 9,
                exit=Exit(code=1),
                failure=OUT_OF_MEMORY,
                last_lines=("one", "two"),
                evidence={"oom": "x"},
                note="Because.",
            ),
        )
    )
    run = await Run.objects.aget()
    assert (run.ready_at, run.ended_at) == (at(STARTED + 2), at(STARTED + 9))
    assert (run.exit_code, run.signal, run.last_lines) == (1, None, "one\ntwo")
    assert (run.evidence, run.note) == ({"oom": "x"}, "Because.")
    assert (run.failure_kind, run.failure_title) == ("out_of_memory", OUT_OF_MEMORY.title)
    assert (run.failure_detail, run.failure_hint) == (OUT_OF_MEMORY.detail, OUT_OF_MEMORY.hint)


async def test_an_end_that_was_asked_for_is_no_failure(store):
    await db(make_server)
    await store.save(change("default", OPENED, RunClosed(at=STARTED + 1, exit=Exit(signal=15), failure=None)))
    run = await Run.objects.aget()
    assert (run.exit_code, run.signal, run.failure_kind) == (None, 15, "")


async def test_ready_counts_once_in_a_life(store):
    await db(make_server)
    await store.save(change("default", OPENED, RunReady(at=STARTED + 1), RunReady(at=STARTED + 5)))
    assert (await Run.objects.aget()).ready_at == at(STARTED + 1)


async def test_an_adopted_process_that_nobody_can_see_into_is_recorded(store):
    await db(make_server)
    await store.save(change("default", RunOpened(identity=None, adopted=True, retry=0, started_at=STARTED)))
    run = await Run.objects.aget()
    assert (run.pid, run.boot_id, run.argv, run.adopted) == (None, "", [], True)


async def test_a_run_that_nobody_closed_is_closed_by_the_next(store):
    server = await db(make_server)
    await db(make_run, server, started_at=at(STARTED - 50), ended_at=None)
    await store.save(change("default", OPENED))
    old, new = [run async for run in Run.objects.order_by("started_at")]
    assert old.ended_at == new.started_at
    assert new.ended_at is None


async def test_several_events_of_one_step_are_saved_in_their_order(store):
    await db(make_server)
    second = RunOpened(identity=IDENTITY, adopted=False, retry=1, started_at=STARTED + 10)
    closed = RunClosed(at=STARTED + 5, exit=Exit(code=1), failure=None)
    await store.save(change("default", OPENED, closed, second))
    runs = [(run.retry, run.ended_at) async for run in Run.objects.order_by("started_at")]
    assert runs == [(0, at(STARTED + 5)), (1, None)]


async def test_the_state_is_one_row_however_often_it_is_saved(store):
    await db(make_server)
    await store.save(change(version=1, status=Status.READY, started_at=STARTED))
    await store.save(change(version=2))
    state = await ServerState.objects.aget()
    assert (state.version, state.status, state.started_at) == (2, "initial", None)


async def test_state_and_history_are_saved_together_or_not_at_all(store):
    await db(make_server)
    await store.save(change(version=1))
    impossible = RunClosed(at=STARTED + 1, exit=Exit(code=1, signal=9), failure=None)
    with pytest.raises(StoreError):
        await store.save(change("default", OPENED, impossible, version=2))
    assert (await ServerState.objects.aget()).version == 1
    assert not await Run.objects.aexists()


@pytest.mark.parametrize(
    ("odd", "stored"),
    [
        ("a\0b", "ab"),  # PostgreSQL takes no NUL
        ("caf\udce9", "caf?"),  # a command line that is not UTF-8, as Python reads it
        ("\ud83d", "?"),  # half an emoji out of somebody's JSON
        ("ü€😀", "ü€😀"),
    ],
)
async def test_text_that_no_database_takes_is_stored_without_it(odd, stored, store):
    await db(make_server)
    failure = replace(OUT_OF_MEMORY, detail=odd)
    opened = replace(OPENED, argv=(odd,))
    closed = RunClosed(at=STARTED + 1, exit=Exit(code=1), failure=failure, last_lines=(odd, odd))
    models = (Model(id=odd, name=odd),)
    await store.save(change("default", opened, closed, detail=odd, failure=failure, models=models))
    state, run = await ServerState.objects.aget(), await Run.objects.aget()
    assert (state.detail, state.served[0]["id"]) == (stored, stored)
    assert state.failure == json_to_keep(failure) | {"detail": stored}
    assert (run.argv, run.failure_detail, run.last_lines) == ([stored], stored, f"{stored}\n{stored}")


async def test_a_server_that_was_deleted_meanwhile_is_ignored(store):
    await store.save(change("deleted", OPENED))
    assert not await ServerState.objects.aexists()
    assert not await Run.objects.aexists()


async def test_a_server_that_moved_to_another_node_is_not_written_any_more(store):
    server = await db(make_server, node="elsewhere")
    await store.save(change())
    assert not await ServerState.objects.filter(server=server).aexists()


async def test_a_save_is_a_sign_of_life(store):
    server = await db(make_server)
    await db(make_state, server, seen_at=long_ago())
    assert (await db(load_views))[0].stale_since is not None
    await store.save(change())
    assert (await db(load_views))[0].stale_since is None


async def test_a_heartbeat_is_a_sign_of_life_of_the_named_servers(store):
    for name in ("one", "two"):
        await db(make_state, await db(make_server, name), seen_at=long_ago())
    before = timezone.now() - timedelta(seconds=1)
    await store.heartbeat(["one"])
    one, two = [state async for state in ServerState.objects.order_by("server__name")]
    assert one.seen_at >= before
    assert two.seen_at < before


async def test_devices_are_kept_with_the_lease_until_the_next_look(store):
    seen = Survey((Device(id="host", name="Host\0 memory", total=8, free=5, ours=1),), ("A GPU is lost.",))
    await store.heartbeat([])
    await store.heartbeat([], seen)
    await store.heartbeat([])
    (node,) = await db(known_devices)
    assert node.devices == (Device(id="host", name="Host memory", total=8, free=5, ours=1),)
    assert node.problems == ("A GPU is lost.",)


# --- A database that fails -----------------------------------------------------------------------------


@pytest.fixture
def locked_database(settings):
    """Let another process hold the write lock of the SQLite file, for which nobody waits for long."""
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own way of failing")
    waited = connection.settings_dict["OPTIONS"]["timeout"]
    connection.settings_dict["OPTIONS"]["timeout"] = 0.05
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()
    connection.settings_dict["OPTIONS"]["timeout"] = waited


async def test_a_locked_database_is_a_store_error(locked_database, store):
    with pytest.raises(StoreError, match="The database failed: database is locked"):
        await store.save(change())
    with pytest.raises(StoreError, match="locked"):
        await store.heartbeat(["default"])


async def test_the_wanted_servers_can_be_read_while_the_database_is_locked(store, request):
    await db(make_server)
    request.getfixturevalue("locked_database")
    assert [config.name for config in await store.configs()] == ["default"]
    assert (await store.remember("default")).version == 0


async def test_reading_that_fails_is_a_store_error(store):
    def fail(*args):
        raise DatabaseError("gone\n\tIs the server running?")

    await store.reader.call(lambda: connection.execute_wrappers.append(fail))
    with pytest.raises(StoreError, match=r"^The database failed: gone$"):
        await store.configs()
    with pytest.raises(StoreError, match="gone"):
        await store.remember("default")


async def test_a_connection_that_broke_is_replaced_by_the_next_call(store):
    await store.configs()
    await store.reader.call(lambda: connection.connection.close())  # behind Django's back
    with pytest.raises(StoreError):
        await store.configs()
    assert await store.configs() == []


async def test_a_bug_is_raised_as_it_is_and_the_next_call_is_done():
    def command():
        raise ZeroDivisionError

    store = OrmStore(node="local", overlay=Overlay, command=command, lease=Lease("local"), hooks=STORE_HOOKS)
    with pytest.raises(ZeroDivisionError):
        await store.configs()
    assert (await store.remember("nobody")).version == 0
    store.close()


async def test_a_call_that_was_given_up_before_its_turn_is_not_done(store):
    waiting, go_on, done = threading.Event(), threading.Event(), []

    def wait():
        waiting.set()
        go_on.wait(5)

    first = asyncio.create_task(store.reader.call(wait))
    await eventually(waiting.is_set)
    second = asyncio.create_task(store.reader.call(lambda: done.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    go_on.set()
    await first
    await store.configs()
    assert done == []


def test_a_database_that_hangs_does_not_keep_the_process_from_ending():
    code = (
        "import asyncio, time, django; django.setup()\n"
        "from supervisor_app.fleet.conf import Overlay\n"
        "from supervisor_app.fleet.lease import Lease; from supervisor_app.fleet.store import OrmStore\n"
        "wait = lambda: time.sleep(60)\n"
        "from supervisor_app.roles.store_hooks import STORE_HOOKS\n"
        "lease = Lease('local')\n"
        "store = OrmStore(node='local', overlay=Overlay, command=wait, lease=lease, hooks=STORE_HOOKS)\n"
        "try: asyncio.run(asyncio.wait_for(store.configs(), 0.1))\n"
        "except TimeoutError: store.close()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=20)


async def test_the_deaths_of_quarantined_requests_are_known_with_the_configuration(store):
    await db(make_server)
    now = timezone.now()
    for name, until in (("a", now + timedelta(minutes=1)), ("b", now - timedelta(minutes=1))):
        await db(
            QuarantinedRequest.objects.create,
            server="default",
            body_hash=name,
            incident="1",
            reason="It crashed.",
            deaths=[["default", 11 if name == "a" else 12], ["elsewhere", 13]],
            at=now,
            until=until,
        )
    (config,) = await store.configs()
    assert config.explained == {11}


async def test_the_processes_that_died_are_remembered_newest_last(store):
    server = await db(make_server)
    for pid, kind in ((11, "exited"), (12, ""), (13, "killed_by_signal")):
        await db(make_run, server, pid=pid, failure_kind=kind)
    assert (await store.remember("default")).deaths == (11, 13)
