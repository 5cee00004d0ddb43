"""Turns of Django's requests, a few at once, each with a thread that stays for the requests after."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from asgiref.sync import ThreadSensitiveContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NO_THREAD = "can't start new thread"
"""CPython's words for EAGAIN of clone."""


class NoThreadError(Exception):
    """The system gives no further thread: our own shortage, and no mistake that wants a traceback."""


class Turns:
    """A number of turns, in the order in which they were asked for.

    Left to itself, asgiref 3.13 starts two threads for each request, in which Django builds its connection to
    the database anew: with what else belonged to a request, 240 objects that only garbage collection frees.
    """

    def __init__(self, count: int) -> None:
        self.waiting = 0
        """Requests that wait for a turn."""
        self._turns = asyncio.Semaphore(count)
        self._idle: list[Executor] = []

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; what Django does within runs in the turn's thread. Raises NoThreadError."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, "page")
        try:
            async with ThreadSensitiveContext(executor=thread):
                yield
        except RuntimeError as error:
            if _NO_THREAD not in str(error):
                raise
            # The call that found no thread is still queued, and its request is about to be refused.
            thread.shutdown(wait=False, cancel_futures=True)
            thread = ThreadPoolExecutor(1, "page")
            raise NoThreadError(str(error)) from error
        finally:
            self._idle.append(thread)
            self._turns.release()
