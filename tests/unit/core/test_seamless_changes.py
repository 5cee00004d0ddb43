"""Changes of a server that are made without a gap, and the port that it has then."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.core.status import Stage, Status
from tests.unit.core.seamless import (
    FIRST_PID,
    PORT,
    SECOND,
    SECOND_PID,
    SPEC,
    alive,
    changed,
    config,
    restarts,
    serving,
    stage,
)

# --- A change of the configuration -----------------------------------------------------------------------


async def test_a_change_takes_over_without_a_gap():
    async with serving() as b:
        changed(b, "-c", "512")
        await b.clock.advance(10)
        assert (b.status.pid, b.processes.ports) == (SECOND_PID, [PORT, SECOND])
        assert b.processes.specs[-1].args[-2:] == ("-c", "512")
        assert b.words.count("starting") == 1


async def test_a_change_that_never_gets_ready_is_rolled_back_and_not_tried_again():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        changed(b, "-c", "512")
        await b.clock.advance(1)
        b.processes.last.die(code=1)
        await b.clock.advance(60)
        assert (b.status.status, b.status.pid, stage(b)) == (Status.READY, FIRST_PID, Stage.FAILED)
        assert "configuration did not get ready and was rolled back" in b.status.warnings[-1]
        assert len(b.processes.spawned) == 2


async def test_a_change_that_does_not_fit_falls_back_to_the_ordinary_restart_and_says_why():
    async with serving() as b:
        b.room.beside = "`default (new)` needs 12 GiB on GPU 0."
        changed(b, "-c", "512")
        await b.clock.advance(0)
        details = [snapshot.detail for snapshot in b.publisher.announced]
        await b.clock.advance(5)
        details += [snapshot.detail for snapshot in b.publisher.announced]
        assert any("Not restarted without a gap. `default (new)` needs 12 GiB" in said for said in details)
        assert b.processes.ports == [PORT, PORT]


async def test_a_change_on_a_fixed_port_is_an_ordinary_restart():
    async with serving(config(spare_ports=())) as b:
        changed(b, "-c", "512", spare_ports=())
        await b.clock.advance(5)
        assert b.processes.ports == [PORT, PORT]
        assert b.status.status is Status.READY


async def test_another_api_key_is_an_ordinary_restart_for_gateways_use_one_at_a_time():
    async with serving() as b:
        spec = replace(SPEC, api_key="sk-new")
        b.supervisor.apply(replace(b.supervisor.placed.given, spec=spec, seamless=True))
        await b.clock.advance(5)
        assert b.processes.ports == [PORT, PORT]


async def test_a_change_of_a_server_that_is_not_ready_is_an_ordinary_restart():
    async with serving() as b:
        b.processes.last.die(signal=11)
        await b.clock.advance(0.5)
        changed(b, "-c", "512")
        await b.clock.advance(5)
        assert b.processes.ports == [PORT, PORT]


async def test_a_change_replaces_one_that_is_under_way():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        changed(b, "-c", "512")
        await b.clock.advance(1)
        changed(b, "-c", "1024")
        await b.clock.advance(1)
        b.probe.loading.clear()
        await b.clock.advance(10)
        assert b.processes.specs[-1].args[-1] == "1024"
        assert alive(b) == [102]
        assert b.status.replacement is None


async def test_a_change_waits_until_the_old_process_has_gone():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        changed(b, "-c", "512")
        await b.clock.advance(5)
        assert len(b.processes.spawned) == 2
        b.probe.busy.clear()
        await b.clock.advance(10)
        assert b.processes.specs[-1].args[-1] == "512"


async def test_a_wish_that_waits_is_dropped_with_the_server():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        await restarts(b)
        b.processes.spawned[1].die(signal=9)
        await b.clock.advance(0.1)
        b.processes.spawned[0].die(signal=9)
        await b.clock.advance(10)
        assert b.processes.ports == [PORT, SECOND, SECOND]
        assert alive(b) == [102]


# --- The port -------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_gives_way_to_the_one_that_was_chosen_first():
    async with serving() as b:
        await restarts(b, 10)
        b.processes.taken.add(SECOND)
        b.processes.last.die(signal=9)
        await b.clock.advance(10)
        assert b.processes.ports == [PORT, SECOND, PORT]
        assert b.status.status is Status.READY


async def test_a_port_that_people_name_is_the_port_from_then_on():
    async with serving() as b:
        await restarts(b, 10)
        given = b.supervisor.placed.given
        b.supervisor.apply(replace(given, spare_ports=(), spec=given.spec.on_port(9000)))
        await b.clock.advance(10)
        assert b.processes.ports == [PORT, SECOND, 9000]
        assert b.store.changes[-1].port is None
