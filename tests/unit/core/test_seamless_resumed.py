"""A supervisor that was killed during a restart without a gap: the next one ends with one process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.changes import RunClosed, RunOpened, RunReady
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Stage, Status
from tests.unit.core.seamless import (
    LEAVING,
    LOADING,
    NEW,
    OLD,
    PORT,
    SECOND,
    SPEC,
    config,
    found,
    remembered,
    serving,
)

NEW_SPEC = SPEC.on_port(SECOND)


def both(b):
    b.processes.survivors = {OLD: found(OLD), NEW: found(NEW, NEW_SPEC)}


def only_new(b):
    b.processes.survivors = {NEW: found(NEW, NEW_SPEC)}
    b.processes.unrecorded = found(NEW, NEW_SPEC)


def only_old(b):
    b.processes.survivors = {OLD: found(OLD)}


def living(b):
    return {process.identity for process in (*b.processes.adopted, *b.processes.spawned) if process.alive}


async def test_a_new_process_that_was_loading_loads_on_and_takes_over():
    def loading(b):
        both(b)
        b.probe.loading.add(SECOND)

    async with serving(record=remembered(LOADING), prepare=loading) as b:
        assert (b.status.status, b.status.pid) == (Status.READY, OLD.pid)
        assert b.status.replacement.stage is LOADING
        b.probe.loading.clear()
        await b.clock.advance(10)
        assert (b.status.pid, b.status.replacement) == (NEW.pid, None)
        assert living(b) == {NEW}
        assert [type(event) for event in b.history] == [RunReady, RunClosed, RunOpened, RunReady]


async def test_an_old_process_that_was_draining_finishes_and_goes():
    def draining(b):
        both(b)
        b.probe.busy.add(PORT)

    record = remembered(LEAVING, port=PORT, identity=OLD)
    record = replace(record, identity=NEW, argv=NEW_SPEC.argv)
    record = replace(record, port=SECOND)
    async with serving(record=record, prepare=draining) as b:
        await b.clock.advance(10)
        assert (b.status.pid, b.status.replacement.identity) == (NEW.pid, OLD)
        assert living(b) == {OLD, NEW}
        b.probe.busy.clear()
        await b.clock.advance(1)
        assert living(b) == {NEW}
        assert b.status.status is Status.READY
        assert b.processes.spawned == []


async def test_a_new_process_of_another_configuration_is_ended():
    def prepare(b):
        b.processes.survivors = {OLD: found(OLD), NEW: found(NEW, SPEC.on_port(9999))}

    async with serving(record=remembered(LOADING), prepare=prepare) as b:
        await b.clock.advance(10)
        assert living(b) == {OLD}


async def test_a_process_that_was_not_written_down_is_found_by_its_log():
    def prepare(b):
        b.processes.survivors = {OLD: found(OLD)}
        b.processes.unrecorded = found(NEW, NEW_SPEC)

    async with serving(record=remembered(LOADING, identity=None), prepare=prepare) as b:
        await b.clock.advance(10)
        assert living(b) == {NEW}
        assert b.status.status is Status.READY


async def test_a_wish_whose_process_is_gone_is_carried_out_anew():
    async with serving(record=remembered(LOADING), prepare=only_old) as b:
        await b.clock.advance(10)
        assert b.processes.ports == [SECOND]
        assert living(b) == {b.processes.spawned[0].identity}


async def test_the_new_process_is_the_server_s_own_when_the_old_one_is_gone():
    async with serving(record=remembered(LOADING), prepare=only_new) as b:
        await b.clock.advance(2)
        assert (b.status.status, b.status.pid) == (Status.READY, NEW.pid)
        assert b.status.url.endswith(f":{SECOND}")
        assert b.processes.spawned == []
        closed = next(event for event in b.history if isinstance(event, RunClosed))
        assert closed.exit == Exit()


@pytest.mark.parametrize("stage", [LOADING, LEAVING])
async def test_both_end_when_the_server_is_not_to_run_any_more(stage):
    given = config(desired_running=False, generation=2)
    async with serving(given, remembered(stage), prepare=both) as b:
        await b.clock.advance(5)
        assert living(b) == set()
        assert b.status.status is Status.INITIAL


async def test_a_change_that_came_meanwhile_takes_over_without_a_gap():
    given = config(spec=replace(SPEC, args=(*SPEC.args, "-c", "512")), seamless=True)
    record = replace(remembered(LOADING), replacement=None)
    async with serving(given, record, prepare=only_old) as b:
        await b.clock.advance(10)
        assert {snapshot.status for snapshot in b.publisher.announced} == {Status.STARTING, Status.READY}
        assert b.processes.specs[0].args[-1] == "512"
        assert len(living(b)) == 1


async def test_a_change_for_which_the_new_process_was_begun_is_not_begun_twice():
    spec = replace(SPEC, args=(*SPEC.args, "-c", "512"))

    def prepare(b):
        b.processes.survivors = {OLD: found(OLD), NEW: found(NEW, spec.on_port(SECOND))}

    async with serving(config(spec=spec, seamless=True), remembered(LOADING), prepare=prepare) as b:
        await b.clock.advance(10)
        assert living(b) == {NEW}
        assert b.processes.spawned == []


async def test_a_restart_that_was_refused_is_forgotten():
    async with serving(record=remembered(Stage.REFUSED, identity=None, port=0), prepare=only_old) as b:
        assert b.status.replacement is None
        assert b.processes.spawned == []
