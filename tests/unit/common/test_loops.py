"""Two event loops: what one awaits in the other, how it is cancelled, and how a thread with a loop ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

from supervisor_app.common.loops import LoopThread, run_in
from tests.deadline import DEADLINE


@pytest.fixture
def other():
    """Another loop, running in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def where():
    return asyncio.get_running_loop()


async def test_work_runs_in_the_other_loop(other):
    assert await run_in(other, where) is other


async def test_without_another_loop_work_runs_here():
    here = asyncio.get_running_loop()
    assert await run_in(None, where) is here
    assert await run_in(here, where) is here


async def test_an_error_in_the_other_loop_is_raised_here(other):
    async def fail():
        raise ValueError("there")

    with pytest.raises(ValueError, match="there"):
        await run_in(other, fail)


async def test_a_cancellation_is_passed_on_and_its_end_awaited(other):
    begun, story = asyncio.Event(), []
    here = asyncio.get_running_loop()

    async def work():
        here.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            story.append("cleared up")

    task = asyncio.create_task(run_in(other, work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert story == ["cleared up"]


async def test_work_that_fails_while_it_is_cancelled_counts_as_cancelled(other):
    begun = asyncio.Event()
    here = asyncio.get_running_loop()

    async def work():
        here.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(run_in(other, work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_is_cancelled_there_is_cancelled_here(other):
    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await run_in(other, work)


# --- A thread with a loop ------------------------------------------------------------------------------


async def ended(thread):
    async with asyncio.timeout(DEADLINE):
        await asyncio.wrap_future(thread.ended)


async def test_a_thread_runs_until_its_work_is_done():
    ran = []

    async def main():
        ran.append(threading.current_thread().name)

    thread = LoopThread(main, name="aside")
    thread.start()
    await ended(thread)
    assert (ran, thread.failed) == (["aside"], None)


async def test_a_thread_that_is_cancelled_clears_up():
    begun, story = threading.Event(), []

    async def main():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            story.append("cleared up")

    thread = LoopThread(main, name="aside")
    thread.start()
    await asyncio.to_thread(begun.wait, 10)
    thread.cancel()
    await ended(thread)
    assert (story, thread.failed) == (["cleared up"], None)


async def test_a_thread_that_is_cancelled_before_it_begins_does_nothing():
    ran = []

    async def main():
        ran.append(True)

    thread = LoopThread(main, name="aside")
    thread.cancel()
    thread.start()
    await ended(thread)
    assert ran == []


async def test_the_error_that_a_thread_died_of_is_known():
    async def main():
        raise ValueError("bug")

    thread = LoopThread(main, name="aside")
    thread.start()
    await ended(thread)
    assert isinstance(thread.failed, ValueError)
    thread.cancel()  # too late, which is no harm


async def test_functions_are_called_in_the_loop_of_the_thread():
    called = []

    async def main():
        while not called:
            await asyncio.sleep(0)

    thread = LoopThread(main, name="aside")
    thread.call(lambda: called.append(threading.current_thread().name))
    thread.start()
    await ended(thread)
    assert called == ["aside"]
