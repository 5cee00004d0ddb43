"""A supervisor that notices a hang, of a server that works or is idle, and asks no more than that needs."""

from __future__ import annotations

import pytest

from supervisor_app.core.sightings import Canary, Health, ProcessUsage, Slots
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config
from tests.unit.core.supervising import WORKING, bench, closed


async def test_an_idle_server_is_not_asked_what_it_works_at():
    async with bench() as b:
        await b.clock.advance(600)
        assert b.probe.slot_checks == 0


async def test_a_server_that_is_asked_for_its_health_has_no_client_for_that():
    async with bench() as b:

        async def health(spec, timeout):
            b.processes.last.used = ProcessUsage(connections=1)
            await b.clock.sleep_until(b.clock.monotonic() + 0.9)
            b.processes.last.used = ProcessUsage()
            return Health.OK

        b.probe.health = health
        await b.clock.advance(600)
        assert b.supervisor.vitals.at > b.clock.time() - 10
        assert b.probe.slot_checks == 0


async def test_a_client_that_waits_is_reason_to_ask():
    async with bench() as b:
        b.processes.last.used = ProcessUsage(connections=1)
        await b.clock.advance(20)
        assert b.probe.slot_checks == 4


async def test_a_hung_computation_is_noticed_and_mended():
    async with bench(make_config(health=HealthPolicy(stall_seconds=30))) as b:
        b.processes.last.used = ProcessUsage(cpu_seconds=5.0, connections=1)
        b.probe.working = Slots(answered=True, busy=True, mark="stuck")
        await b.clock.advance(45)
        assert len(b.processes.spawned) == 2
        assert b.status.status is Status.READY
        assert b.status.runs[1].failure.kind is FailureKind.HUNG


async def test_a_server_whose_answers_pass_a_gateway_is_not_hung():
    async with bench(make_config(health=HealthPolicy(stall_seconds=30))) as b:
        b.processes.last.used = ProcessUsage(cpu_seconds=50.0, connections=1)
        b.probe.working = WORKING
        for _ in range(60):
            b.supervisor.moved()
            await b.clock.advance(2)
        assert b.status.status is Status.READY
        await b.clock.advance(60)
        assert closed(b).failure.kind is FailureKind.HUNG


async def test_a_long_batch_on_a_busy_cpu_is_not_hung():
    async with bench(make_config(health=HealthPolicy(stall_seconds=30))) as b:
        b.probe.working = Slots(answered=True, busy=True, mark="one batch")
        for second in range(100):
            b.processes.last.used = ProcessUsage(cpu_seconds=2.0 * second, connections=1)
            await b.clock.advance(1)
        assert len(b.processes.spawned) == 1


CANARY = make_config(health=HealthPolicy(canary_minutes=10))


async def test_an_idle_server_is_not_asked_for_a_token_unless_people_want_that():
    async with bench() as b:
        await b.clock.advance(1300)
        assert b.probe.canaries == 0
    async with bench(CANARY) as b:
        await b.clock.advance(1300)
        assert b.probe.canaries == 2
        assert len(b.processes.spawned) == 1


async def test_a_server_that_hangs_while_idle_is_noticed_and_mended():
    async with bench(CANARY) as b:
        b.probe.token = Canary.SILENT
        await b.clock.advance(620)
        assert b.probe.canaries == 2
        assert b.status.runs[1].failure.kind is FailureKind.HUNG
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == 2


@pytest.mark.parametrize(
    ("slots", "canaries"),
    [
        (Slots(answered=False), 0),
        # A server that does not tell what it is doing.
        (Slots(answered=True), 0),
        (Slots(answered=True, total=4), 2),
    ],
)
async def test_a_server_whose_client_may_wait_is_not_asked_for_a_token(slots, canaries):
    async with bench(CANARY) as b:
        b.processes.last.used = ProcessUsage(connections=1)
        b.probe.working = slots
        await b.clock.advance(1300)
        assert b.probe.slot_checks > 100
        assert b.probe.canaries == canaries


async def test_a_canary_that_waited_for_work_that_is_done_by_now_is_no_evidence():
    async with bench(CANARY) as b:

        async def canary_behind_others(spec, timeout):
            b.probe.canaries += 1
            b.processes.last.used = ProcessUsage(cpu_seconds=100.0 * b.probe.canaries)
            await b.clock.sleep_until(b.clock.monotonic() + timeout)
            return Canary.SILENT

        b.probe.canary = canary_behind_others
        b.probe.working = Slots(answered=True, total=4)
        await b.clock.advance(3600)
        assert b.probe.canaries == 4
        assert len(b.processes.spawned) == 1
