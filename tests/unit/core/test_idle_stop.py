"""A server that was stopped because nobody asked it for anything: what it says of that, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.changes import Remembered, RunClosed
from supervisor_app.core.status import Status
from supervisor_app.core.testing import make_config
from tests.unit.core.supervising import bench

SAID = "Stopped: nothing was asked of it for 10 m. The next request through the gateway starts it."
RUNS = make_config()
IDLE = replace(RUNS, desired_running=False, generation=2, idle_seconds=600)


async def test_an_idle_server_is_stopped_and_says_why():
    async with bench(RUNS) as b:
        b.processes.last.stubborn = True
        b.supervisor.apply(IDLE)
        await b.clock.advance(1)
        assert b.status.status is Status.STOPPING
        assert b.status.detail.startswith("Nothing was asked of it for 10 m. Asked to end; SIGKILL follows")
        await b.clock.advance(10)
        assert b.status.status is Status.INITIAL
        assert b.status.detail == SAID


async def test_the_history_says_why_an_idle_server_ended():
    async with bench(RUNS) as b:
        b.supervisor.apply(IDLE)
        await b.clock.advance(1)
        (closed,) = [event for event in b.history if isinstance(event, RunClosed)]
        assert (closed.failure, closed.note) == (None, "Nothing was asked of it for 10 m.")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Stopped: nothing was asked of it. The next"),
        (90, "Stopped: nothing was asked of it for 1 m 30 s. The next"),
    ],
)
async def test_an_idle_stop_says_for_how_long(seconds, words):
    async with bench(replace(IDLE, idle_seconds=seconds)) as b:
        assert b.status.detail.startswith(words)


async def test_the_next_supervisor_says_the_same():
    async with bench(IDLE, Remembered(generation=2, version=7)) as b:
        assert (b.status.status, b.status.detail) == (Status.INITIAL, SAID)
        assert b.processes.spawned == []


async def test_a_request_starts_a_server_that_idled():
    async with bench(IDLE) as b:
        b.supervisor.apply(replace(RUNS, generation=3))
        await b.clock.advance(1)
        assert b.status.detail == "Serving 1 model on http://localhost:8134."


async def test_a_request_that_comes_while_a_server_ends_starts_it_after_that():
    async with bench(RUNS) as b:
        b.processes.last.stubborn = True
        b.supervisor.apply(IDLE)
        await b.clock.advance(1)
        b.supervisor.apply(replace(RUNS, generation=3))
        await b.clock.advance(10)
        assert b.status.status is Status.READY
        assert len(b.processes.spawned) == 2


async def test_an_idle_server_that_somebody_stops_for_good_promises_nothing_any_more():
    async with bench(IDLE) as b:
        b.supervisor.apply(replace(IDLE, generation=3, idle_seconds=None))
        await b.clock.advance(1)
        assert b.status.status is Status.INITIAL
        assert "gateway" not in b.status.detail
