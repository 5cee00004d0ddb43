"""Writes of `OrmStore` to a real database: states, runs, signs of life."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from supervisor_app.common.storage import StoreError
from supervisor_app.core.changes import RoomCounted, RunClosed, RunOpened, RunReady
from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.loaded import Loaded, RoomOutcome
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Model, Status
from supervisor_app.engine.build import build_of
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.models import Run, ServerState
from supervisor_app.fleet.snapshots import json_to_keep, load_views
from tests.integration.building import (
    IDENTITY,
    OUT_OF_MEMORY,
    STARTED,
    at,
    change,
    db,
    long_ago,
    make_run,
    make_server,
    make_state,
)
from tests.integration.fleet.storing import opened

pytestmark = pytest.mark.django_db(transaction=True)

OPENED = RunOpened(identity=IDENTITY, adopted=False, retry=0, started_at=STARTED, argv=("llama-server", "-c"))


@pytest.fixture
async def store():
    async with opened() as store:
        yield store


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


async def test_the_next_supervisor_knows_whether_a_secret_has_changed(store):
    await db(make_server)
    await store.save(change("default", replace(OPENED, secrets="12ab34cd"), identity=IDENTITY))
    assert (await store.remember("default")).secrets == "12ab34cd"


async def test_loads_and_decisions_about_room_are_counted_and_told_as_metrics(store, async_client):
    await db(make_server)
    for loaded in (Loaded(room_ms=250, load_ms=1500), Loaded(load_ms=500), None):
        await store.save(change("default", OPENED))
        await store.save(change("default", RunReady(at=STARTED + 2, loaded=loaded)))
    for outcome in (RoomOutcome.EVICTED, RoomOutcome.EVICTED, RoomOutcome.REFUSED):
        await store.save(change("default", RoomCounted(outcome=outcome)))
    told = (await async_client.get("/metrics")).content.decode().splitlines()
    assert 'llamaproxy_server_room_seconds_count{server="default"} 2.0' in told
    assert 'llamaproxy_server_room_seconds_sum{server="default"} 0.25' in told
    assert 'llamaproxy_server_load_seconds_count{server="default"} 2.0' in told
    assert 'llamaproxy_server_load_seconds_sum{server="default"} 2.0' in told
    assert 'llamaproxy_server_evictions_total{server="default"} 2.0' in told
    assert 'llamaproxy_server_refusals_total{server="default"} 1.0' in told


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


async def test_a_run_knows_its_variables_and_its_build_once_the_engine_has_told_it(store):
    await db(make_server)
    command = [sys.executable, "-c", "print('version: 8763 (ff5ef8278)')"]
    begun = replace(OPENED, argv=(*command, "-m", "x"), environment={"CUDA_VISIBLE_DEVICES": "0"})
    await store.save(change("default", begun))
    run = await Run.objects.aget()
    assert (run.build, run.environment) == ("", {"CUDA_VISIBLE_DEVICES": "0"})
    await asyncio.to_thread(build_of, command, {})
    await store.save(change("default", RunClosed(at=STARTED + 1, exit=Exit(code=1), failure=None)))
    assert (await Run.objects.aget()).build == "b8763"


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


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_save_of_a_host_whose_clock_is_slow_is_a_sign_of_life_all_the_same(
    is_known, store, monkeypatch
):
    server = await db(make_server)
    if is_known:
        await db(make_state, server, seen_at=long_ago())
    monkeypatch.setattr(timezone, "now", long_ago)
    monkeypatch.setattr(ServerState._meta.get_field("seen_at"), "_get_default", long_ago)
    before = datetime.now(UTC)
    await store.save(change())
    assert (await ServerState.objects.aget()).seen_at >= before - timedelta(seconds=1)
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
