"""A connection to a llama-server, and whether it may be used again.

llama-server closes its connection after a stream without having said so: used again, such a connection
loses the next request. So a connection is kept only if its last answer was sized and complete. Nor is a
connection kept over which the rest of a request was still to come: the next request would be taken for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from supervisor_app.common.words import MISTAKE
from supervisor_app.gateway.http.answer_heads import ResponseHead, read_response
from supervisor_app.gateway.http.framing import ChunkedBody, FramedBody, FramingError, SizedBody
from supervisor_app.gateway.http.head_cache import HeadCache, Pattern, pattern_of
from supervisor_app.gateway.http.heads import END, BadHeadError
from supervisor_app.gateway.problems import HOST_SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
WORTH_NO_COPY = 32 * 1024
"""Bytes. Smaller ones are copied behind their head in less time than two buffers take."""
SILENT_MILLISECONDS = 10_000
"""Longest time for which bytes that were sent may go unacknowledged."""
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
"""Options of sockets, in seconds. A host that has vanished closes no connection: the kernel has to ask."""
USER_TIMEOUT, NO_USER_TIMEOUT = (
    {(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): value} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
    for value in (SILENT_MILLISECONDS, 0)
)

UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""Errors by which the kernel says that nobody answers: which one depends on the routers in between."""


class Receiver(Protocol):
    """The asker of a request: it is called in this order, until `on_end` or `on_lost`."""

    def on_head(self, head: ResponseHead, length: int | None) -> None:
        """`length` of the body; None: only the end of the body shows it."""

    def on_content(self, content: bytes) -> None: ...

    def on_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """Take an answer that has come at once, as most short ones do, in place of the three others."""
        self.on_head(head, length)
        self.on_content(content)
        self.on_end()

    def on_end(self) -> None:
        """The answer is whole. The connection is back with its pool."""

    def on_lost(self, reason: str) -> None:
        """The connection ended before the answer did."""

    def on_mistake(self) -> None:
        """A mistake in llamaproxy over what came: nothing more follows."""
        self.on_lost("a mistake in llamaproxy")

    def on_writable(self, writable: bool) -> None:
        """The server takes more of the request, or no more for now."""


class ConnectionOwner(Protocol):
    """The pool that a connection belongs to."""

    authority: bytes
    is_elsewhere: bool
    heads: HeadCache

    def stranger_behind(self, transport: asyncio.BaseTransport) -> str:
        """Name the process that was reached in place of the server; empty: it is the server."""

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose answer is whole for the next request."""

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""


class Connection(asyncio.Protocol):
    """A connection for one request at a time."""

    def __init__(self, pool: ConnectionOwner, made: Callable[[Connection], None]) -> None:
        self._made: Callable[[Connection], None] | None = made
        self.authority = pool.authority
        """Value of the field `Host`."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._listener: Receiver | None = None
        self._head = b""
        self._body: FramedBody | None = None
        self._to_head = False
        self._on_chunk: Callable[[bytes, bytes], None] | None = None
        self._may_be_kept = True
        """False: some of the request was left to `write` when it was asked, or its asker ends the connection.
        """
        self._usual: Pattern[ResponseHead] | None = None
        """The head of the last answer that came whole."""
        self._reusable = False
        self._is_paused = False
        self.used = False
        """The connection has carried an answer before."""
        self.stranger = ""
        """The process that listens in place of the server: nothing is sent to it. Empty: there is none."""
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
        made, self._made = self._made, None  # else a kept connection would keep its first asker alive
        if made is not None:
            made(self)

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:  # bytes that no request asked for
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

    # For the asker

    def ask(
        self,
        listener: Receiver,
        head: bytes,
        body: bytes,
        *,
        to_head: bool = False,
        whole: bool = True,
        last: bool = False,
    ) -> None:
        """Send a request.

        `body`: as far as it has come; `whole`: that is all of the body. `last`: the asker ends the connection
        after the answer, also where the server would keep it.
        """
        self._listener = listener
        self._to_head = to_head
        self._may_be_kept = whole and not last
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
        """Report a chunk that comes by itself to `on_chunk`, not to `on_content`: its content, and framed."""
        self._on_chunk = on_chunk

    def hand_over(self, listener: Receiver) -> None:
        """Replace the asker, unless the answer has ended already."""
        if self._listener is not None:
            self._listener = listener

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self, paused: bool) -> None:
        """Stop reading the answer while the client does not take it, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        self._is_paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection, so that the server sees at once that nobody wants its answer."""
        self._listener = None
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # Within

    def _set(self, options: Mapping[tuple[int, int], int]) -> None:
        """Set options of the socket, which may have failed already: then `connection_lost` follows."""
        own = None if self._transport is None else self._transport.get_extra_info("socket")
        if own is not None:
            with suppress(OSError):
                for (level, name), value in options.items():
                    own.setsockopt(level, name, value)

    def _receive(self, listener: Receiver, data: bytes) -> None:
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
        if body.done and self._listener is not None:  # the asker may have left meanwhile
            self._complete(clean=not rest)

    def _take_head(self, data: bytes) -> bytes:
        """Return the bytes after the head; set `_body` once the head is complete. Raises BadHeadError."""
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

    def _take_whole(self, listener: Receiver, head: ResponseHead, length: int, content: bytes) -> None:
        """Report an answer that came in one piece."""
        self._listener = None
        self._reusable = head.keep_alive and not head.is_event_stream
        self._keep_or_close(clean=True)
        listener.on_whole(head, length, content)

    def _complete(self, *, clean: bool) -> None:
        listener, self._listener = self._listener, None
        self._keep_or_close(clean=clean)
        if listener is not None:
            listener.on_end()

    def _keep_or_close(self, *, clean: bool) -> None:
        """Keep the connection after a whole answer, if it can be used again; else close it."""
        self.used = True
        if clean and self._reusable and self._may_be_kept:
            if self._is_paused:
                self.pause_reading(False)  # a client that did not take this answer may take the next one
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
