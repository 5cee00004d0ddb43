"""A supervisor hands on what its processes show of the memory that they need, and nothing that is not so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.changes import Remembered
from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.sightings import Autopsy, MemorySample, Slots
from supervisor_app.core.status import RunSummary, Status
from supervisor_app.core.testing import Lesson, make_config, make_spec, stranger
from tests.unit.core.supervising import SURVIVOR, bench

GIB = 1024**3
WORKING = Slots(answered=True, busy=True, mark=1, working=1, total=4)
GPU = Device(id="GPU-1", name="GPU 0", total=24 * GIB, free=GIB)
LOADED = ["0.00.200.000 I load_tensors:   CPU_Mapped model buffer size =  5120.00 MiB"]
KILLED = Autopsy(oom_kills=1)
REMEMBERED = Remembered(
    version=9,
    generation=1,
    identity=SURVIVOR,
    run_open=True,
    argv=make_spec().argv,
    runs=(RunSummary(started_at=1.0, ready_at=2.0, retry=0, adopted=False),),
)


def uses(b, process, gib=2):
    process.memory = MemorySample(at=b.clock.time(), anon=gib * GIB, file=6 * GIB, host_total=16 * GIB)


def survey(b, pid, gib=3):
    b.supervisor.surveyed(Survey((replace(GPU, users={pid: gib * GIB}),)))


async def work(b, process, seconds=30):
    """Have a server work, under the eyes of its node."""
    uses(b, process)
    survey(b, process.identity.pid)
    process.used = replace(process.used, connections=1)
    b.probe.working = WORKING
    await b.clock.advance(seconds)


def maps_its_model(b):
    """Have each process map a model of 5 GiB, and say so."""
    spawn = b.processes.spawn

    async def spawn_mapping(name, spec):
        process = await spawn(name, spec)
        process.mapped = 5 * GIB
        process.lines = list(LOADED)
        uses(b, process)
        return process

    b.processes.spawn = spawn_mapping


async def test_a_run_that_worked_teaches_its_peak_on_each_device():
    async with bench(prepare=maps_its_model) as b:
        process = b.processes.last
        await work(b, process)
        (lesson,) = b.footprints.lessons
        had = {"host": 7 * GIB, "GPU-1": 3 * GIB}
        assert lesson == Lesson(name="default", devices=had, out_of_memory=False, run=process.identity)


async def test_a_run_that_only_waited_for_work_teaches_nothing():
    async with bench(prepare=maps_its_model) as b:
        survey(b, b.processes.last.identity.pid)
        await b.clock.advance(300)
        assert b.footprints.lessons == []


async def test_a_run_teaches_at_its_end_what_it_grew_by_at_last():
    async with bench(prepare=maps_its_model) as b:
        process = b.processes.last
        await work(b, process)
        uses(b, process, 4)
        await b.clock.advance(6)
        process.die(code=1)
        await b.clock.advance(1)
        assert [lesson.devices["host"] // GIB for lesson in b.footprints.lessons] == [7, 9]
        assert {lesson.run for lesson in b.footprints.lessons} == {process.identity}


async def test_a_death_for_want_of_memory_is_taught_before_the_next_start():
    async with bench(prepare=maps_its_model) as b:
        process = b.processes.last
        process.found = KILLED
        process.die(signal=9)
        await b.clock.advance(0)
        assert b.status.status is not Status.READY
        (lesson,) = b.footprints.lessons
        assert (lesson.out_of_memory, lesson.devices) == (True, {"host": 7 * GIB})


async def test_a_gpu_that_was_too_small_is_named_as_far_as_it_was_seen():
    async with bench() as b:
        process = b.processes.last
        survey(b, process.identity.pid)
        process.lines.append(
            "0.00.100.000 E ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory"
        )
        process.die(code=1)
        await b.clock.advance(1)
        (lesson,) = b.footprints.lessons
        assert (lesson.out_of_memory, lesson.devices) == (True, {"GPU-1": 3 * GIB})


async def test_lines_that_a_server_logs_while_it_loads_are_handed_on():
    async with bench(prepare=maps_its_model) as b:
        assert b.footprints.heard == {"default": LOADED}


async def test_a_process_that_was_adopted_teaches_nothing_nobody_knows_its_flags():
    def adopt(b):
        b.processes.holder = stranger(llama=True, pid=55)

    async with bench(prepare=adopt) as b:
        assert b.status.adopted
        await work(b, b.processes.adopted[0])
        b.processes.adopted[0].found = KILLED
        b.processes.adopted[0].die(signal=9)
        await b.clock.advance(0)
        assert b.footprints.lessons == []
        assert b.footprints.heard == {}


@pytest.mark.parametrize(
    ("argv", "teaches"), [(make_spec().argv, True), (("llama-server", "-m", "x"), False)]
)
async def test_an_adopted_server_teaches_if_it_was_started_as_is_configured(argv, teaches):
    def survive(b):
        b.processes.survivors[SURVIVOR] = stranger(llama=True, pid=77)
        b.processes.adopted_lines = list(LOADED)

    config = make_config()
    async with bench(config, replace(REMEMBERED, argv=argv), prepare=survive) as b:
        if not b.processes.adopted[0].alive:
            assert not teaches
            return
        await work(b, b.processes.adopted[0])
        assert bool(b.footprints.lessons) == teaches
        assert b.footprints.heard == ({"default": []} if teaches else {}), "never the log of another time"
