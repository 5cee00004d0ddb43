"""A supervisor that lacks something itself, or did not run for a while, leaves its server alone and goes on."""

from __future__ import annotations

import asyncio
import errno
from contextlib import contextmanager

import pytest

from supervisor_app.core.changes import Remembered, RunClosed
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import Cause, Health
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import InMemoryStore, make_config
from tests.deadline import DEADLINE
from tests.unit.core.supervising import SURVIVOR, Bench, bench
from tests.unit.core.test_node import Node

LOST = OSError(errno.EMFILE, "Too many open files")


@contextmanager
def lacking(where: object, *names: str, error: BaseException = LOST):
    """These methods fail for want of our own."""

    async def fails(*args: object, **more: object) -> None:
        raise error

    for name in names:
        setattr(where, name, fails)
    yield
    for name in names:
        delattr(where, name)


@pytest.mark.parametrize(
    "error", [LOST, ShortageError("no thread"), UnicodeEncodeError("ascii", "é", 0, 1, "no")]
)
async def test_a_server_that_cannot_be_looked_at_stays_ready(error):
    async with bench() as b:
        with (
            lacking(b.probe, "health", "slots", error=error),
            lacking(b.processes.last, "usage", "sample", error=error),
        ):
            await b.clock.advance(600)
            assert b.status.status is Status.READY
            assert "llamaproxy looks again as soon as it can." in b.status.warnings[0]
        await b.clock.advance(15)
        assert b.status.warnings == ()
        assert len(b.processes.spawned) == 1
        assert b.processes.last.signals == []


async def test_a_server_that_crashes_meanwhile_comes_back_and_used_up_one_retry():
    async with bench() as b:
        with lacking(b.processes, "port_holder", "spawn", "end_rest"):
            with lacking(b.processes.last, "last_lines", "autopsy", "endpoint"):
                b.processes.last.die(code=1)
                await b.clock.advance(600)
            assert b.status.status is Status.STARTING
            assert b.status.retries == 1
        await b.clock.advance(5)
        assert b.status.status is Status.READY


async def test_the_last_lines_of_a_server_are_read_as_soon_as_they_can_be():
    async with bench() as b:
        b.processes.last.lines = ["/src/ggml.c:12: GGML_ASSERT(x) failed"]
        with lacking(b.processes.last, "last_lines"):
            b.processes.last.die(signal=6)
            await b.clock.advance(2)
        await b.clock.advance(2)
        (closed,) = [event for event in b.history if isinstance(event, RunClosed)]
        assert "GGML_ASSERT" in closed.failure.detail


async def test_a_server_that_loads_is_followed_when_it_can_be():
    def prepare(b: Bench) -> None:
        b.probe.answer = Health.LOADING
        b.processes.total_bytes = 2**30

    async with bench(prepare=prepare) as b:
        b.processes.last.resident = 2**29
        with lacking(b.processes.last, "resident_bytes", "sample"):
            await b.clock.advance(3)
        await b.clock.advance(3)
        assert b.status.progress.loaded == 2**29


async def test_a_model_whose_size_cannot_be_seen_loads_all_the_same():
    def prepare(b: Bench) -> None:
        lacking(b.processes, "model_bytes").__enter__()

    async with bench(prepare=prepare) as b:
        assert b.status.status is Status.READY


async def test_a_signal_that_cannot_be_sent_is_sent_later():
    async with bench() as b:
        process = b.processes.last
        send, tries = process.terminate, []

        def terminate() -> None:
            tries.append(b.clock.monotonic())
            if len(tries) < 4:
                raise ShortageError("no descriptor")
            send()

        process.terminate = terminate
        b.supervisor.stop("", spare_adopted=False)
        await b.clock.advance(10)
        assert b.status.status is Status.INITIAL
        assert len(tries) == 4


# The beginning


async def test_a_survivor_is_found_as_soon_as_it_can_be_looked_for(caplog):
    remembered = Remembered(run_open=True, identity=SURVIVOR, status=Status.READY, argv=("llama-server",))
    built = Bench(make_config(), remembered)
    with lacking(built.processes, "find", "find_ours"):
        task = asyncio.create_task(built.supervisor.run())
        await built.clock.advance(30)
        assert built.processes.spawned == []
    assert sum("cannot be seen whether it runs" in record.message for record in caplog.records) == 1
    await built.clock.advance(5)
    assert len(built.processes.spawned) == 1
    task.cancel()


