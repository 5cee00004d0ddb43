"""A supervisor on a fake machine: stops, restarts and the end of the supervisor itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.sightings import Slots
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import Status
from supervisor_app.core.testing import make_config, make_spec, settle, stranger
from tests.unit.core.supervising import bench


async def test_a_stop_ends_the_process_and_a_stubborn_one_is_killed():
    async with bench(prepare=lambda b: setattr(b.processes, "stubborn", True)) as b:
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await b.clock.advance(4)
        assert b.status.status is Status.STOPPING
        assert b.processes.last.signals == ["TERM"]
        await b.clock.advance(2)
        assert b.processes.last.signals == ["TERM", "KILL"]
        assert b.status.status is Status.INITIAL
        assert b.history[-1].failure is None


async def test_a_forced_end_does_not_wait_for_the_grace():
    async with bench(prepare=lambda b: setattr(b.processes, "stubborn", True)) as b:
        b.supervisor.stop("bye", spare_adopted=True)
        await settle()
        b.supervisor.kill()
        await settle()
        assert b.supervisor.is_idle
        assert b.processes.alive == []


async def test_a_forced_end_of_what_does_not_run_is_nothing():
    async with bench(make_config(desired_running=False)) as b:
        b.supervisor.kill()
        assert b.status.status is Status.INITIAL


async def test_a_forced_end_spares_a_server_that_we_found():
    async with bench(prepare=lambda b: setattr(b.processes, "holder", stranger(llama=True))) as b:
        b.supervisor.kill()
        await settle()
        assert b.processes.adopted[0].alive


async def test_our_end_leaves_a_found_server_running():
    async with bench(prepare=lambda b: setattr(b.processes, "holder", stranger(llama=True))) as b:
        b.supervisor.stop("The supervisor was stopped.", spare_adopted=True)
        await settle()
        assert b.supervisor.is_idle
        assert b.processes.adopted[0].alive
        assert b.processes.adopted[0].forgotten
        assert b.status.detail.startswith("The supervisor was stopped.")


def busy(b):
    b.probe.working = Slots(answered=True, busy=True, working=2, total=4)


async def test_a_stop_waits_for_requests_and_says_how_many():
    async with bench(prepare=busy) as b:
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await b.clock.advance(1)
        assert (b.status.status, b.status.draining, b.status.drains) == (Status.STOPPING, True, True)
        assert b.status.detail == "Draining: 2 requests in flight, at most 29 s more."
        assert b.status.url
        assert b.processes.last.alive
        b.probe.working = Slots(answered=True, total=4)
        await b.clock.advance(1)
        assert b.status.status is Status.INITIAL
        assert not b.processes.last.alive


async def test_our_own_end_does_not_wait_for_requests():
    async with bench(prepare=busy) as b:
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await b.clock.advance(1)
        assert b.status.draining
        b.supervisor.stop("The supervisor was stopped.", spare_adopted=True)
        await settle()
        assert not b.processes.last.alive


@pytest.mark.parametrize("running", [True, False])
async def test_a_wish_of_a_person_need_not_wait(running):
    async with bench(prepare=busy) as b:
        asked = {"generation": 2, "restart_generation": 2 * running, "desired_running": running}
        b.supervisor.apply(replace(make_config(**asked), at_once=True))
        await settle()
        assert not b.processes.spawned[0].alive


async def test_a_start_lets_a_server_serve_on():
    async with bench(prepare=busy) as b:
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await b.clock.advance(1)
        b.supervisor.apply(make_config(generation=3))
        await settle()
        assert (b.status.status, b.status.draining) == (Status.READY, False)
        assert [process.alive for process in b.processes.spawned] == [True]


async def test_a_server_that_may_not_be_signalled_is_let_go():
    hidden = type(stranger(llama=True))(identity=None, command="", is_llama_server=True)
    async with bench(prepare=lambda b: setattr(b.processes, "holder", hidden)) as b:
        assert b.status.status is Status.READY
        assert b.status.pid is None
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await b.clock.advance(1)
        assert b.status.status is Status.INITIAL
        assert "another user" in b.status.detail


async def test_a_restart_is_one_new_process():
    async with bench() as b:
        b.supervisor.apply(make_config(generation=2, restart_generation=2))
        b.supervisor.apply(make_config(generation=2, restart_generation=2))
        await b.clock.advance(2)
        assert len(b.processes.spawned) == 2
        assert b.status.status is Status.READY
        assert b.words == ["starting", "ready", "stopping", "starting", "ready"]


async def test_a_changed_launch_restarts_once_and_a_changed_policy_does_not():
    async with bench() as b:
        b.supervisor.apply(make_config(restart=RestartPolicy(max_retries=9)))
        await b.clock.advance(2)
        assert len(b.processes.spawned) == 1
        assert b.status.max_retries == 9
        changed = make_config(spec=make_spec(9000))
        b.supervisor.apply(changed)
        b.supervisor.apply(changed)
        await b.clock.advance(2)
        assert len(b.processes.spawned) == 2
        assert b.status.url == "http://localhost:9000"
        assert any("configuration changed" in s.detail for s in b.publisher.snapshots)
