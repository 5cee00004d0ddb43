"""Looks at the machine that are shared."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.room.looks import Looks
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.testing import FakeClock, settle


class Machine:
    """Answers a look when it is told to."""

    def __init__(self):
        self.clock = FakeClock()
        self.asked = []
        self.looks = Looks(self.clock, self._look)

    async def _look(self):
        answer = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        return await answer

    def answer(self, free=1):
        self.asked[-1].set_result(Survey((Device(id="host", name="", total=9, free=free),)))


@pytest.fixture
async def machine():
    found = Machine()
    yield found
    found.looks.close()


async def test_a_look_is_shared_by_all_who_ask_at_once(machine):
    both = [asyncio.create_task(machine.looks.since(0)) for _ in range(2)]
    await settle()
    machine.answer()
    assert await both[0] is await both[1]
    assert len(machine.asked) == 1


async def test_a_look_that_began_before_a_moment_says_nothing_of_that(machine):
    machine.looks.begin()
    await settle()
    await machine.clock.advance(1)
    asking = asyncio.create_task(machine.looks.since(1))
    await settle()
    machine.answer(free=1)
    await settle()
    machine.answer(free=5)
    assert (await asking).devices[0].free == 5
    assert len(machine.asked) == 2


async def test_a_look_that_was_begun_for_somebody_is_there_for_him(machine):
    machine.looks.begin()
    machine.looks.begin()
    await settle()
    machine.answer()
    await machine.clock.advance(0.2)
    assert (await machine.looks.since(0)).devices
    assert len(machine.asked) == 1


async def test_a_look_goes_on_when_one_of_those_who_asked_does_not_wait_for_it(machine):
    impatient, patient = (asyncio.create_task(machine.looks.since(0)) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    machine.answer()
    assert (await patient).devices


async def test_a_look_that_cannot_be_had_shows_nothing(machine):
    asking = asyncio.create_task(machine.looks.since(0))
    await settle()
    machine.asked[-1].set_exception(ShortageError("no thread is left"))
    assert await asking == Survey()


async def test_looks_that_nobody_ever_asked_for_can_be_closed():
    Machine().looks.close()
