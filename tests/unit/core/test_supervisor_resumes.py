"""After a supervisor that was killed the next one goes on where it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from supervisor_app.common.redact import HIDDEN, redact_argv
from supervisor_app.core.changes import Remembered, RunClosed, RunOpened
from supervisor_app.core.sightings import Slots
from supervisor_app.core.status import RunSummary, Status
from supervisor_app.core.testing import make_config, make_spec, stranger
from tests.unit.core.supervising import SURVIVOR, bench


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


async def test_versions_of_a_status_are_never_behind_what_pages_have_seen():
    """Also when the last states could not be saved: a page ignores what counts lower."""
    async with bench(remembered=Remembered(version=5)) as b:
        assert b.publisher.snapshots[0].version >= (b.clock.time() - 1) * 1000
    async with bench(remembered=Remembered(version=10**15)) as b:
        assert b.publisher.snapshots[0].version > 10**15


async def test_a_survivor_is_taken_over_without_a_restart():
    async with bench(remembered=remembered(), prepare=survivor) as b:
        assert b.status.status is Status.READY
        assert b.status.pid == 77
        assert not b.status.adopted, "it is our own"
        assert b.status.retries == 2
        assert b.processes.spawned == []
        assert not any(isinstance(event, RunOpened) for event in b.history)
        assert b.status.runs[0].ready_at == 2.0


@pytest.mark.parametrize(("secrets", "is_replaced"), [("", False), ("now", False), ("before", True)])
async def test_a_survivor_whose_key_was_changed_meanwhile_is_replaced(secrets, is_replaced):
    config = replace(make_config(), secrets="now")
    async with bench(config, remembered(secrets=secrets), prepare=survivor) as b:
        await b.clock.advance(5)
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == is_replaced


async def test_a_survivor_that_was_not_asked_to_run_any_more_is_stopped():
    config = make_config(desired_running=False, generation=2)
    async with bench(config, remembered(), prepare=survivor) as b:
        assert b.status.status is Status.INITIAL
        assert not b.processes.adopted[0].alive


async def test_a_survivor_that_was_to_stop_finishes_its_requests_once_it_is_proved_to_be_ours():
    def busy(b):
        survivor(b)
        b.probe.working = Slots(answered=True, busy=True, working=1, total=4)

    config = make_config(desired_running=False, generation=2)
    async with bench(config, remembered(status=Status.STOPPING), prepare=busy) as b:
        process = b.processes.adopted[0]
        assert (b.status.status, b.status.draining) == (Status.STOPPING, True)
        process.owns = False
        await b.clock.advance(1)
        assert process.alive
        b.probe.working = Slots(answered=True, total=4)
        await b.clock.advance(1)
        assert not process.alive


async def test_a_survivor_of_which_nobody_knows_where_it_listens_is_busy():
    def hidden(b):
        survivor(b)
        adopt = b.processes.adopt

        async def adopts(name, holder, spec):
            process = await adopt(name, holder, spec)
            process.owns = False
            return process

        b.processes.adopt = adopts

    config = make_config(desired_running=False, generation=2)
    async with bench(config, remembered(status=Status.STOPPING), prepare=hidden) as b:
        await b.clock.advance(1)
        assert b.probe.slot_checks == 0
        assert b.status.draining
        await b.clock.advance(60)
        assert b.status.status is Status.INITIAL


async def test_a_survivor_with_an_older_config_is_restarted():
    async with bench(remembered=remembered(argv=("llama-server", "-m", "old")), prepare=survivor) as b:
        assert b.status.status is Status.READY
        assert not b.processes.adopted[0].alive
        assert len(b.processes.spawned) == 1


WITH_TOKEN = make_spec(args=("-m", "model.gguf", "--hf-token", "hush"))


def kept(*flags: str):
    """Prepares a machine on which the process that was remembered runs with these flags."""
    holder = replace(stranger(llama=True, pid=77), argv=("llama-server", *flags))
    return lambda b: b.processes.survivors.update({SURVIVOR: holder})


async def test_no_secret_of_a_command_line_is_kept():
    async with bench(make_config(spec=WITH_TOKEN)) as b:
        opened = next(event for event in b.history if isinstance(event, RunOpened))
        assert opened.argv == ("llama-server", "-m", "model.gguf", "--hf-token", HIDDEN)
        assert len(b.processes.spawned) == 1


@pytest.mark.parametrize(("token", "restarts"), [("hush", 0), ("other", 1)])
async def test_whether_a_survivor_has_the_secret_of_now_is_seen_by_its_own_command_line(token, restarts):
    was = remembered(argv=redact_argv(WITH_TOKEN.argv))
    prepare = kept("-m", "model.gguf", "--hf-token", token)
    async with bench(make_config(spec=WITH_TOKEN), was, prepare=prepare) as b:
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == restarts


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


async def test_an_unrecorded_process_is_adopted_and_recorded():
    async with bench(remembered=remembered(), prepare=unrecorded(*make_spec().args)) as b:
        assert (b.status.status, b.status.pid, b.status.adopted) == (Status.READY, 88, False)
        assert b.processes.spawned == []
        closed, opened = b.history[:2]
        assert isinstance(closed, RunClosed)
        assert (opened.identity.pid, opened.argv) == (88, make_spec().argv)


async def test_an_unrecorded_process_is_what_came_of_the_restart_that_is_on_record():
    state = Remembered(generation=1, status=Status.STOPPING)
    async with bench(remembered=state, prepare=unrecorded(*make_spec().args)) as b:
        assert (b.status.status, b.status.pid) == (Status.READY, 88)
        assert b.processes.spawned == []


async def test_an_unrecorded_process_is_stopped_where_none_is_wished():
    config = make_config(desired_running=False)
    async with bench(config, Remembered(generation=1), prepare=unrecorded("-m", "model.gguf")) as b:
        assert b.status.status is Status.INITIAL
        assert not b.processes.adopted[0].alive
        assert [type(event) for event in b.history] == [RunOpened, RunClosed]


async def test_an_unrecorded_process_with_other_flags_is_restarted():
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
async def test_a_supervisor_that_is_stopped_while_it_looks_around_starts_nothing(
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
        submit, generations = b.recorder.submit, []

        def noted(change):
            generations.append(change.generation)
            submit(change)

        b.recorder.submit = noted
        other = replace(make_config(generation=2, restart_generation=2), spec=make_spec(port=9))
        b.supervisor.apply(other)  # what is new of its configuration comes first
        await b.clock.advance(1)
        assert generations[0] == 1
        assert b.store.changes[-1].generation == 2


async def test_a_run_whose_end_nobody_saw_is_closed_and_a_new_one_begins():
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


async def test_a_supervisor_killed_in_backoff_is_continued_with_its_retries():
    down = Remembered(version=3, generation=1, retries=3, status=Status.CRASHED)
    async with bench(remembered=down) as b:
        assert b.status.status is Status.READY
        assert b.status.retries == 3


async def test_a_server_that_was_given_up_stays_so_until_somebody_asks():
    down = Remembered(version=3, generation=1, retries=5, status=Status.ERROR)
    async with bench(remembered=down) as b:
        assert b.status.status is Status.ERROR
        assert b.processes.spawned == []
        b.supervisor.apply(make_config(generation=2))
        await b.clock.advance(1)
        assert b.status.status is Status.READY