async def test_the_history_is_closed_once():
    remembered = Remembered(run_open=True, identity=SURVIVOR, status=Status.READY)
    built = Bench(make_config(), remembered)
    tasks = [asyncio.create_task(built.supervisor.run()), asyncio.create_task(built.recorder.run())]
    with lacking(built.processes, "find_ours"):
        await built.clock.advance(5)
    await built.clock.advance(5)
    assert [type(event).__name__ for event in built.history].count("RunClosed") == 1
    for task in tasks:
        task.cancel()


async def test_the_end_does_not_wait_for_a_look_that_cannot_be_taken():
    built = Bench(make_config(), Remembered())
    with lacking(built.processes, "find_ours"):
        task = asyncio.create_task(built.supervisor.run())
        await built.clock.advance(5)
        built.supervisor.stop("The end.", spare_adopted=True)
        await built.clock.advance(2)
        await asyncio.wait_for(built.supervisor.idle(), DEADLINE)
    task.cancel()


# Causes


async def test_a_cause_that_could_not_be_remembered_is_not_gone():
    missing = failure_of(FailureKind.MODEL_CORRUPT, "broken")

    def prepare(b: Bench) -> None:
        b.processes.spawn_failure = missing
        b.processes.cause = Cause(present=True, mark=1)
        b.without = lacking(b.processes, "cause_of")
        b.without.__enter__()

    async with bench(prepare=prepare) as b:
        assert b.status.status is Status.ERROR
        b.without.__exit__(None, None, None)
        await b.clock.advance(30)
        assert b.status.status is Status.ERROR
        b.processes.spawn_failure = None
        b.processes.cause = Cause(present=True, mark=2)
        await b.clock.advance(10)
        assert b.status.status is Status.READY


# We did not run


def freeze(b: Bench, seconds: float) -> None:
    """The clock goes on, and nobody of us runs."""
    b.clock.freeze(seconds)


@pytest.mark.parametrize("answer", [Health.SILENT, Health.LOADING, Health.REFUSED])
async def test_after_a_pause_a_start_goes_on_where_it_was(answer):
    def prepare(b: Bench) -> None:
        b.probe.answer = answer

    async with bench(make_config(health=HealthPolicy(max_load_seconds=30)), prepare=prepare) as b:
        freeze(b, 3600)
        await b.clock.advance(5)
        assert b.status.status is Status.STARTING
        assert b.processes.last.signals == []


async def test_after_a_pause_a_server_is_as_ready_as_before():
    async with bench() as b:
        b.probe.answer = Health.SILENT
        await b.clock.advance(1)
        freeze(b, 45)
        await b.clock.advance(1)
        b.probe.answer = Health.OK
        await b.clock.advance(60)
        assert b.status.status is Status.READY
        assert b.processes.last.signals == []


async def test_a_server_that_is_down_does_not_mind_a_pause():
    async with bench() as b:
        b.processes.last.die(code=1)
        await b.clock.advance(0.1)
        freeze(b, 3600)
        await b.clock.advance(2)
        assert b.status.status is Status.READY


# The log of one server


async def test_a_disk_that_hangs_holds_up_no_other_server():
    built = Node(make_config("a"), make_config("b", generation=1))
    trimmed: list[str] = []

    async def trim_log(name: str) -> bool:
        trimmed.append(name)
        if name == "a":
            await asyncio.Event().wait()
        return False

    built.processes.trim_log = trim_log
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(10)
    assert trimmed.count("a") == 1
    assert trimmed.count("b") > 5
    assert isinstance(built.store, InMemoryStore)
    assert built.store.beats
    task.cancel()
    await asyncio.wait({task})
    await built.supervisor.release()


async def test_a_log_is_cut_and_devices_are_looked_at_while_the_database_hangs():
    built = Node(make_config("a"))
    task = asyncio.create_task(built.supervisor.run())
    await built.clock.advance(2)
    trimmed: list[str] = []

    async def trim_log(name: str) -> bool:
        trimmed.append(name)
        return False

    built.processes.trim_log = trim_log
    built.store.configs = asyncio.Event().wait
    await built.clock.advance(3)
    trimmed.clear()
    looks = len(built.processes.surveyed)
    await built.clock.advance(60)
    assert trimmed.count("a") > 50
    assert len(built.processes.surveyed) > looks
    task.cancel()
    await asyncio.wait({task})
    await built.supervisor.release()
