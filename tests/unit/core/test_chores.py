"""Chores of a node on a fake machine: which logs are cut, and when memory and GPUs are looked at."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from supervisor_app.core.chores import IDLE_SURVEY_SECONDS, SURVEY_SECONDS, Chores
from supervisor_app.core.testing import FakeClock, FakeProcesses


class Server:
    """A server with one process, or with none."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.surveys = []

    def surveyed(self, survey) -> None:
        self.surveys.append(survey)


class Disk(FakeProcesses):
    """A machine on which some logs are large, and a cut takes until it is let go."""

    def __init__(self, clock, *large: str) -> None:
        super().__init__(clock)
        self.large = large
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def log_is_large(self, name: str) -> bool:
        return name in self.large

    async def trim_log(self, name: str) -> bool:
        self.begun.append(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return True


class Bench:
    def __init__(self, *large: str, **servers: Server) -> None:
        self.clock = FakeClock()
        self.machine = Disk(self.clock, *large)
        self.servers = servers
        self.chores = Chores(self.machine, self.clock, lambda: self.servers)


@asynccontextmanager
async def chores(*large: str, **servers: Server):
    b = Bench(*large, **servers)
    task = asyncio.create_task(b.chores.run())
    await b.clock.advance(0)
    try:
        yield b
    finally:
        b.chores.close()
        task.cancel()
        await asyncio.wait({task})


async def test_large_logs_alone_are_cut_and_none_while_its_last_cut_runs():
    async with chores("b", a=Server(), b=Server()) as b:
        await b.clock.advance(10)
        assert b.machine.begun == ["b"]


async def test_the_cut_of_a_log_ends_with_its_server():
    async with chores("b", a=Server(), b=Server()) as b:
        b.chores.forget("a")
        b.chores.forget("b")
        await b.clock.advance(0)
        assert b.machine.cancelled == ["b"]
        await b.clock.advance(1)
        assert b.machine.begun == ["b", "b"]  # a server of that name again


async def test_all_cuts_end_with_the_node():
    async with chores("a", "b", a=Server(), b=Server()) as b:
        b.chores.close()
        await b.clock.advance(0)
        assert sorted(b.machine.cancelled) == ["a", "b"]


async def test_devices_are_looked_at_by_the_processes_that_run():
    async with chores(a=Server(11)) as b:
        await b.clock.advance(SURVEY_SECONDS - 1)
        assert b.machine.surveyed == [[11]]
        b.servers["b"] = Server(12)
        await b.clock.advance(1)
        assert b.machine.surveyed == [[11], [11, 12]]
        b.servers = {}
        await b.clock.advance(1)
        await b.clock.advance(IDLE_SURVEY_SECONDS - 2)
        assert b.machine.surveyed == [[11], [11, 12], []]


async def test_a_survey_is_told_to_each_server_and_given_once():
    server = Server(11)
    async with chores(a=server) as b:
        survey = b.chores.take_survey()
        assert server.surveys == [survey]
        assert survey.problems == ("Look 1.",)
        assert b.chores.take_survey() is None


async def test_a_driver_that_hangs_is_asked_once():
    built = Bench(a=Server(11))
    built.machine.survey_held = asyncio.Event()
    task = asyncio.create_task(built.chores.run())
    await built.clock.advance(3 * SURVEY_SECONDS)
    assert built.machine.surveyed == [[11]]
    built.machine.survey_held.set()
    await built.clock.advance(1)
    assert built.machine.surveyed == [[11], [11]]
    built.chores.close()
    task.cancel()
    await asyncio.wait({task})
