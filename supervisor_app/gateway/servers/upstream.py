"""Connections to one llama-server, and which of them may be used again.

llama-server closes its connection after a stream without having said so: used again, such a connection
loses the next request. So only one whose last answer was sized and complete is kept. Nor is one over which
the rest of a request was still to come: what is asked next would be taken for that.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from supervisor_app.common.words import MISTAKE, span
from supervisor_app.core.machine.sockets import realm, stranger_at, stranger_behind
from supervisor_app.core.shortage import ShortageError
from supervisor_app.gateway.http.answer_heads import ResponseHead, read_response
from supervisor_app.gateway.http.framing import ChunkedBody, FramedBody, FramingError, SizedBody
from supervisor_app.gateway.http.head_cache import HeadCache, Pattern, pattern_of
from supervisor_app.gateway.http.heads import END, BadHeadError
from supervisor_app.gateway.problems import HOST_SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor_app.core.sightings import Endpoint

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
WORTH_NO_COPY = 32 * 1024
"""Bytes. Smaller ones are copied behind their head in less time than two buffers take."""
LOOPBACK = ("127.0.0.1", "::1")
"""In the order in which `localhost` is tried: a resolver would cost more than the request."""


CONNECT_SECONDS_ELSEWHERE = 1.0
"""A host that takes longer is left to others: whoever waits is tried again, there or elsewhere."""
SILENT_MILLISECONDS = 10_000
"""So long what was sent may go unheard."""
KEEPALIVE = {
    (level, getattr(socket, name)): value
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)
}
"""In seconds. A host that has vanished closes no connection: the kernel has to ask."""
USER_TIMEOUT, NO_USER_TIMEOUT = (
    {(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): value} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
    for value in (SILENT_MILLISECONDS, 0)
)

UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""How the kernel says that nobody answers, by what it has heard from routers and neighbours meanwhile."""


