"""The clock of tests: when everything has run as far as it gets."""

from __future__ import annotations

import asyncio

from supervisor_app.core.testing.clock import settle


async def test_a_task_runs_as_far_as_it_gets_however_many_steps_that_takes():
    steps = []

    async def walk():
        for step in range(20):
            await asyncio.sleep(0)
            steps.append(step)

    walking = asyncio.create_task(walk())
    await settle()
    assert walking.done()
    assert steps == [*range(20)]


async def test_a_task_that_never_comes_to_rest_is_not_waited_for():
    async def spin():
        while True:
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    await settle()
    assert not spinning.done()
    spinning.cancel()
