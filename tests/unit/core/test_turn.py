"""Servers that share an alias restart one after the other, as the supervisor of one of them does it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from supervisor_app.core.changes import Remembered, RunOpened
from supervisor_app.core.ports import TurnHolder
from supervisor_app.core.sightings import Health, PortHolder
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import RunSummary, Status
from supervisor_app.core.testing import make_config, make_spec, settle
from supervisor_app.core.turn import AWAY
from tests.unit.core.seamless import changed, serving
from tests.unit.core.seamless import config as seamless_config
from tests.unit.core.supervising import SURVIVOR, bench

ALIAS = "chat"
OTHER = TurnHolder(server="b", alias=ALIAS)
WAITS = "Waits to restart until `b` is ready again: both answer to `chat`."
OTHER_SPEC = make_spec(args=("-m", "other.gguf"))


def config(**changes):
    return replace(make_config("a", restart=RestartPolicy(drain_seconds=0)), shared_names=(ALIAS,), **changes)


def wish(generation=2, **changes):
    return config(generation=generation, restart_generation=generation, **changes)


def acted(b):
    return b.store.changes[-1].generation


async def unsaved(timeout):
    """Answer as a recorder does whose store is full."""
    return False


@asynccontextmanager
async def ready(built=None, remembered=None, prepare=None, holder=OTHER):
    async with bench(built or config(), remembered, prepare=prepare) as b:
        if holder is not None:
            b.store.turns[ALIAS] = holder
        await b.clock.advance(1)
        assert b.status.status is Status.READY
        yield b


async def apply(b, built):
    """Apply a configuration, as the supervisor does with what it reads each second."""
    b.supervisor.apply(built)
    await b.clock.advance(1)


async def frees(b, built):
    b.store.turns.clear()
    await apply(b, built)
    await b.clock.advance(5)


@pytest.mark.parametrize("changed_config", [wish(), config(spec=OTHER_SPEC)], ids=["restart", "change"])
async def test_a_planned_restart_waits_for_the_turn_then_has_it_until_it_is_ready(changed_config):
    async with ready() as b:
        await apply(b, changed_config)
        assert (b.status.status, b.status.detail, len(b.processes.spawned)) == (Status.READY, WAITS, 1)
        assert acted(b) == 1
        b.probe.answer = Health.LOADING
        await frees(b, changed_config)
        assert (b.status.status, len(b.processes.alive)) == (Status.STARTING, 1)
        assert len(b.processes.spawned) == 2
        assert acted(b) == changed_config.generation
        assert b.store.turns[ALIAS].server == "a"
        b.probe.answer = Health.OK
        await b.clock.advance(5)
        assert (b.status.status, b.store.turns) == (Status.READY, {})
        assert b.status.detail.startswith("Serving")


async def test_a_server_without_a_replica_asks_nobody():
    async with ready() as b:
        await apply(b, replace(wish(), shared_names=()))
        await b.clock.advance(5)
        assert (len(b.processes.spawned), b.store.asked, b.store.released) == (2, [], [])


async def test_a_server_that_failed_after_its_restart_keeps_its_turn():
    async with ready(holder=None) as b:
        b.probe.answer = Health.SILENT
        await apply(b, wish())
        await b.clock.advance(2)
        b.processes.last.die(code=1)
        await b.clock.advance(0.1)
        assert b.status.status is Status.CRASHED
        assert b.store.turns[ALIAS].server == "a"


async def test_a_server_that_waits_for_one_that_failed_says_what_to_do():
    async with ready(holder=replace(OTHER, failed=True)) as b:
        await apply(b, wish())
        assert b.status.detail.startswith("Stays as it is: `b`, which answers to `chat`, too, did not get")
        assert b.status.detail.endswith("Mend or stop `b`, or restart this one: llama restart a --now.")


async def test_at_once_does_not_wait():
    async with ready() as b:
        await apply(b, wish())
        await apply(b, wish(3, at_once=True))
        await b.clock.advance(5)
        assert (len(b.processes.spawned), acted(b)) == (2, 3)


async def test_a_stop_takes_the_place_of_a_restart_that_waits():
    async with ready() as b:
        await apply(b, wish())
        stopped = wish(3, desired_running=False)
        stopped = replace(stopped, restart_generation=2)
        await apply(b, stopped)
        await frees(b, stopped)
        assert (b.status.status, len(b.processes.spawned), acted(b)) == (Status.INITIAL, 1, 3)


async def test_a_start_changes_nothing_and_counts_with_the_restart():
    async with ready() as b:
        await apply(b, wish())
        started = replace(wish(3), restart_generation=2)
        await apply(b, started)
        assert (b.status.detail, acted(b)) == (WAITS, 1)
        await frees(b, started)
        assert (b.status.status, len(b.processes.spawned), acted(b)) == (Status.READY, 2, 3)


async def test_a_start_beside_a_change_that_waits_is_acted_on():
    async with ready() as b:
        await apply(b, config(spec=OTHER_SPEC))
        await apply(b, config(spec=OTHER_SPEC, generation=2))
        assert (b.status.detail, acted(b)) == (WAITS, 2)


async def test_a_change_that_is_taken_back_waits_no_more():
    async with ready() as b:
        await apply(b, config(spec=OTHER_SPEC))
        await apply(b, config())
        assert b.status.detail.startswith("Serving")
        await frees(b, config())
        assert len(b.processes.spawned) == 1


async def test_a_change_of_a_change_and_one_beside_a_restart_wait_on():
    third = config(spec=make_spec(args=("-m", "third.gguf")))
    async with ready() as b:
        await apply(b, config(spec=OTHER_SPEC))
        await apply(b, third)
        assert b.status.detail == WAITS
        await apply(b, wish(spec=third.spec))
        await apply(b, wish(spec=OTHER_SPEC))
        await frees(b, wish(spec=OTHER_SPEC))
        assert (b.status.status, len(b.processes.spawned), acted(b)) == (Status.READY, 2, 2)


async def test_a_crash_waits_for_nobody_and_brings_the_wish_about():
    async with ready() as b:
        await apply(b, wish())
        b.processes.last.die(signal=9)
        await b.clock.advance(5)
        assert (b.status.status, len(b.processes.spawned), acted(b)) == (Status.READY, 2, 2)


def launched(b):
    events = [event for change in b.store.changes for event in change.run_events]
    return [event.argv[-1] for event in events if isinstance(event, RunOpened)]


async def test_a_crash_while_a_change_waits_brings_back_what_ran():
    """The change may not work: the server whose turn it is may have failed on it."""
    async with ready() as b:
        await apply(b, config(spec=OTHER_SPEC))
        b.processes.last.die(signal=9)
        await b.clock.advance(0.5)
        assert b.status.status is Status.CRASHED
        await b.clock.advance(5)
        assert (b.status.status, b.status.detail) == (Status.READY, WAITS)
        assert launched(b) == ["model.gguf", "model.gguf"]
        await frees(b, config(spec=OTHER_SPEC))
        assert launched(b)[2:] == ["other.gguf"]


async def test_a_server_that_is_given_up_meanwhile_gets_its_change():
    once = RestartPolicy(drain_seconds=0, max_retries=0)
    async with ready(replace(config(), restart=once)) as b:
        await apply(b, replace(config(spec=OTHER_SPEC), restart=once))
        b.processes.last.die(signal=9)
        await b.clock.advance(5)
        assert (b.status.status, launched(b)) == (Status.READY, ["model.gguf", "other.gguf"])


async def test_while_the_database_is_away_it_waits_and_releases_later():
    async with ready(holder=None) as b:
        b.store.down = True
        await apply(b, wish())
        assert b.status.detail == AWAY
        b.store.down = False
        b.probe.answer = Health.LOADING
        await apply(b, wish())
        await b.clock.advance(3)
        saved, b.recorder.saved = b.recorder.saved, unsaved
        b.probe.answer = Health.OK
        await b.clock.advance(8)
        assert ALIAS in b.store.turns, "that it is ready is not saved yet"
        b.recorder.saved, b.store.releasing = saved, False
        await b.clock.advance(60)
        assert ALIAS in b.store.turns
        b.store.releasing = True
        await b.clock.advance(60)
        assert (b.status.status, b.store.turns) == (Status.READY, {})


async def test_an_answer_that_comes_after_the_wish_was_withdrawn_restarts_nothing():
    async with ready(holder=None) as b:
        b.store.answering = asyncio.Event()
        await apply(b, config(spec=OTHER_SPEC))
        await apply(b, config())
        b.store.answering.set()
        await settle()
        await b.clock.advance(3)
        assert (b.store.asked, len(b.processes.spawned), b.store.turns) == (["a"], 1, {})


def survives(b):
    spec = make_spec()
    b.processes.survivors[SURVIVOR] = PortHolder(
        identity=SURVIVOR, command="llama-server", is_llama_server=True, argv=spec.argv
    )
    b.store.turns[ALIAS] = OTHER


OPEN = Remembered(
    generation=1,
    run_open=True,
    identity=SURVIVOR,
    status=Status.READY,
    argv=make_spec().argv,
    runs=(RunSummary(retry=0, adopted=False, started_at=1.0, ready_at=2.0),),
)


async def test_a_change_that_a_killed_supervisor_left_undone_waits_too():
    changed_config = config(spec=OTHER_SPEC)
    async with ready(changed_config, OPEN, survives) as b:
        await apply(b, changed_config)
        assert (b.status.detail, b.processes.spawned) == (WAITS, [])
        await frees(b, changed_config)
        assert (b.status.status, len(b.processes.spawned)) == (Status.READY, 1)


async def test_a_turn_that_a_killed_supervisor_left_is_released_once_all_is_done():
    async with bench(config(), replace(OPEN, holds_turn=True), prepare=survives) as b:
        await b.clock.advance(2)
        assert (b.status.status, b.store.released) == (Status.READY, ["a"])


async def test_without_a_gap_nobody_waits_but_the_restart_in_its_place_does():
    shared = replace(seamless_config(seamless=True), shared_names=(ALIAS,))
    async with serving(shared) as b:
        b.store.turns[ALIAS] = OTHER
        b.room.beside = "Both do not fit"
        changed(b, "-c", "512")
        await b.clock.advance(1)
        assert (b.status.status, b.status.detail, b.store.asked[:1]) == (Status.READY, WAITS, ["default"])
