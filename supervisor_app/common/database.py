"""Calls of the database from an event loop. Needs Django."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import DatabaseError, InterfaceError, connection

from supervisor_app.common.storage import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

T = TypeVar("T")
CLOSE_SECONDS = 1.0
"""Time limit of closing a connection at the end."""
UNCHANGED_SECONDS = 10.0
"""Time for which a database in which nothing changes is trusted. A supervisor that lives writes every
5 s; one that does not is found silent after 15.
"""
TRUSTED_SECONDS = 60.0
"""Time for which rows that are as they were are trusted to tell all."""


class Rows:
    """Rows of some queries, as the database has them, whose SQL is made once.

    A supervisor writes a heartbeat every 5 s, so something has always changed. To see whether anything else
    has, these rows are enough: of a query that finds little, Django takes 1 ms to make the SQL and a model,
    and the database 0.05 ms to answer. So no query may depend on the time of this host: `Now()` is the
    database's.
    """

    def __init__(self, *queries: Callable[[], QuerySet[Any, Any]]) -> None:
        self._queries = queries
        self._statements: list[tuple[str, tuple[Any, ...]]] = []

    def __call__(self) -> list[list[tuple[Any, ...]]]:
        """Return the rows of each query. Raises what the database raises."""
        self._statements = self._statements or [query().query.sql_with_params() for query in self._queries]
        found = []
        with connection.cursor() as cursor:
            for sql, params in self._statements:
                cursor.execute(sql, params)
                found.append(cursor.fetchall())
        return found


class Unchanged(Generic[T]):
    """Cache of what `read` found, until the database, or what `beside` returns, has changed.

    For one `DatabaseThread`. SQLite alone tells whether it has changed; anything else is looked at each time.
    So is a result that has been the same for `UNCHANGED_SECONDS`, because some of it depends on the time.

    `rows` are all that `read` depends on, also that which depends on the time: it is called again once they
    are others, or after `TRUSTED_SECONDS`. Without them it is called after each change.
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        rows: Callable[[], object] | None = None,
        beside: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._rows = rows
        self._beside = beside
        self._clock = clock
        self._mark: object = None
        self._marked_at = 0.0
        self._seen: object = None
        """Rows, and what was beside them, when `read` was called last."""
        self._read_at = 0.0
        self._found: T

    def __call__(self) -> T:
        """Raises what the database raises."""
        version, beside, now = _version(), self._beside(), self._clock()
        mark = None if version is None else (version, beside)  # before reading: what comes meanwhile
        if mark is None or mark != self._mark:
            self._look(beside, now)
            self._mark, self._marked_at = mark, now
        elif now - self._marked_at >= UNCHANGED_SECONDS:
            self._look(beside, now)
        return self._found

    def _look(self, beside: object, now: float) -> None:
        seen = None if self._rows is None else (self._rows(), beside)
        if seen is None or seen != self._seen or now - self._read_at >= TRUSTED_SECONDS:
            self._found = self._read()
            self._seen, self._read_at = seen, now


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