class Listener(Protocol):
    """Who asked: hears of its answer, in this order, until `on_end` or `on_lost`."""

    def on_head(self, head: ResponseHead, length: int | None) -> None:
        """`length` of its body; None: it will show."""

    def on_content(self, content: bytes) -> None: ...

    def on_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """In place of the three others, when all has come at once, as most short answers do."""
        self.on_head(head, length)
        self.on_content(content)
        self.on_end()

    def on_end(self) -> None:
        """The answer is whole. The connection is back with its pool."""

    def on_lost(self, reason: str) -> None:
        """The connection ended before the answer did."""

    def on_mistake(self) -> None:
        """Of ours, over what came: that was the last of it."""
        self.on_lost("a mistake in llamaproxy")

    def on_writable(self, writable: bool) -> None:
        """Whether the server takes more of the request now."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: Pool, made: Callable[[Connection], None]) -> None:
        self._made: Callable[[Connection], None] | None = made
        self.authority = pool.authority
        """As `Host` says it."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._head = b""
        self._body: FramedBody | None = None
        self._to_head = False
        self._on_chunk: Callable[[bytes, bytes], None] | None = None
        self._asked_whole = True
        """Nothing of the request was left to `write` when it was asked."""
        self._usual: Pattern[ResponseHead] | None = None
        """The head of its last answer that came whole."""
        self._reusable = False
        self._is_paused = False
        self.used = False
        """It has answered before."""
        self.stranger = ""
        """Who listens where the server was: nothing is sent there."""
        self.idle_since = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.stranger = self._pool.stranger_behind(transport)
        if self.stranger:
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by duck typing only
        if self._pool.is_elsewhere:
            self._set(KEEPALIVE)
        made, self._made = self._made, None  # a kept connection does not keep whom it was made for
        if made is not None:
            made(self)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:  # nobody asked
            self.abort()
            return
        try:
            self._receive(listener, data)
        except Exception:  # any mistake: the event loop would log it and leave the client waiting
            log.exception("❌ [GATEWAY] An answer cannot be passed on. %s.", MISTAKE)
            self.abort()
            listener.on_mistake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        self._transport = None
        if self._listener is None:
            return
        if self._body is not None and error is None and self._body.eof():
            self._complete(clean=False)
        else:
            self._lose(_why(error) if error else "the server closed the connection")

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_writable(False)

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_writable(True)

    # For whoever asks

    def ask(
        self, listener: Listener, head: bytes, body: bytes, *, to_head: bool = False, whole: bool = True
    ) -> None:
        """`body` as far as it has come; `whole`: that is all of it."""
        self._listener = listener
        self._to_head = to_head
        self._asked_whole = whole
        self._body, self._head, self._on_chunk = None, b"", None
        if self._transport is None:
            return
        if self._pool.is_elsewhere:
            # A living kernel takes so much whatever its server does. More may wait unread for long, and the
            # time limit would count that as well.
            is_taken = whole and len(head) + len(body) <= WORTH_NO_COPY
            self._set(USER_TIMEOUT if is_taken else NO_USER_TIMEOUT)
        if len(body) > WORTH_NO_COPY:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def pass_chunks(self, on_chunk: Callable[[bytes, bytes], None]) -> None:
        """From now on, instead of `on_content`, of each that comes by itself: its content, and all of it."""
        self._on_chunk = on_chunk

    def hand_over(self, listener: Listener) -> None:
        """Who asked goes on as this one, unless it has heard all already."""
        if self._listener is not None:
            self._listener = listener

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self, paused: bool) -> None:
        """Whether the server has to wait, because the client does not take its answer."""
        if self._transport is None or self._transport.is_closing():
            return
        self._is_paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Nobody wants the answer any more: the server sees it at once."""
        self._listener = None
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # Within

    def _set(self, options: Mapping[tuple[int, int], int]) -> None:
        """Of the socket, which may have failed already: then we hear of that."""
        own = None if self._transport is None else self._transport.get_extra_info("socket")
        if own is not None:
            with suppress(OSError):
                for (level, name), value in options.items():
                    own.setsockopt(level, name, value)

    def _receive(self, listener: Listener, data: bytes) -> None:
        if self._on_chunk is not None and type(self._body) is ChunkedBody:
            chunk = self._body.whole_chunk(data)
            if chunk is not None:
                self._on_chunk(chunk, data)
                return
        usual = self._usual
        if usual is not None and self._body is None and not self._head:
            content = usual.body_of(data)
            if content is not None:
                self._take_whole(listener, usual.head, len(content), content)
                return
        try:
            if self._body is None:
                data = self._take_head(data)
            body = self._body
            if body is None or self._listener is None:
                return
            content, rest = body.feed(data) if data else (b"", b"")
        except (BadHeadError, FramingError) as error:
            self._lose(str(error))
            return
        if content:
            self._listener.on_content(content)
        if body.done and self._listener is not None:  # whoever asked may have left meanwhile
            self._complete(clean=not rest)

    def _take_head(self, data: bytes) -> bytes:
        """What follows the head in `data`; sets `_body` once the head is complete. Raises BadHeadError."""
        while True:
            if self._head:
                data, self._head = self._head + data, b""
            end = data.find(END)
            if end < 0:
                if len(data) > MAX_HEAD:
                    raise BadHeadError(502, "The head of the server's answer is too long.")
                self._head = data
                return b""
            raw, rest = data[: end + 4], data[end + 4 :]
            read = read_response(raw, to_head=True) if self._to_head else self._pool.heads.response(raw)
            head, length, body = read
            if not 100 <= head.status < 200:
                break
            data = rest
        if length is not None and type(body) is SizedBody and body.left == len(rest):
            self._usual = pattern_of(raw, head)
            if self._listener is not None:
                self._take_whole(self._listener, head, length, rest)
            return b""
        self._reusable = head.keep_alive and not head.is_event_stream and length is not None
        self._body = body
        if self._listener is not None:
            self._listener.on_head(head, length)
        return rest

    def _take_whole(self, listener: Listener, head: ResponseHead, length: int, content: bytes) -> None:
        """All of an answer at once."""
        self._listener = None
        self._reusable = head.keep_alive and not head.is_event_stream
        self._let_go(clean=True)
        listener.on_whole(head, length, content)

    def _complete(self, *, clean: bool) -> None:
        listener, self._listener = self._listener, None
        self._let_go(clean=clean)
        if listener is not None:
            listener.on_end()

    def _let_go(self, *, clean: bool) -> None:
        """Of an answer that is whole."""
        self.used = True
        if clean and self._reusable and self._asked_whole:
            if self._is_paused:
                self.pause_reading(False)  # who did not take this answer does not wait for the next one
            self._pool.keep(self)
        elif self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _lose(self, reason: str) -> None:
        listener = self._listener
        self.abort()
        if listener is not None:
            listener.on_lost(reason)


def _why(error: Exception) -> str:
    return HOST_SILENT if getattr(error, "errno", None) in UNREACHABLE else str(error)


class Waiting(Protocol):
    """Something that calls back later, unless it is cancelled."""

    def cancel(self) -> object: ...


class Connecting:
    """A connection that is being made. `made` is called before a task could be: a stream waits for it."""

    def __init__(self, pool: Pool, made: Callable[[Connection], None], failed: Callable[[str], None]) -> None:
        self._pool = pool
        self._made = made
        self._failed = failed
        self._is_over = False
        """It was made, has failed, or is not wanted any more."""
        self._task = pool.loop.create_task(self._connect())
        self._task.add_done_callback(self._done)
        self._timer = pool.loop.call_later(pool.connect_seconds, self._too_slow)
        pool.connecting.add(self)  # a task that nobody refers to may be collected

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._is_over = True
        self._task.cancel()

    def _connected(self, connection: Connection) -> None:
        if self._is_over:  # it was on its way when it was cancelled
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
            except (OSError, UnicodeError) as error:  # a name that is none is not even looked up
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
        """`endpoint`: where it was proved to listen. On its own host nobody else is spoken to.
        `is_elsewhere`: on a host that can vanish.
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
        """Who listens in place of the server; empty when nobody does, or it lives on another host."""
        try:
            return stranger_at(self._endpoint) if self._endpoint is not None else ""
        except ShortageError as error:
            return f"it cannot be seen who ({error})"

    def stranger_behind(self, transport: asyncio.BaseTransport) -> str:
        """Who was reached in place of the server: the last look was before connecting."""
        if self._endpoint is None or self._endpoint.uid is None:
            return ""
        try:
            return stranger_behind(transport.get_extra_info("socket"), self._endpoint.uid)
        except ShortageError as error:
            return f"it cannot be seen who ({error})"

    def take(self) -> Connection | None:
        """A kept connection, the one used last: the others may grow old."""
        return self._idle.pop() if self._idle else None

    def connect(self, made: Callable[[Connection], None], failed: Callable[[str], None]) -> Connecting:
        """A fresh one; exactly one of the two is called, unless it is cancelled."""
        return Connecting(self, made, failed)

    def give_back(self, connection: Connection) -> None:
        """It was taken, but not used."""
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
        """Close what nobody used for a while, before the server does."""
        oldest = self.loop.time() - self._idle_seconds
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle[0].abort()

    def close(self) -> None:
        """Keep nothing any more. Who is being connected hears how that went."""
        self.max_idle = 0
        for connection in self._idle[:]:
            connection.abort()
