"""Two event loops in one process, of which one awaits work in the other."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SWITCH_SECONDS = 0.00002
"""Time for which one thread may keep the interpreter from the others. With Python's 5 ms a flood of pages
keeps supervision waiting for seconds, with 0.5 ms for 220 ms at worst, with 0.02 ms for 80; requests cost the
same.
"""
T = TypeVar("T")


async def run_in(loop: asyncio.AbstractEventLoop | None, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work` in `loop`; None: in this one.

    A cancellation is passed on, and the end of the work is awaited, unlike `run_coroutine_threadsafe`, which
    detaches the work at once.
    """
    if loop is None or loop is asyncio.get_running_loop():
        return await work()
    ended: Future[T] = Future()
    ended.set_running_or_notify_cancel()  # so that nobody else can cancel it
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        task = loop.create_task(work())
        tasks.append(task)
        task.add_done_callback(lambda task: _pass_on(task, ended))

    loop.call_soon_threadsafe(begin)
    waiting = asyncio.wrap_future(ended)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not waiting.done():
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            with suppress(Exception):
                await waiting
        raise


def _pass_on(task: asyncio.Task[T], ended: Future[T]) -> None:
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


class LoopThread:
    """Runs one coroutine in a thread and an event loop of its own, until it ends or is cancelled."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        self.failed: BaseException | None = None
        """The exception that the coroutine raised, once the thread has ended."""
        self.ended: Future[None] = Future()
        self._main = main
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Call the function soon in the thread's loop, from any thread; never once the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread. `ended` tells when it has ended."""
        self.call(self._cancel)

    def _run(self) -> None:
        try:
            with self._runner:
                self._runner.run(self._until_cancelled())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # for whoever waits for the end
            self.failed = error
        finally:
            self.ended.set_result(None)

    async def _until_cancelled(self) -> None:
        self._task = asyncio.current_task()
        if not self._is_cancelled:
            await self._main()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
