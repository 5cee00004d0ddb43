"""The evidence that a supervisor gathers before a death and after: memory, work, lines, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.changes import Remembered
from supervisor_app.core.diagnosis.named_files import BadFile, NamedFile
from supervisor_app.core.sightings import Autopsy, Health, ProcessUsage, Slots
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import settle, stranger
from tests.unit.core.supervising import GIB, SURVIVOR, WORKING, bench, closed, uses


async def test_a_death_is_recorded_with_what_was_known_just_before():
    async with bench() as b:
        b.processes.last.used = ProcessUsage(cpu_seconds=50.0, connections=1)
        b.probe.working = WORKING
        uses(b, 2)
        await b.clock.advance(5.5)
        uses(b, 5)
        await b.clock.advance(2)
        b.processes.last.lines = ["fine", "GGML_ASSERT(x) failed"]
        b.processes.last.die(signal=6)
        await settle()
        evidence = closed(b).evidence
        assert evidence["memory"]["anon"] == 5 * GIB
        assert [used for _, used in evidence["history"]] == [2 * GIB, 5 * GIB]
        assert evidence["serving"] == "2 of 4 slots were working on a request."
        assert evidence["models"] == ["model.gguf"]
        assert evidence["decisive"] == "GGML_ASSERT(x) failed"
        assert b.status.memory == "It used 5.0 GiB; 1.0 GiB of 16.0 GiB were free."


OOM = "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 6144.00 MiB on device 0: cudaMalloc failed: out of memory"


async def test_a_line_that_the_server_survived_is_not_the_cause_of_its_death():
    async with bench() as b:
        b.processes.last.lines = ["survived at the start", OOM]
        await b.clock.advance(3)
        b.processes.last.die(signal=11)
        await settle()
        assert b.status.failure.kind is FailureKind.KILLED_BY_SIGNAL
        assert closed(b).evidence["decisive"] == ""
        assert closed(b).last_lines[-1] == OOM, "it is shown all the same"


@pytest.mark.parametrize("seconds", [0, 1])
async def test_lines_since_the_last_good_check_tell_the_cause_of_a_death(seconds):
    """A health check may be answered while it is coming down."""
    async with bench() as b:
        await b.clock.advance(5.5)
        b.processes.last.lines = [
            "I srv  operator(): first",
            OOM,
            "ggml-cuda.cu:98: CUDA error",
            "#0 0x0 in ?? ()",
        ]
        await b.clock.advance(seconds)
        b.processes.last.die(signal=6)
        await settle()
        assert b.status.failure.kind is FailureKind.GPU_OUT_OF_MEMORY
        assert closed(b).evidence["decisive"] == OOM
        assert closed(b).evidence["decisiveAt"] == 1


async def test_lines_from_before_an_adoption_are_not_the_cause_of_a_death():
    def survivor(b):
        b.processes.holder = stranger(llama=True)
        b.processes.adopted_lines = [OOM]

    async with bench(prepare=survivor) as b:
        (adopted,) = b.processes.adopted
        b.processes.holder = None
        adopted.die()
        await settle()
        assert b.status.failure.kind is FailureKind.EXITED


async def test_a_server_that_does_not_say_why_it_failed_is_explained_by_its_files():
    def broken(b):
        b.probe.answer = Health.REFUSED
        file = NamedFile(flag="--lora", path=Path("/nope"), gguf=True)
        b.processes.bad = [BadFile(file=file, kind=FailureKind.MODEL_MISSING, detail="/nope does not exist")]

    async with bench(prepare=broken) as b:
        b.processes.last.die(code=1)
        await settle()
        assert b.status.status is Status.ERROR
        assert b.status.failure.detail == "--lora: /nope does not exist"
        assert b.status.retries == 0


async def test_a_kill_that_the_kernel_admits_is_an_oom_kill():
    async with bench() as b:
        uses(b, 5)
        await b.clock.advance(6)
        b.processes.last.found = Autopsy(oom_kills=1)
        b.processes.last.die(signal=9)
        await settle()
        assert b.status.failure.kind is FailureKind.OOM_KILLED
        assert b.status.failure.detail == "it used 5.0 GiB, 1.0 GiB of 16.0 GiB were free just before"
        assert closed(b).evidence["oom"]


async def test_memory_of_a_server_is_looked_at_during_its_load():
    async with bench(prepare=lambda b: setattr(b.probe, "answer", Health.LOADING)) as b:
        uses(b, 3)
        await b.clock.advance(1)
        b.processes.last.die(signal=9)
        await settle()
        evidence = closed(b).evidence
        assert evidence["memory"]["anon"] == 3 * GIB
        assert len(evidence["history"]) == 9
        assert evidence["serving"] == ""


async def test_the_next_life_begins_without_evidence():
    async with bench() as b:
        uses(b, 5)
        await b.clock.advance(6)
        await b.crash_and_recover()
        b.processes.last.die(signal=9)
        await settle()
        assert closed(b).evidence["memory"] is None


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        (Slots(answered=True), "It was idle."),
        (Slots(answered=False), "It did not say what it was doing."),
        (
            Slots(answered=True, busy=True, working=1, total=1),
            "1 of 1 slot was working on a request.",
        ),
    ],
)
async def test_the_work_of_a_server_is_told_in_words(slots, said):
    async with bench() as b:
        b.processes.last.used = ProcessUsage(connections=1)
        b.probe.working = slots
        await b.clock.advance(6)
        b.processes.last.die(signal=9)
        await settle()
        assert closed(b).evidence["serving"] == said


async def test_an_end_under_no_supervisor_leaves_no_evidence():
    async with bench(remembered=Remembered(run_open=True, identity=SURVIVOR, generation=1)) as b:
        assert closed(b).evidence == {}
