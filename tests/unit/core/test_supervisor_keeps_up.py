"""A supervisor on a fake machine: servers are started, watched and replaced."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from supervisor_app.core.changes import Remembered, RunClosed, RunOpened, RunReady
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Cause, Health, PortHolder
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config, make_spec, settle, stranger
from supervisor_app.core.timeline import LENGTH
from supervisor_app.core.watched import WatchedProcess
from tests.deadline import DEADLINE
from tests.unit.core.supervising import Bench, bench


async def test_a_desired_server_is_started_and_its_models_are_told():
    async with bench() as b:
        assert b.status.status is Status.READY
        assert b.status.pid == 100
        assert [model.id for model in b.status.models] == ["model.gguf"]
        assert b.status.detail == "Serving 1 model on http://localhost:8134."
        assert b.words[-1] == "ready"


async def test_a_server_that_is_not_desired_is_left_alone():
    async with bench(make_config(desired_running=False)) as b:
        assert b.status.status is Status.INITIAL
        assert b.processes.spawned == []
        assert "Not running" in b.status.detail


async def test_an_answer_that_passes_after_the_end_is_nobody_s():
    async with bench(make_config(desired_running=False)) as b:
        b.supervisor.moved()
        await b.clock.advance(10)
        assert b.status.status is Status.INITIAL


async def test_nothing_is_kept_of_processes_that_have_ended():
    def watched() -> int:
        gc.collect()
        return sum(isinstance(thing, WatchedProcess) for thing in gc.get_objects())

    async with bench() as b:
        await b.crash_and_recover()
        before, tasks = watched(), len(asyncio.all_tasks())
        for _ in range(20):
            await b.crash_and_recover()
        assert len(b.processes.spawned) > 20
        assert watched() == before
        assert len(asyncio.all_tasks()) == tasks
        assert len(b.status.runs) == LENGTH


async def test_a_crash_is_seen_recorded_and_mended():
    async with bench() as b:
        b.processes.last.lines = ["GGML_ASSERT(x) failed"]
        b.processes.last.die(signal=6)
        await settle()
        assert b.status.status is Status.CRASHED
        assert b.status.retries == 1
        assert b.status.next_retry_at == pytest.approx(b.clock.time() + 1)
        assert "(retry 1/5)" in (b.status.last_error or "")
        await b.clock.advance(2)
        assert b.status.status is Status.READY
        assert b.status.last_error is None
        assert len(b.processes.alive) == 1
        assert b.words == ["starting", "ready", "crashed", "starting", "ready"]
        kinds = [type(event) for event in b.history]
        assert kinds == [RunOpened, RunReady, RunClosed, RunOpened, RunReady]
        closed = b.history[2]
        assert closed.exit.signal == 6
        assert closed.last_lines == ("GGML_ASSERT(x) failed",)


async def test_no_task_of_a_supervisor_goes_on_after_its_end():
    async with bench() as b:
        before = b.processes.rests
        await b.crash_and_recover()
        assert b.processes.rests == before + 1


async def test_the_timeline_has_the_last_lives_newest_first():
    async with bench() as b:
        for _ in range(12):
            await b.crash_and_recover()
        runs = b.status.runs
        assert len(runs) == 10
        assert runs[0].open
        assert all(run.signal == 9 for run in runs[1:])
        assert [run.started_at for run in runs] == sorted((run.started_at for run in runs), reverse=True)


async def test_the_versions_of_the_snapshots_grow():
    async with bench(remembered=Remembered(version=40)) as b:
        await b.crash_and_recover()
        versions = [change.snapshot.version for change in b.store.changes]
        assert versions == sorted(set(versions))
        assert versions[0] > 40


async def test_nothing_is_published_while_nothing_changes():
    async with bench() as b:
        seen = len(b.publisher.snapshots)
        await b.clock.advance(30)
        assert b.probe.checks > 25
        assert len(b.publisher.snapshots) == seen


async def test_a_jump_of_the_wall_clock_changes_nothing():
    async with bench() as b:
        b.processes.last.die(signal=9)
        await settle()
        b.clock.jump(3600)
        await b.clock.advance(0.9)
        assert b.status.status is Status.CRASHED
        await b.clock.advance(0.2)
        assert b.status.status is not Status.CRASHED


async def test_a_permanent_failure_waits_until_its_cause_is_gone():
    def prepare(b):
        b.processes.spawn_failure = failure_of(FailureKind.BINARY_MISSING, "llama-server: not found")
        b.processes.cause = Cause(present=True, mark="absent")

    async with bench(prepare=prepare) as b:
        assert b.status.status is Status.ERROR
        assert b.status.failure.hint
        await b.clock.advance(10)
        assert b.status.status is Status.ERROR
        b.processes.spawn_failure, b.processes.cause = None, Cause(present=True, mark="10 bytes")
        await b.clock.advance(2)
        b.processes.cause = Cause(present=True, mark="20 bytes")
        await b.clock.advance(2)
        assert b.status.status is Status.ERROR, "it still grows"
        await b.clock.advance(2)
        assert b.status.status is Status.READY


async def test_a_cause_that_went_before_anybody_looked_is_gone_too():
    def prepare(b):
        b.processes.spawn_failure = failure_of(FailureKind.MODEL_MISSING, "model.gguf")
        b.processes.cause = Cause(present=False, mark="there")

    async with bench(prepare=prepare) as b:
        b.processes.spawn_failure = None
        await b.clock.advance(3)
        assert b.status.status is Status.READY


async def test_a_failure_whose_file_is_there_is_tried_once_more_and_not_for_ever():
    def prepare(b):
        b.processes.spawn_failure = failure_of(FailureKind.MODEL_MISSING, "a part of it")
        b.processes.cause = Cause(present=False, mark="there")

    async with bench(prepare=prepare) as b:
        await b.clock.advance(600)
        assert b.status.status is Status.ERROR
        assert b.words.count("starting") <= 2


async def test_a_cause_that_nobody_can_watch_waits_for_a_person():
    def prepare(b):
        b.processes.spawn_failure = failure_of(FailureKind.BAD_ARGUMENT, "--frobnicate")

    async with bench(prepare=prepare) as b:
        b.processes.spawn_failure = None
        await b.clock.advance(60)
        assert b.status.status is Status.ERROR


async def test_a_running_llama_server_is_taken_over():
    async with bench(prepare=lambda b: setattr(b.processes, "holder", stranger(llama=True))) as b:
        assert b.status.status is Status.READY
        assert b.status.adopted
        assert b.status.pid == 999
        assert b.processes.spawned == []
        b.processes.holder = None
        b.processes.adopted[0].die()
        await b.clock.advance(2)
        assert b.status.status is Status.READY
        assert not b.status.adopted
        assert len(b.processes.spawned) == 1


async def test_a_process_that_ends_while_it_is_adopted_is_tried_again():
    gone = stranger(llama=True)
    gone = type(gone)(identity=gone.identity, command="gone", is_llama_server=True)
    async with bench(prepare=lambda b: setattr(b.processes, "holder", gone)) as b:
        b.processes.holder = None
        await b.clock.advance(5)
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == 1


async def test_unreadable_models_leave_a_server_ready_with_a_warning():
    async with bench(prepare=lambda b: setattr(b.probe, "models_error", "/v1/models answered 500")) as b:
        assert b.status.status is Status.READY
        assert b.status.models == ()
        assert b.status.warnings == ("Its models could not be read: /v1/models answered 500.",)


async def test_three_missed_checks_are_a_hang_and_the_server_recovers():
    async with bench(make_config(health=HealthPolicy(interval_ms=1000))) as b:
        b.probe.answer = Health.SILENT
        await b.clock.advance(1)
        assert "missed 1 of 3" in b.status.detail
        await b.clock.advance(2)
        assert b.status.status is Status.CRASHED
        assert b.status.failure.kind is FailureKind.HUNG
        b.probe.answer = Health.OK
        await b.clock.advance(3)
        assert b.status.status is Status.READY
        assert len(b.processes.alive) == 1


async def test_a_load_shows_its_progress_with_an_eta_from_past_starts(caplog):
    def prepare(b):
        b.probe.answer = Health.LOADING
        b.processes.total_bytes = 4 * 1024**3

    ours, other = ("llama-server", "-m", "model.gguf"), ("llama-server", "-m", "other.gguf")
    loads = ((ours, 20.0), (other, 5.0), (ours, 30.0), (ours, 40.0))
    async with bench(remembered=Remembered(loads=loads), prepare=prepare) as b:
        b.processes.last.resident = 1024**3
        await b.clock.advance(9)
        progress = b.status.progress
        assert progress.percent == 25
        assert progress.eta_seconds == pytest.approx(20, abs=1)
        assert b.status.detail == "Loading the model."
        assert "Loading the model: 25 % (1.0 GiB of 4.0 GiB, about" in caplog.text
        await b.clock.advance(60)
        assert b.status.progress.eta_seconds is None, "no ETA rather than a wrong one"
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert b.status.status is Status.READY
        assert b.status.progress is None


async def test_another_model_has_no_past_loads():
    ours = ("llama-server", "-m", "model.gguf")
    async with bench(remembered=Remembered(loads=((ours, 20.0),))) as b:
        b.probe.answer = Health.LOADING
        b.processes.total_bytes = 2**30
        other = replace(make_spec(), model_path="other.gguf", args=("-m", "other.gguf"))
        b.supervisor.apply(make_config(spec=other))
        await b.clock.advance(5)
        assert b.status.progress.eta_seconds is None


async def test_a_bug_in_a_task_is_raised_and_not_swallowed():
    built = Bench(make_config(), Remembered())

    async def broken(name, spec):
        raise RuntimeError("bug")

    built.processes.port_holder = broken
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(1)
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(task, DEADLINE)


async def test_after_the_last_retry_nothing_happens_by_itself():
    async with bench(make_config(restart=RestartPolicy(max_retries=0))) as b:
        b.processes.last.die(code=1)
        await b.clock.advance(120)
        assert b.status.status is Status.ERROR
        assert "Gave up after 0 retries" in b.status.detail
        b.supervisor.apply(make_config(restart=RestartPolicy(max_retries=0), generation=2))
        await b.clock.advance(1)
        assert b.status.status is Status.READY


async def test_the_end_of_a_process_that_was_let_go_touches_nothing():
    def somebody_else_s(b):
        b.processes.holder = PortHolder(identity=None, command="", is_llama_server=True)

    async with bench(prepare=somebody_else_s) as b:
        (adopted,) = b.processes.adopted
        b.processes.holder = None
        b.supervisor.apply(make_config(spec=make_spec(port=9999), generation=2))
        await b.clock.advance(1)
        assert adopted.forgotten
        assert (b.status.status, b.status.adopted) == (Status.READY, False)
        rests, seen = b.processes.rests, len(b.store.changes)
        adopted.die()
        await settle()
        assert b.processes.rests == rests, "what writes to this server's log is its own process"
        assert len(b.store.changes) == seen
        assert b.processes.last.alive


async def test_deaths_that_a_request_explains_use_up_no_retry():
    async with bench(make_config(restart=RestartPolicy(max_retries=1))) as b:
        await b.clock.advance(1)
        pids = []
        for _ in range(2):
            pids.append(b.status.pid)
            b.processes.last.die(signal=11)
            await b.clock.advance(3)
        assert b.status.status is Status.ERROR
        explained = replace(b.supervisor.config, explained=frozenset(pids))
        for _ in range(2):  # as often as somebody looks
            b.supervisor.apply(explained)
            await b.clock.advance(1)
        assert (b.status.status, b.status.retries) == (Status.READY, 0)


async def test_the_console_names_a_stranger_on_the_port_without_its_secrets(caplog):
    argv = ("nginx", "--api-key", "hush", "-g", "daemon off;")
    holder = replace(stranger(llama=False), argv=argv)
    async with bench(prepare=lambda b: setattr(b.processes, "holder", holder)) as b:
        assert b.status.status is Status.ERROR
        assert "hush" not in caplog.text
        assert "runs nginx --api-key '[redacted]' -g 'daemon off;'" in caplog.text
        assert "daemon off" not in b.status.detail
