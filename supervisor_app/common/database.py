"""Calls of the database from an event loop. Needs Django."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from django.db import DatabaseError, InterfaceError, connection

from supervisor_app.common.storage import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
CLOSE_SECONDS = 1.0
"""Time limit of closing a connection at the end."""
UNCHANGED_SECONDS = 10.0
"""Time for which a database in which nothing changes is trusted. A supervisor that lives writes every
5 s; one that does not is found silent after 15.
"""


class Unchanged(Generic[T]):
    """Cache of what `read` found, until the database, or what `beside` returns, has changed.

    For one `DatabaseThread`. SQLite alone tells whether it has changed; anything else is read each time. A
    result that has been the same for `UNCHANGED_SECONDS` is read each time, too, because some of it depends
    on the time.
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        beside: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._beside = beside
        self._clock = clock
        self._mark: object = None
        self._marked_at = 0.0
        self._found: T

    def __call__(self) -> T:
        """Raises what the database raises."""
        version, now = _version(), self._clock()
        mark = None if version is None else (version, self._beside())  # before reading: what comes meanwhile
        if mark is None or mark != self._mark:
            self._found, self._mark, self._marked_at = self._read(), mark, now
        elif now - self._marked_at >= UNCHANGED_SECONDS:
            self._found = self._read()
        return self._found


def _version() -> tuple[object, int, int] | None:
    """Return a version that differs after each change, by whomever; None where the database does not tell.

    `data_version` tells of changes by others, `total_changes` of our own; both count for one connection.
    """
    if connection.vendor != "sqlite":
        return None
    with connection.cursor() as cursor:
        (others,) = cursor.execute("PRAGMA data_version").fetchone()
    return connection.connection, int(others), connection.connection.total_changes


class DatabaseThread:
    """A thread with a database connection that stays open. Calls are made one by one, in order.

    A daemon, unlike those of a ThreadPoolExecutor: a database that hangs must not keep the process from
    ending.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[], T]) -> T:
        """Await `work` in the thread. Raises StoreError for an error of the database."""
        future: Future[T] = Future()
        self._work.put(partial(_fulfil, future, work))
        return await asyncio.wrap_future(future)

    async def connect(self) -> None:
        """Have the connection before it is needed. Raises StoreError."""
        await self.call(lambda: connection.ensure_connection())  # this thread's own, not the caller's

    def close(self, farewell: Callable[[], object] | None = None) -> None:
        """Finish the calls and `farewell`, if that does not take long; errors of `farewell` are dropped."""
        if farewell is not None:
            self._work.put(partial(_fulfil, Future[object](), farewell))
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        for work in iter(self._work.get, None):
            work()
        connection.close()


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except (DatabaseError, InterfaceError) as error:
        connection.close()  # whatever is wrong with it, the next call gets a new one
        reason = str(error).partition("\n")[0]  # PostgreSQL's go on with advice
        failed = StoreError(f"The database failed: {reason}")
        failed.__cause__ = error
        future.set_exception(failed)
    except BaseException as error:  # a bug: to whoever asked, the thread goes on
        future.set_exception(error)
    else:
        future.set_result(result)
