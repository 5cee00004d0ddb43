"""Threads for calls that may hang: so many for each owner, so that nobody's hanging disk starves another.

The default executor is shared by everybody, and its threads keep the process from ending. These are daemons.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supervisor_app.common.words import span
from supervisor_app.core.shortage import LateError, ShortageError, raise_shortage

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0
"""Seconds a call may take before nobody waits for it any more."""
WIDTH = 4
"""Threads of one lane: so many calls may hang before there is no other try."""
IDLE_SECONDS = 60.0
"""Time after which a thread without work ends."""
T = TypeVar("T")


class Lane:
    """Runs calls in daemon threads, `width` at once. Called from one event loop.

    A thread that is idle is used again; one exists from the first call on, so that later a machine without a
    thread to spare does not blind us. A call that fails for want of our own resources raises ShortageError.
    """

    def __init__(self, name: str, width: int = WIDTH) -> None:
        self.name = name
        self._width = width
        self._idle: deque[_Worker] = deque()
        self._count = 0
        self._lock = Lock()

    async def run(
        self,
        call: Callable[..., T],
        *args: Any,
        patience: float = PATIENCE,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Return what `call` returns; raise what `call` raises.

        Raises LateError after `patience` seconds; `undo` then gets what is returned after all, in its thread.
        """
        job = _Job(partial(call, *args), undo)
        self._give(job)
        answer = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait({answer}, timeout=patience)
            if not job.awaited():
                raise LateError(f"{self.name} has not answered for {span(patience)}")
            return await answer
        except ShortageError:
            raise
        except Exception as error:
            raise_shortage(error)
            raise
        finally:
            job.leave()
            answer.cancel()

    def close(self) -> None:
        """End the threads that have nothing to do."""
        with self._lock:
            while self._idle:
                self._idle.pop().work.put(None)
                self._count -= 1

    def _give(self, job: _Job[T]) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().work.put(job)
                return
            if self._count >= self._width:
                raise ShortageError(f"{self._count} calls to {self.name} hang")
            self._count += 1
        try:
            _Worker(self, job)
        except RuntimeError as error:
            self._ended()
            raise_shortage(error)
            raise

    def rest(self, worker: _Worker) -> None:
        """A worker has nothing to do."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """May the thread end? False: it has just been given something to do."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._count -= 1
            return True

    def _ended(self) -> None:
        with self._lock:
            self._count -= 1


@dataclass(frozen=True)
class Lanes:
    """The threads of one server."""

    looks: Lane = field(default_factory=lambda: Lane("/proc"))
    disk: Lane = field(default_factory=lambda: Lane("its disk"))
    starts: Lane = field(default_factory=lambda: Lane("its start"))


class _Job(Generic[T]):
    """A call, and whether anybody still waits for it."""

    def __init__(self, call: Callable[[], T], undo: Callable[[T], object] | None) -> None:
        self.future: Future[T] = Future()
        self.future.set_running_or_notify_cancel()
        self._call = call
        self._undo = undo
        self._left = False
        self._lock = Lock()

    def awaited(self) -> bool:
        """Was the call done in time? If not, its caller has left it."""
        with self._lock:
            self._left = not self.future.done()
            return not self._left

    def leave(self) -> None:
        with self._lock:
            self._left = self._left or not self.future.done()

    def do(self, finished: Callable[[], None]) -> None:
        """`finished` comes before the answer, so that whoever gets that finds this thread idle."""
        try:
            result = self._call()
        except BaseException as error:
            finished()
            self.future.set_exception(error)
            return
        with self._lock:
            left = self._left
            if not left:
                finished()
                self.future.set_result(result)
        if left:
            if self._undo is not None:
                with suppress(Exception):  # nobody is there to hear of it
                    self._undo(result)
            finished()


class _Worker:
    """A thread of a lane."""

    def __init__(self, lane: Lane, first: _Job[Any]) -> None:
        self.work: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self.work.put(first)
        self._lane = lane
        Thread(target=self._run, name=lane.name, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                job = self.work.get(timeout=IDLE_SECONDS)
            except Empty:
                if self._lane.retire(self):
                    return
                continue
            if job is None:
                return
            job.do(partial(self._lane.rest, self))
            del job  # else what it holds lives until the next one
