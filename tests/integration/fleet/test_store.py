"""Reads of `OrmStore` from a real database: the servers that should run, and their past."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.traffic.models import QuarantinedRequest
from tests.integration.building import IDENTITY, STARTED, at, db, make_run, make_server, make_state
from tests.integration.fleet.storing import opened

pytestmark = pytest.mark.django_db(transaction=True)


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
