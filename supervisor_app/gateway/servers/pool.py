"""Connections to one address: those being made, and those kept for the next request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from supervisor_app.common.words import span
from supervisor_app.core.machine.sockets import realm, stranger_at, stranger_behind
from supervisor_app.core.shortage import ShortageError
from supervisor_app.gateway.http.head_cache import HeadCache
from supervisor_app.gateway.servers.upstream import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.sightings import Endpoint

LOOPBACK = ("127.0.0.1", "::1")
"""Addresses in the order in which `localhost` is tried: a resolver would cost more than the request."""
CONNECT_SECONDS_ELSEWHERE = 1.0
"""A host that takes longer is left to others: a request that waits is tried again, there or elsewhere."""


class Waiting(Protocol):
    """A call that comes later, unless it is cancelled."""

    def cancel(self) -> object: ...


class Connecting:
    """A connection that is being made. `made` is called before a task could be: a stream waits for it."""

    def __init__(self, pool: Pool, made: Callable[[Connection], None], failed: Callable[[str], None]) -> None:
        self._pool = pool
        self._made = made
        self._failed = failed
        self._is_over = False
        """The connection was made, has failed, or is not wanted any more."""
        self._task = pool.loop.create_task(self._connect())
        self._task.add_done_callback(self._done)
        self._timer = pool.loop.call_later(pool.connect_seconds, self._too_slow)
        pool.connecting.add(self)  # a task that nobody refers to may be collected

    def cancel(self) -> None:
        """Give up: neither `made` nor `failed` is called."""
        self._is_over = True
        self._task.cancel()

    def _connected(self, connection: Connection) -> None:
        if self._is_over:  # made in the moment in which it was cancelled
            connection.abort()
        else:
            self._is_over = True
            self._made(connection)

    def _fail(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._failed(reason)

    def _too_slow(self) -> None:
        self._task.cancel()
        pool = self._pool
        self._fail(f"{pool.authority.decode()} took no connection in {span(pool.connect_seconds)}")

    async def _connect(self) -> None:
        reason = ""
        for host in self._pool.hosts:
            if stranger := self._pool.stranger_there():
                reason = f"{host}:{self._pool.port}: {stranger}"
                continue
            try:
                made = await self._pool.loop.create_connection(self._connection, host, self._pool.port)
            except (OSError, UnicodeError) as error:  # UnicodeError: no host can have such a name
                reason = f"{host}:{self._pool.port}: {getattr(error, 'strerror', '') or error}"
            else:
                if not made[1].stranger:
                    return
                reason = f"{host}:{self._pool.port}: {made[1].stranger}"
        self._fail(reason)

    def _connection(self) -> Connection:
        return Connection(self._pool, self._connected)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._timer.cancel()
        self._pool.connecting.discard(self)


class Pool:
    """The connections to one address. A new address means a new pool."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        idle_seconds: float,
        connect_seconds: float,
        endpoint: Endpoint | None = None,
        is_elsewhere: bool = False,
    ) -> None:
        """Take the address of a server.

        `endpoint`: where the server was proved to listen; on its own host no other process is spoken to.
        `is_elsewhere`: the server is on a host that can vanish.
        """
        self.authority = f"{f'[{host}]' if ':' in host else host}:{port}".encode()
        self.hosts = LOOPBACK if host == "localhost" else (host,)
        self.port = port
        self._endpoint = endpoint if endpoint is not None and endpoint.realm == realm() else None
        if self._endpoint is not None:
            self.hosts, self.port = (self._endpoint.address,), self._endpoint.port
        self.loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self.is_elsewhere = is_elsewhere
        most = CONNECT_SECONDS_ELSEWHERE if is_elsewhere else connect_seconds
        self.connect_seconds = min(connect_seconds, most)
        self.heads = HeadCache()
        self._idle: list[Connection] = []
        self.connecting: set[Connecting] = set()
        self.max_idle = 8

    def stranger_there(self) -> str:
        """Name the process that listens in place of the server; empty: none, or on another host."""
        try:
            return stranger_at(self._endpoint) if self._endpoint is not None else ""
        except ShortageError as error:
            return f"it cannot be seen who ({error})"

    def stranger_behind(self, transport: asyncio.BaseTransport) -> str:
        """Name the process that was reached in place of the server: `stranger_there` looked before."""
        if self._endpoint is None or self._endpoint.uid is None:
            return ""
        try:
            return stranger_behind(transport.get_extra_info("socket"), self._endpoint.uid)
        except ShortageError as error:
            return f"it cannot be seen who ({error})"

    def take(self) -> Connection | None:
        """Take the kept connection that was used last: the others may grow old."""
        return self._idle.pop() if self._idle else None

    def connect(self, made: Callable[[Connection], None], failed: Callable[[str], None]) -> Connecting:
        """Make a connection; exactly one of the two is called, unless it is cancelled."""
        return Connecting(self, made, failed)

    def give_back(self, connection: Connection) -> None:
        """Put back a connection that was taken, but not used."""
        self._idle.append(connection)

    def keep(self, connection: Connection) -> None:
        if len(self._idle) >= self.max_idle:
            connection.abort()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self) -> None:
        """Close connections that nobody used for a while, before the server does."""
        oldest = self.loop.time() - self._idle_seconds
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle[0].abort()

    def rest(self) -> None:
        """Close the connections that no request uses."""
        for connection in self._idle[:]:
            connection.abort()

    def close(self) -> None:
        """Keep no connection any more. Those being made still report how that went."""
        self.max_idle = 0
        self.rest()
