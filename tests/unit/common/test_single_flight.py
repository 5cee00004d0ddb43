"""One call for all who ask at the same time."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.common.single_flight import SingleFlight


class Slow:
    """A function that returns when it is told to, and counts its calls."""

    def __init__(self):
        self.calls = []
        self.may_end = asyncio.Event()

    async def __call__(self, key):
        self.calls.append(key)
        number = len(self.calls)
        await self.may_end.wait()
        return number


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_that_come_together_share_a_call_and_later_ones_the_next():
    slow = Slow()
    flight = SingleFlight(slow)
    early = [asyncio.ensure_future(flight.get("a")) for _ in range(3)]
    await settle()
    late = [asyncio.ensure_future(flight.get("a")) for _ in range(3)]
    await settle()
    assert slow.calls == ["a"]
    slow.may_end.set()
    assert await asyncio.gather(*early, *late) == [1, 1, 1, 2, 2, 2]


async def test_different_keys_wait_for_nobody():
    slow = Slow()
    flight = SingleFlight(slow)
    asked = [asyncio.ensure_future(flight.get(key)) for key in "ab"]
    await settle()
    assert slow.calls == ["a", "b"]
    slow.may_end.set()
    await asyncio.gather(*asked)


async def test_a_caller_that_leaves_ends_it_for_nobody_else():
    slow = Slow()
    flight = SingleFlight(slow)
    leaves, stays = (asyncio.ensure_future(flight.get("a")) for _ in range(2))
    await settle()
    leaves.cancel()
    slow.may_end.set()
    assert await stays == 1


async def test_an_error_is_everybodys_and_the_next_call_is_tried():
    answers = iter([ValueError("no"), 7])

    async def fails_once(key):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    flight = SingleFlight(fails_once)
    both = await asyncio.gather(flight.get("a"), flight.get("a"), return_exceptions=True)
    assert [str(each) for each in both] == ["no", "no"]
    assert await flight.get("a") == 7


async def test_nothing_goes_on_after_the_close():
    slow = Slow()
    flight = SingleFlight(slow)
    asked = [asyncio.ensure_future(flight.get("a"))]
    await settle()
    asked.append(asyncio.ensure_future(flight.get("a")))
    await settle()
    flight.close()
    for each in asked:
        with pytest.raises(asyncio.CancelledError):
            await each
    assert slow.calls == ["a"]
