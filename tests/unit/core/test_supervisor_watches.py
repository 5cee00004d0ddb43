"""What a supervisor sees of a running server: hangs and memory; of it come evidence and warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor_app.core.changes import Remembered, RunClosed
from supervisor_app.core.diagnosis.named_files import BadFile, NamedFile
from supervisor_app.core.sightings import Autopsy, Canary, Health, MemorySample, ProcessUsage, Slots
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Model, Status
from supervisor_app.core.testing import make_config, make_spec, settle, stranger
from tests.unit.core.supervising import SURVIVOR, bench

GIB = 1024**3
WORKING = Slots(answered=True, busy=True, mark=1, working=2, total=4)


def uses(b, gib: float) -> None:
    b.processes.last.memory = MemorySample(
        at=b.clock.time(), anon=int(gib * GIB), host_total=16 * GIB, host_available=GIB
    )


def closed(b) -> RunClosed:
    return [event for event in b.history if isinstance(event, RunClosed)][-1]


# Hung is not healthy


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
        # It does not tell what it is doing.
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


# Its log


async def test_a_log_that_was_removed_is_told_until_it_is_back(caplog):
    async with bench() as b:
        b.processes.last.trouble = "Its log file was removed."
        await b.clock.advance(20)
        assert b.status.warnings == ("Its log file was removed.",)
        assert caplog.text.count("Its log file was removed.") == 1
        b.processes.last.trouble = ""
        await b.clock.advance(10)
        assert b.status.warnings == ()


# Evidence


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


async def test_a_stranger_on_a_port_that_was_chosen_is_not_taken_over():
    config = replace(make_config(), spare_ports=(8134, 8135))
    async with bench(config, prepare=lambda b: setattr(b.processes, "holder", stranger(llama=True))) as b:
        assert b.processes.adopted == []
        assert b.status.failure.kind is FailureKind.PORT_TAKEN


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


async def test_memory_over_the_limit_restarts_a_server_once_it_is_idle():
    async with bench(make_config(health=HealthPolicy(max_memory_mb=4096))) as b:
        uses(b, 2)
        await b.clock.advance(6)
        uses(b, 5)
        b.probe.working = WORKING
        b.processes.last.used = ProcessUsage(connections=1)
        await b.clock.advance(6)
        assert len(b.processes.spawned) == 1
        assert "over its limit of 4.0 GiB" in b.status.warnings[0]
        b.probe.working = Slots(answered=True)
        await b.clock.advance(4)
        assert len(b.processes.spawned) == 2
        assert b.status.status is Status.READY
        assert b.status.runs[1].failure is None
        assert closed(b).note == "It used 5.0 GiB, over its limit of 4.0 GiB."
        assert b.status.retries == 0


async def test_a_gpu_that_is_not_used_although_asked_for_is_a_warning():
    spec = make_spec(args=("-m", "model.gguf", "-ngl", "99"))

    async with bench(
        make_config(spec=spec), prepare=lambda b: setattr(b.probe, "answer", Health.LOADING)
    ) as b:
        b.processes.last.lines = ["warning: no usable GPU found, --gpu-layers option will be ignored"]
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert "computes on the CPU" in b.status.warnings[0]
        assert b.status.status is Status.READY


async def test_an_empty_list_of_models_is_a_warning():
    async with bench(prepare=lambda b: setattr(b.probe, "offered", ())) as b:
        assert b.status.warnings == ("Its list of models is empty.",)


@pytest.mark.parametrize(
    ("running", "warned"),
    [("model.gguf", False), ("/srv/model.gguf", False), ("", False), ("old.gguf", True)],
)
async def test_a_server_that_was_found_with_another_model_says_so(running, warned):
    def found(b):
        b.processes.holder = stranger(llama=True)
        b.probe.running = running

    async with bench(prepare=found) as b:
        assert (b.status.status, b.status.adopted) == (Status.READY, True)
        assert any("old.gguf" in warning for warning in b.status.warnings) is warned
    async with bench(prepare=lambda b: setattr(b.probe, "running", "old.gguf")) as b:
        assert b.status.warnings == (), "what we start runs what is configured"


async def test_an_address_that_cannot_be_seen_is_a_warning():
    def hide(b):
        b.probe.answer = Health.LOADING

    async with bench(prepare=hide) as b:
        b.processes.last.unseen = "It cannot be seen which process has the socket."
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert b.status.warnings == ("It cannot be seen which process has the socket.",)
        assert b.status.endpoint.address == "127.0.0.1"
        assert "endpoint" not in b.status.as_json(0.0)


async def test_a_port_is_asked_only_once_its_listener_is_proved():
    async with bench() as b:
        asked = b.probe.checks
        b.processes.last.die(signal=9)
        await settle()
        assert b.status.endpoint is None

        async def nowhere(spec):
            return None

        while len(b.processes.spawned) < 2:
            await b.clock.advance(0.005)
        b.processes.last.endpoint = nowhere
        await b.clock.advance(5)
        assert b.probe.checks == asked


async def test_models_that_a_router_loads_and_unloads_are_told():
    unloaded = Model(id="one", name="one", status="unloaded")
    async with bench(prepare=lambda b: setattr(b.probe, "offered", (unloaded,))) as b:
        assert b.status.models == (unloaded,)
        version = b.status.version
        loaded = replace(unloaded, status="loaded")
        b.probe.offered = (loaded, replace(unloaded, id="new"))
        await b.clock.advance(10)
        assert [(model.id, model.status) for model in b.status.models] == [
            ("one", "loaded"),
            ("new", "unloaded"),
        ]
        assert b.status.version > version
        b.probe.models_error = "it did not answer"
        await b.clock.advance(10)
        assert (len(b.status.models), b.status.warnings) == (2, ())
