"""The connection of one client: its requests are taken one after the other, each answered before the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from supervisor_app.gateway.access.crowd import Crowd, address_of
from supervisor_app.gateway.http.framing import ChunkedBody, FramedBody, FramingError, SizedBody
from supervisor_app.gateway.http.head_cache import HeadCache, Pattern, pattern_of
from supervisor_app.gateway.http.heads import END, BadHeadError
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.http.request_heads import RequestHead, check_beginning
from supervisor_app.gateway.plane.admission import Reception, admit
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.fast_path import FastPathGateway, take_fast_path
from supervisor_app.gateway.plane.lifetime import FOR_EVER, PROBE, Lifetime
from supervisor_app.gateway.problems import bad_request, mistake
from supervisor_app.gateway.records.record import Outcome

if TYPE_CHECKING:
    import asyncio

    from supervisor_app.gateway.plane.live import LiveRequest

MAX_PIPELINED = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""
CHUNKS_AT_ONCE = 500
"""Chunks of a body that are taken at once: tiny ones take a millisecond together."""


class Host(FastPathGateway, Reception, Protocol):
    """The part of the gateway that a connection may use, besides the part for its requests."""

    heads: HeadCache

    @property
    def crowd(self) -> Crowd[Client]: ...

    def join(self, client: Client) -> bool:
        """False: there are too many already, or this is the end."""

    def leave(self, client: Client) -> None: ...


class Client(Lifetime):
    """Reads, checks the framing, and hands each request to an exchange of its own."""

    __slots__ = ("_is_due", "_usual", "address")

    _gateway: Host

    def __init__(self, gateway: Host) -> None:
        super().__init__(gateway)
        self.address = ""
        """Address of the client, as `crowd` counts connections."""
        self._is_due = False
        """`_advance` is due in the next pass of the event loop."""
        self._usual: Pattern[RequestHead] | None = None
        """The head of the last request that could have taken the fast path."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by duck typing only
        self.deadline = self._loop.time() + self._gateway.limits.idle_seconds
        self.address = address_of(transport.get_extra_info("peername"))
        if not self._gateway.join(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        if self._exchange is None and self._usual is not None and self._take_like_the_last(self._usual, data):
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._is_due:
            self._set_reading(len(self._buffer) < MAX_PIPELINED)
        else:
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more. Only writing tells whether it still listens."""
        if self._body is not None or (self._exchange is None and not self._buffer):
            return False  # half a request, or nothing asked
        self._half_closed = True
        if self._exchange is None:
            self._advance_soon()
        else:
            self._probe_client()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._gateway.leave(self)
        if self._probe is not None:
            self._probe.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def pause_writing(self) -> None:
        self._unread = True
        self._restart_clock()
        if self._exchange is not None:
            self._exchange.client_writable(False)

    def resume_writing(self) -> None:
        self._unread = False
        self._restart_clock()
        if self._exchange is not None:
            self._exchange.client_writable(True)
        elif not self._lingers:
            self._take_next()

    # For its exchange

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on reading a body: whether somebody can take it now."""
        self._is_paused = paused
        self._restart_clock()
        self._set_reading(not paused)
        if not paused and self._buffer:
            self._advance_soon()

    def reply_to(self, head: RequestHead) -> Reply:
        keep_alive = head.keep_alive and not self._gateway.draining
        return Reply(self._transport, head.http11, keep_alive, head.method == "HEAD")

    def may_connect_as(self, owner: int) -> bool:
        """Count the connection as this owner's. False: the owner has all that one may have."""
        return self._gateway.crowd.trust(self, owner, self._gateway.limits.connections)

    def go_on_with(self, request: LiveRequest) -> None:
        """The request that is being answered has become this one."""
        self._exchange = request

    def answer(self, whole: bytes, now: float) -> None:
        """Write the whole answer of a request on the fast path, which is over then."""
        self._transport.write(whole)
        if self._buffer or self._half_closed or self._unread or not self._reads or self._gateway.draining:
            self.exchange_over()
        else:  # the same, when nothing else is to be done
            self._exchange = None
            self.deadline = now + self._gateway.limits.idle_seconds

    def exchange_over(self) -> None:
        """The answer is written, or never will be."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        self._is_paused = False
        self._restart_clock()
        if self._transport.is_closing():
            return
        if self._body is not None:
            self._linger()
        elif not exchange.keep_alive or self._gateway.draining:
            self._transport.close()
            self._restart_clock()
        elif self._buffer or self._half_closed or not self._reads:
            self._take_next()

    def fail(self) -> None:
        """Refuse the request after a mistake in llamaproxy."""
        if self._exchange is not None:
            self._exchange.refuse(mistake(), Outcome.UNAVAILABLE)

    # Requests, one after the other

    def _take_next(self) -> None:
        """Take the next request, in the next pass of the event loop."""
        self._set_reading(len(self._buffer) < MAX_PIPELINED)
        if self._buffer or self._half_closed:
            self._advance_soon()

    def _advance_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._advance)

    def _advance(self) -> None:
        """Take what has come, up to the end of one request."""
        self._is_due = False
        while self._buffer and not self._transport.is_closing():
            if self._body is not None:
                goes_on = not self._is_paused and self._take_body(self._body)
            elif self._exchange is None and not self._unread:
                goes_on = self._take_head()
                if goes_on and self._exchange is None:
                    return  # answered already: the next request has its turn after those of others
            else:
                self._set_reading(len(self._buffer) < MAX_PIPELINED)
                break
            if not goes_on:
                break
        if self._half_closed and (self._exchange is None or self._body is not None) and not self._unread:
            self._transport.close()  # the rest will never come

    def _take_like_the_last(self, usual: Pattern[RequestHead], data: bytes) -> bool:
        """Take a request with the head of the last one over the fast path. False: that is not possible."""
        if self._buffer or self._unread:
            return False
        body = usual.body_of(data)
        exchange = None if body is None else take_fast_path(self._gateway, self, usual.head, body)
        if exchange is None:
            return False
        self._exchange = exchange
        self.deadline = FOR_EVER
        exchange.send()
        return True

    def _take_head(self) -> bool:
        """Take the head of a request. False: it has not come whole, or was refused."""
        buffer = self._buffer
        start = 2 if buffer.startswith(b"\r\n") else 0  # left over by old clients (RFC 9112, section 2.2)
        end = buffer.find(END, start)
        limit = self._gateway.limits.head_bytes
        try:
            if end < 0 and len(buffer) <= limit:
                check_beginning(buffer[start:])
                self.deadline = min(self.deadline, self._loop.time() + self._gateway.limits.head_seconds)
                return False
            if end < 0 or end > limit:
                raise BadHeadError(431, f"The head is longer than {limit} bytes.")
            head, length = self._gateway.heads.request(buffer[start : end + 4])
        except BadHeadError as error:
            self._refuse_head(error)
            return False
        gateway = self._gateway
        self._exchange = exchange = Exchange(gateway, self, head, length, self.reply_to(head))
        whole = end + 4 + length if length is not None else len(buffer) + 1
        if whole <= len(buffer):  # as most are
            if head.is_plain and (self._usual is None or self._usual.head is not head):
                self._usual = pattern_of(buffer[start : end + 4], head)
            self._buffer = buffer[whole:]
            self.deadline = FOR_EVER
            exchange.body.is_whole = True  # so a request that is refused by its head keeps its connection
            admit(gateway, exchange)
            if not exchange.is_over:
                exchange.on_body(buffer[end + 4 : whole])
                exchange.on_body_end()
        else:
            self._buffer = buffer[end + 4 :]
            self._body = ChunkedBody(CHUNKS_AT_ONCE) if length is None else SizedBody(length)
            self.deadline = self._loop.time() + gateway.limits.body_seconds
            admit(gateway, exchange)
            if head.expects_continue and not self._buffer and not exchange.is_over:
                self._transport.write(PROBE)
        if self._half_closed:
            self._probe_client()
        return True

    def _take_body(self, body: FramedBody) -> bool:
        """Take more of a body. False: nothing more can be taken now."""
        size = len(self._buffer)
        try:
            content, self._buffer = body.feed(self._buffer)
        except FramingError as error:
            if self._exchange is None:
                self._transport.close()
            else:
                self._exchange.refuse(bad_request(f"The body cannot be read: {error}."))
            return False
        if body.done:
            self._body = None
        self._credit(size - len(self._buffer))
        if content and self._exchange is not None:
            self._exchange.on_body(content)
        if body.done and self._exchange is not None:
            self._exchange.on_body_end()
        if self._body is not None and self._buffer:
            self._set_reading(False)  # so many chunks that others have their turn first
            self._advance_soon()
            return False
        if not self._is_paused:
            self._set_reading(True)
        return True
