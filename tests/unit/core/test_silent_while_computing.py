"""A server that answers nothing while it computes a long prompt is not ended; one that hangs still is."""

from __future__ import annotations

import signal

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.evidence import Evidence, ExitReport
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.machine.memory import parse_gpus
from supervisor_app.core.sightings import Exit, GpuMemory, Health, MemorySample, ProcessUsage, Slots
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config, make_spec
from supervisor_app.core.wording import sentence
from tests.unit.core.deciding import POLICY, Server
from tests.unit.core.supervising import bench

ASSERTION = "/src/ggml.c:12: GGML_ASSERT(x) failed"


def silent(server: Server, *, computing: bool) -> Server:
    return server.send(lifecycle.HealthChecked(server.state.attempt, Health.SILENT, computing=computing))


def test_silence_of_a_process_that_computes_is_for_the_watchdog():
    server = Server().ready()
    for _ in range(1000):
        silent(server.after(1.0), computing=True)
    assert server.state.status is Status.READY
    assert "does not answer while it computes" in sentence(server.state, POLICY, make_spec())
    server.healthy()
    assert "does not answer" not in sentence(server.state, POLICY, make_spec())


def test_silence_of_a_server_that_computes_no_more_is_a_hang():
    server = Server().ready()
    for _ in range(10):
        silent(server.after(1.0), computing=True)
    silent(server.after(1.0), computing=False)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.HUNG


def test_silence_without_computing_is_a_hang_as_soon_as_ever():
    server = Server().ready()
    for _ in range(3):
        silent(server.after(1.0), computing=False)
    assert server.state.status is Status.CRASHED


def test_a_process_adopted_in_a_long_prompt_gets_the_time_for_it():
    server = Server().spawned()
    while server.now < 899:
        silent(server.after(1.0), computing=True)
        assert server.where == (Status.STARTING, Phase.WAITING)
    silent(server.after(2.0), computing=True)
    assert server.state.status is Status.CRASHED


# What the runner looks at


async def silent_server(b, cpu_per_second: float, seconds: float) -> None:
    process = b.processes.last
    b.probe.answer = Health.SILENT
    b.probe.working = Slots(answered=False)
    for _ in range(int(seconds * 4)):
        process.used = ProcessUsage(cpu_seconds=process.used.cpu_seconds + cpu_per_second / 4, connections=1)
        await b.clock.advance(0.25)


@pytest.mark.parametrize(("cpu", "status"), [(1.0, Status.READY), (0.0, Status.CRASHED)])
async def test_the_processor_tells_a_long_prompt_from_a_hang(cpu, status):
    async with bench(make_config(health=HealthPolicy(stall_seconds=0))) as b:
        b.processes.stubborn = True
        await silent_server(b, cpu, 60)
        assert bool(b.processes.spawned[0].signals) == (status is Status.CRASHED)


async def test_a_busy_gpu_tells_it_too_if_there_is_a_client():
    async with bench() as b:
        b.processes.last.memory = MemorySample(at=0, gpus=(GpuMemory(used=1, total=2, percent=99),))
        await silent_server(b, 0.0, 30)
        assert b.status.status is Status.READY
        b.processes.last.memory = MemorySample(at=0, gpus=(GpuMemory(used=1, total=2, percent=1),))
        await silent_server(b, 0.0, 10)
        assert b.processes.spawned[0].signals


def test_how_busy_a_gpu_is_is_read_where_it_is_told():
    assert [gpu.percent for gpu in parse_gpus("1, 2, 99\n1, 2, [N/A]\n1, 2\n")] == [99, 0, 0]


# A long death


@pytest.mark.parametrize("was_ready", [True, False])
def test_a_process_that_said_that_it_dies_died_of_that(was_ready):
    server = Server().ready() if was_ready else Server().spawned()
    if was_ready:
        for _ in range(3):
            silent(server, computing=False)
    else:
        server.after(61)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    told = failure_of(FailureKind.KILLED_BY_SIGNAL, ASSERTION)
    report = ExitReport(last_lines=(), evidence=Evidence(decisive=ASSERTION))
    server.send(lifecycle.Exited(server.state.attempt, Exit(signal=signal.SIGKILL), told, report))
    assert server.state.failure.detail == ASSERTION
    assert server.where == (Status.CRASHED, Phase.BACKOFF)


async def test_the_decisive_line_of_a_hung_server_is_looked_for():
    def prepare(b) -> None:
        b.processes.stubborn = True

    async with bench(prepare=prepare) as b:
        process = b.processes.last
        await b.clock.advance(5)
        process.lines = [*process.lines, ASSERTION, "#0 0x0 in ?? ()"]
        b.probe.answer = Health.SILENT
        await b.clock.advance(12)
        assert "KILL" in process.signals
        assert b.status.runs[1 if b.status.pid else 0].failure.detail == ASSERTION


async def test_a_silent_process_that_computes_nothing_is_hung():
    async with bench(make_config(), prepare=lambda b: setattr(b.processes, "stubborn", True)) as b:
        b.probe.answer = Health.SILENT
        await b.clock.advance(11)
        assert b.status.failure.kind is FailureKind.HUNG
