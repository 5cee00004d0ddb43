"""Several processes of one gateway: who is replaced, who ends all, and what a signal does to them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import psutil
import pytest

from supervisor_app.gateway.workers import processes as module
from supervisor_app.gateway.workers.processes import FORCE, Workers, until_orphaned
from tests.deadline import DEADLINE
from tests.integration.building import eventually

SCRIPT = """
import os, signal, sys
def note(word):
    with open("notes", "a") as notes:
        notes.write(f"{os.getpid()} {word}\\n")
def noted(word):
    return sum(line.endswith(f" {word}\\n") for line in open("notes"))
def on_signal(number, frame):
    note(signal.Signals(number).name)
    if number in ENDED_BY:
        os._exit(EXIT_CODE)
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, on_signal)
START
note("up")
while True:
    signal.pause()
"""


def worker(*, start="", ended_by="signal.SIGTERM, signal.SIGUSR1", exit_code=0):
    """Notes what happens to it; `start` is what it does first."""
    script = SCRIPT.replace("START", start)
    return script.replace("ENDED_BY", f"({ended_by},)").replace("EXIT_CODE", str(exit_code))


STUBBORN = worker(ended_by="signal.SIGUSR1")
"""Has requests in flight until it is forced."""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Where they leave their notes; replacements come soon."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.02)
    (tmp_path / "notes").touch()


@pytest.fixture
def notes(tmp_path):
    """Pid and word of each note. Whoever made one has gone at the end."""

    def read():
        lines = (tmp_path / "notes").read_text().splitlines()
        return [(int(pid), word) for pid, word in (line.split() for line in lines)]

    yield read
    assert not [pid for pid, _ in read() if psutil.pid_exists(pid)]


@pytest.fixture
def up(notes):
    """The pids of all that have come up, in this order."""
    return lambda: [pid for pid, word in notes() if word == "up"]


@asynccontextmanager
async def running(script, count=2):
    """The workers and the task that looks after them; nobody is left at the end."""
    workers = Workers(lambda number: [sys.executable, "-ISc", script, str(number)])
    task = asyncio.create_task(workers.run(count))
    try:
        yield workers, task
    finally:
        while not task.done():
            workers.stop()
            await asyncio.wait({task}, timeout=0.1)


async def code_of(task):
    async with asyncio.timeout(DEADLINE):
        return await task


async def test_a_signal_is_passed_on_and_they_end_with_0(up, notes):
    async with running(worker()) as (_, task):
        await eventually(lambda: len(up()) == 2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await code_of(task) == 0
    assert sorted(notes()) == sorted((pid, word) for pid in up() for word in ("up", "SIGTERM"))


async def test_ctrl_c_is_passed_on_as_what_it_means_and_the_second_one_forces(up, notes):
    async with running(STUBBORN) as (_, task):
        await eventually(lambda: len(up()) == 2)
        os.kill(os.getpid(), signal.SIGINT)
        await eventually(lambda: len(notes()) == 4)
        assert not task.done()
        os.kill(os.getpid(), signal.SIGINT)
        assert await code_of(task) == 0
    for pid in up():
        assert [word for other, word in notes() if other == pid] == ["up", "SIGTERM", FORCE.name]


async def test_a_worker_that_is_killed_is_replaced(up, caplog):
    async with running(worker()) as (_, task):
        await eventually(lambda: len(up()) == 2)
        os.kill(up()[0], signal.SIGKILL)
        await eventually(lambda: len(up()) == 3)
        assert not task.done()
    (message,) = caplog.messages
    assert message.startswith("❌ [GATEWAY] Worker ")
    assert message.endswith("ended with -9: starting it again")


async def test_a_worker_that_replaces_another_has_its_number(up, notes):
    script = worker(start="note(sys.argv[1])")
    async with running(script) as (_, task):
        await eventually(lambda: len(up()) == 2)
        numbers = dict(note for note in notes() if note[1] in "12")
        assert sorted(numbers.values()) == ["1", "2"]
        os.kill(killed := up()[0], signal.SIGKILL)
        await eventually(lambda: len(up()) == 3)
        assert (up()[2], numbers[killed]) in notes()
        assert not task.done()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_worker_that_cannot_start_ends_all_with_its_code(count):
    """The first to make the directory is the one that cannot."""
    start = "try: os.mkdir('first')\nexcept OSError: pass\nelse: sys.exit(3)"
    async with running(worker(start=start), count) as (_, task):
        assert await code_of(task) == 3


async def test_a_worker_that_has_served_may_fail_to_start_as_often_as_it_takes(up, notes):
    """As while the database is away."""
    start = "if noted('up') == 1 and noted('failed') < 3: note('failed'); sys.exit(3)"
    async with running(worker(start=start), 1) as (_, task):
        await eventually(lambda: up())
        os.kill(up()[0], signal.SIGKILL)
        await eventually(lambda: len(up()) == 2)
        assert [word for _, word in notes()] == ["up", "failed", "failed", "failed", "up"]
        assert not task.done()


async def test_a_late_failure_is_no_reason_to_give_up(notes, monkeypatch):
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.0)
    async with running(worker(start="note('failed'); sys.exit(1)"), 1):
        await eventually(lambda: len(notes()) >= 3)


async def test_while_one_waits_to_be_replaced_the_end_waits_for_nothing(up, monkeypatch, caplog):
    monkeypatch.setattr(module, "RESTART_SECONDS", 600.0)
    async with running(worker(), 1) as (workers, task):
        await eventually(lambda: up())
        os.kill(up()[0], signal.SIGKILL)
        await eventually(lambda: caplog.messages)
        workers.stop()
        assert await code_of(task) == 0


async def test_a_worker_that_is_being_started_hears_of_the_end_too():
    async with running("import time; time.sleep(600)") as (workers, task):
        await asyncio.sleep(0)  # both are being started now
        workers.stop()
        assert await code_of(task) == 0


async def test_a_worker_that_failed_while_it_ended_is_told(up):
    async with running(worker(exit_code=5)) as (workers, task):
        await eventually(lambda: len(up()) == 2)
        workers.stop()
        assert await code_of(task) == 5


async def test_a_worker_whose_parent_has_gone_knows_it(monkeypatch, caplog):
    monkeypatch.setattr(module, "ORPHAN_SECONDS", 0.01)
    parent, looks = os.getppid(), []

    def look():
        looks.append(parent)
        return parent

    monkeypatch.setattr(os, "getppid", look)
    waiting = asyncio.create_task(until_orphaned(parent))
    await eventually(lambda: len(looks) > 2)
    assert not waiting.done()
    monkeypatch.setattr(os, "getppid", lambda: -1)
    await asyncio.wait_for(waiting, DEADLINE)
    assert caplog.messages == ["⚠️ [GATEWAY] The process that looked after this worker has gone: ending, too"]
