"""One server's supervisor on a fake machine and a fake clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.ports import (
    Autopsy,
    Canary,
    Cause,
    Health,
    Identity,
    MemorySample,
    Remembered,
    RunClosed,
    RunOpened,
    RunReady,
    Slots,
    Usage,
)
from supervisor_app.core.recorder import Recorder
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import FailureKind, RunSummary, Status
from supervisor_app.core.supervisor import ServerSupervisor
from supervisor_app.core.testing import (
    FakeClock,
    FakeProbe,
    FakeProcesses,
    InMemoryStore,
    RecordingPublisher,
    make_config,
    make_spec,
    settle,
    stranger,
)

SURVIVOR = Identity(pid=77, start=5, boot_id="boot")


class Bench:
    """A supervisor and the machine it runs on."""

    def __init__(self, config, remembered) -> None:
        self.clock = FakeClock()
        self.processes = FakeProcesses(self.clock)
        self.probe = FakeProbe()
        self.store = InMemoryStore()
        self.publisher = RecordingPublisher()
        self.recorder = Recorder(store=self.store, publisher=self.publisher, clock=self.clock)
        self.supervisor = ServerSupervisor(
            config,
            remembered,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            recorder=self.recorder,
        )

    @property
    def status(self):
        return self.supervisor.snapshot

    @property
    def words(self) -> list[str]:
        """Statuses in the order in which pages saw them."""
        seen = [snapshot.status.value for snapshot in self.publisher.snapshots]
        return [word for index, word in enumerate(seen) if index == 0 or word != seen[index - 1]]

    @property
    def history(self):
        return [event for change in self.store.changes for event in change.run_events]

    async def crash_and_recover(self) -> None:
        self.processes.last.die(signal=9)
        await self.clock.advance(90)


@asynccontextmanager
async def bench(config=None, remembered=None, *, prepare=None):
    built = Bench(config or make_config(), remembered or Remembered())
    if prepare:
        prepare(built)
    tasks = [asyncio.create_task(built.supervisor.run()), asyncio.create_task(built.recorder.run())]
    await built.clock.advance(1)
    try:
        yield built
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_starts_what_is_desired_and_says_what_it_serves():
    async with bench() as b:
        assert b.status.status is Status.READY
        assert b.status.pid == 100
        assert [model.id for model in b.status.models] == ["model.gguf"]
        assert b.status.detail == "Serving 1 model on http://localhost:8134."
        assert b.words[-1] == "ready"


async def test_it_leaves_alone_what_is_not_desired():
    async with bench(make_config(desired_running=False)) as b:
        assert b.status.status is Status.INITIAL
        assert b.processes.spawned == []
        assert "Not running" in b.status.detail


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


async def test_of_what_it_leaves_behind_when_it_ends_nothing_goes_on():
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


async def test_one_that_ends_while_it_is_taken_over_is_tried_again():
    gone = stranger(llama=True)
    gone = type(gone)(identity=gone.identity, command="gone", is_llama_server=True)
    async with bench(prepare=lambda b: setattr(b.processes, "holder", gone)) as b:
        b.processes.holder = None
        await b.clock.advance(5)
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == 1


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


async def test_a_server_that_may_not_be_signalled_is_let_go():
    hidden = type(stranger(llama=True))(identity=None, command="", is_llama_server=True)
    async with bench(prepare=lambda b: setattr(b.processes, "holder", hidden)) as b:
        assert b.status.status is Status.READY
        assert b.status.pid is None
        b.supervisor.apply(make_config(desired_running=False, generation=2))
        await settle()
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


async def test_models_that_cannot_be_read_leave_it_ready_with_a_warning():
    async with bench(prepare=lambda b: setattr(b.probe, "models_error", "/v1/models answered 500")) as b:
        assert b.status.status is Status.READY
        assert b.status.models == ()
        assert b.status.warnings == ("Its models could not be read: /v1/models answered 500.",)


async def test_three_missed_checks_are_hung_and_it_recovers():
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


async def test_while_it_loads_the_progress_is_shown_with_an_eta_from_past_starts(caplog):
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
        assert "Loading the model: 25 % (1.0 of 4.0 GiB, about" in caplog.text
        await b.clock.advance(60)
        assert b.status.progress.eta_seconds is None, "no ETA rather than a wrong one"
        b.probe.answer = Health.OK
        await b.clock.advance(1)
        assert b.status.status is Status.READY
        assert b.status.progress is None


# After a supervisor that was killed


def remembered(**changes) -> Remembered:
    values = {
        "version": 9,
        "generation": 1,
        "retries": 2,
        "identity": SURVIVOR,
        "run_open": True,
        "argv": make_spec().argv,
        "runs": (RunSummary(started_at=1.0, ready_at=2.0, retry=2, adopted=False),),
    }
    return Remembered(**{**values, **changes})


def survivor(b) -> None:
    b.processes.survivors[SURVIVOR] = stranger(llama=True, pid=77)


async def test_a_survivor_is_taken_over_without_a_restart():
    async with bench(remembered=remembered(), prepare=survivor) as b:
        assert b.status.status is Status.READY
        assert b.status.pid == 77
        assert not b.status.adopted, "it is our own"
        assert b.status.retries == 2
        assert b.processes.spawned == []
        assert not any(isinstance(event, RunOpened) for event in b.history)
        assert b.status.runs[0].ready_at == 2.0


async def test_a_survivor_that_was_not_asked_to_run_any_more_is_stopped():
    config = make_config(desired_running=False, generation=2)
    async with bench(config, remembered(), prepare=survivor) as b:
        assert b.status.status is Status.INITIAL
        assert not b.processes.adopted[0].alive


async def test_a_survivor_with_an_older_config_is_restarted():
    async with bench(remembered=remembered(argv=("llama-server", "-m", "old")), prepare=survivor) as b:
        assert b.status.status is Status.READY
        assert not b.processes.adopted[0].alive
        assert len(b.processes.spawned) == 1


async def test_a_survivor_that_was_being_restarted_is_restarted():
    async with bench(remembered=remembered(status=Status.STOPPING), prepare=survivor) as b:
        assert b.status.status is Status.READY
        assert not b.processes.adopted[0].alive
        assert len(b.processes.spawned) == 1


async def test_a_survivor_that_was_being_stopped_is_stopped():
    config = make_config(desired_running=False)
    async with bench(config, remembered(status=Status.STOPPING), prepare=survivor) as b:
        assert b.status.status is Status.INITIAL
        assert not b.processes.adopted[0].alive
        assert b.processes.spawned == []


def unrecorded(*flags: str):
    """Prepares a machine on which one of ours runs that no run tells of."""
    holder = replace(stranger(llama=True, pid=88), argv=("/bin/sh", "llama-server", *flags))

    def prepare(b) -> None:
        b.processes.unrecorded = holder

    return prepare


async def test_one_that_nobody_wrote_down_is_taken_over_and_written_down():
    async with bench(remembered=remembered(), prepare=unrecorded(*make_spec().args)) as b:
        assert (b.status.status, b.status.pid, b.status.adopted) == (Status.READY, 88, False)
        assert b.processes.spawned == []
        closed, opened = b.history[:2]
        assert isinstance(closed, RunClosed)
        assert (opened.identity.pid, opened.argv) == (88, make_spec().argv)


async def test_one_that_nobody_wrote_down_is_stopped_where_none_is_wished():
    config = make_config(desired_running=False)
    async with bench(config, Remembered(generation=1), prepare=unrecorded("-m", "model.gguf")) as b:
        assert b.status.status is Status.INITIAL
        assert not b.processes.adopted[0].alive
        assert [type(event) for event in b.history] == [RunOpened, RunClosed]


async def test_one_that_nobody_wrote_down_is_restarted_when_it_has_other_flags():
    async with bench(prepare=unrecorded("-m", "old.gguf")) as b:
        assert b.status.status is Status.READY
        assert not b.processes.adopted[0].alive
        opened = [event for event in b.history if isinstance(event, RunOpened)]
        assert [run.argv[-1] for run in opened] == ["old.gguf", "model.gguf"]


@pytest.mark.parametrize(
    ("config", "remembered_then", "flags"),
    [
        (make_config(), Remembered(generation=1), None),
        (make_config(generation=2), Remembered(generation=1), None),
        (make_config(), Remembered(generation=1, status=Status.CRASHED, retries=2), None),
        (make_config(), Remembered(generation=1), ("-m", "old.gguf")),
        (make_config(), Remembered(generation=1, status=Status.STOPPING), make_spec().args),
    ],
    ids=["desired", "just wished for", "crashed", "runs with other flags", "was being restarted"],
)
async def test_told_to_stop_while_it_looks_around_it_starts_nothing_after_that(
    config, remembered_then, flags
):
    looked = asyncio.Event()

    def prepare(b):
        if flags:
            unrecorded(*flags)(b)
        find_ours = b.processes.find_ours

        async def finds_late(name):
            await looked.wait()
            return await find_ours(name)

        b.processes.find_ours = finds_late

    async with bench(config, remembered_then, prepare=prepare) as b:
        b.supervisor.stop("The supervisor was stopped.", spare_adopted=True)
        looked.set()
        await b.clock.advance(60)
        await b.supervisor.idle()
        assert b.processes.spawned == []
        assert not [process for process in b.processes.adopted if process.alive]
        assert b.status.status is Status.INITIAL


async def test_a_hung_one_that_was_being_ended_and_is_gone_counts_its_retries_on():
    async with bench(remembered=remembered(status=Status.CRASHED)) as b:
        assert (b.status.status, b.status.retries) == (Status.READY, 2)


async def test_a_wish_counts_as_heard_once_something_is_done_about_it():
    async with bench() as b:
        b.supervisor.apply(make_config(generation=2, restart_generation=2))
        b.supervisor._record()
        assert b.store.changes[-1].generation == 1
        await b.clock.advance(1)
        assert b.store.changes[-1].generation == 2


async def test_a_life_whose_end_nobody_saw_is_closed_and_a_new_one_begins():
    async with bench(remembered=remembered()) as b:
        assert b.status.status is Status.READY
        assert isinstance(b.history[0], RunClosed)
        assert "no supervisor" in b.history[0].failure.detail
        assert len(b.processes.spawned) == 1
        assert not b.status.runs[1].open
        assert b.processes.rests == 1, "of what it left behind nothing goes on"


async def test_a_command_given_while_nobody_supervised_is_obeyed_once():
    config = make_config(generation=3, restart_generation=3)
    async with bench(config, remembered(), prepare=survivor) as b:
        assert len(b.processes.spawned) == 1
        assert not b.processes.adopted[0].alive
        assert b.store.changes[-1].generation == 3


async def test_a_bug_in_a_task_is_raised_and_not_swallowed():
    built = Bench(make_config(), Remembered())

    async def broken(name, spec):
        raise RuntimeError("bug")

    built.processes.port_holder = broken
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(1)
    with pytest.raises(RuntimeError, match="bug"):
        await asyncio.wait_for(task, 5)


async def test_after_the_last_retry_nothing_happens_by_itself():
    async with bench(make_config(restart=RestartPolicy(max_retries=0))) as b:
        b.processes.last.die(code=1)
        await b.clock.advance(120)
        assert b.status.status is Status.ERROR
        assert "Gave up after 0 retries" in b.status.detail
        b.supervisor.apply(make_config(restart=RestartPolicy(max_retries=0), generation=2))
        await b.clock.advance(1)
        assert b.status.status is Status.READY


# Hung is not healthy


async def test_an_idle_server_is_not_asked_what_it_works_at():
    async with bench() as b:
        await b.clock.advance(600)
        assert b.probe.slot_checks == 0


async def test_a_client_that_waits_is_reason_to_ask():
    async with bench() as b:
        b.processes.last.used = Usage(connections=1)
        await b.clock.advance(20)
        assert b.probe.slot_checks == 4


async def test_a_hung_computation_is_noticed_and_mended():
    async with bench(make_config(health=HealthPolicy(stall_seconds=30))) as b:
        b.processes.last.used = Usage(cpu_seconds=5.0, connections=1)
        b.probe.working = Slots(answered=True, busy=True, mark="stuck")
        await b.clock.advance(45)
        assert len(b.processes.spawned) == 2
        assert b.status.status is Status.READY
        assert b.status.runs[1].failure.kind is FailureKind.HUNG


async def test_a_server_whose_answers_pass_a_gateway_is_not_hung():
    async with bench(make_config(health=HealthPolicy(stall_seconds=30))) as b:
        b.processes.last.used = Usage(cpu_seconds=50.0, connections=1)
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
            b.processes.last.used = Usage(cpu_seconds=2.0 * second, connections=1)
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
async def test_while_a_client_may_wait_it_is_not_asked_for_a_token(slots, canaries):
    async with bench(CANARY) as b:
        b.processes.last.used = Usage(connections=1)
        b.probe.working = slots
        await b.clock.advance(1300)
        assert b.probe.slot_checks > 100
        assert b.probe.canaries == canaries


async def test_a_canary_that_waited_for_work_that_is_done_by_now_is_no_evidence():
    async with bench(CANARY) as b:

        async def canary_behind_others(spec, timeout):
            b.probe.canaries += 1
            b.processes.last.used = Usage(cpu_seconds=100.0 * b.probe.canaries)
            await b.clock.sleep_until(b.clock.monotonic() + timeout)
            return Canary.SILENT

        b.probe.canary = canary_behind_others
        b.probe.working = Slots(answered=True, total=4)
        await b.clock.advance(3600)
        assert b.probe.canaries == 4
        assert len(b.processes.spawned) == 1


async def test_a_supervisor_killed_in_backoff_is_continued_with_its_retries():
    down = Remembered(version=3, generation=1, retries=3, status=Status.CRASHED)
    async with bench(remembered=down) as b:
        assert b.status.status is Status.READY
        assert b.status.retries == 3


async def test_what_was_given_up_stays_given_up_until_somebody_asks():
    down = Remembered(version=3, generation=1, retries=5, status=Status.ERROR)
    async with bench(remembered=down) as b:
        assert b.status.status is Status.ERROR
        assert b.processes.spawned == []
        b.supervisor.apply(make_config(generation=2))
        await b.clock.advance(1)
        assert b.status.status is Status.READY


# Crash loops, and the way back


async def test_five_deaths_of_the_same_kind_are_a_crash_loop():
    async with bench(make_config(restart=RestartPolicy(max_retries=9, stable_after_ms=1))) as b:
        for death in range(5):
            assert "Crash loop" not in b.status.detail
            b.processes.last.die(signal=9)
            await settle()
            assert ("Crash loop" in b.status.detail) is (death == 4)
            await b.clock.advance(10)
        assert b.status.status is Status.READY
        assert "Crash loop" not in b.status.detail


async def test_deaths_far_apart_or_of_other_kinds_are_no_loop():
    async with bench(make_config(restart=RestartPolicy(max_retries=9, stable_after_ms=1))) as b:
        for number in range(8):
            if number % 2:
                b.processes.last.die(signal=9)
            else:
                b.processes.last.lines = ["GGML_ASSERT(x) failed"]
                b.processes.last.die(signal=6)
            await settle()
            assert "Crash loop" not in b.status.detail
            await b.clock.advance(150)


def launching(model: str, **more):
    spec = make_spec(args=("-m", model))
    return replace(make_config(spec=spec, **more), launch={"model_path": model})


async def test_a_changed_config_that_does_not_get_ready_can_be_rolled_back():
    async with bench(launching("good")) as b:
        b.processes.last.die(signal=9)
        await settle()
        assert not b.status.can_roll_back, "nothing was changed"
        await b.clock.advance(3)
        b.processes.spawn_failure = failure_of(FailureKind.MODEL_MISSING, "bad")
        b.supervisor.apply(launching("bad"))
        await b.clock.advance(1)
        assert b.status.status is Status.ERROR
        assert b.status.can_roll_back
        b.processes.spawn_failure = None
        b.supervisor.apply(launching("good"))
        await b.clock.advance(1)
        assert b.status.status is Status.READY
        assert not b.status.can_roll_back


async def test_what_was_good_is_remembered_over_supervisors():
    async with bench(launching("bad"), Remembered(last_good={"model_path": "good"})) as b:
        b.processes.last.die(code=1)
        await settle()
        assert not b.status.can_roll_back, "it reached ready, so it is the good one now"


# Evidence

GIB = 1024**3
WORKING = Slots(answered=True, busy=True, mark=1, working=2, total=4)


def uses(b, gib: float) -> None:
    b.processes.last.memory = MemorySample(
        at=b.clock.time(), anon=int(gib * GIB), host_total=16 * GIB, host_available=GIB
    )


def closed(b) -> RunClosed:
    return [event for event in b.history if isinstance(event, RunClosed)][-1]


async def test_a_death_is_recorded_with_what_was_known_just_before():
    async with bench() as b:
        b.processes.last.used = Usage(cpu_seconds=50.0, connections=1)
        b.probe.working = WORKING
        uses(b, 2)
        await b.clock.advance(6)
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


async def test_memory_is_looked_at_while_it_loads():
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
async def test_what_it_was_doing_is_told_in_words(slots, said):
    async with bench() as b:
        b.processes.last.used = Usage(connections=1)
        b.probe.working = slots
        await b.clock.advance(6)
        b.processes.last.die(signal=9)
        await settle()
        assert closed(b).evidence["serving"] == said


async def test_nobody_saw_the_end_of_a_process_of_the_last_supervisor_so_there_is_no_evidence():
    async with bench(remembered=Remembered(run_open=True, identity=SURVIVOR, generation=1)) as b:
        assert closed(b).evidence == {}


async def test_memory_over_the_limit_restarts_it_once_it_is_idle():
    async with bench(make_config(health=HealthPolicy(max_memory_mb=4096))) as b:
        uses(b, 2)
        await b.clock.advance(6)
        uses(b, 5)
        b.probe.working = WORKING
        b.processes.last.used = Usage(connections=1)
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


async def test_another_model_has_no_past_loads():
    ours = ("llama-server", "-m", "model.gguf")
    async with bench(remembered=Remembered(loads=((ours, 20.0),))) as b:
        b.probe.answer = Health.LOADING
        b.processes.total_bytes = 100
        other = replace(make_spec(), model_path="other.gguf", args=("-m", "other.gguf"))
        b.supervisor.apply(make_config(spec=other))
        await b.clock.advance(5)
        assert b.status.progress.eta_seconds is None
