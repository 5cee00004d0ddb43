"""The time of a client's connection: how long it may stay as it is, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway.http.heads import BadHeadError
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.llama.dialects import Dialect
from supervisor_app.gateway.problems import bad_request

if TYPE_CHECKING:
    from supervisor_app.gateway.http.framing import FramedBody
    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.plane.live import LiveRequest

FIRST_PROBE_SECONDS = 0.015
"""Pause before the second probe of a client that sends no more: only then a reset in answer to the first is
seen. Each further pause is twice as long.
"""
PROBE_SECONDS = 0.5
"""Maximum pause between two probes."""
PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_SECONDS = 2.0
CLOSE_WAIT = 8
"""State of a connection whose other side has said that it is done (Linux, `tcp_states.h`)."""
FOR_EVER = float("inf")


class Limiting(Protocol):
    """The gateway, which says how long its clients may take."""

    loop: asyncio.AbstractEventLoop
    limits: Limits


class Lifetime(asyncio.Protocol):
    """A client's connection, whose states may each last so long, until `deadline`.

    `Client` takes the requests that come over it.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_exchange",
        "_gateway",
        "_half_closed",
        "_is_paused",
        "_lingers",
        "_loop",
        "_probe",
        "_reads",
        "_transport",
        "_unread",
        "deadline",
    )

    def __init__(self, gateway: Limiting) -> None:
        self._gateway = gateway
        self._loop = gateway.loop
        self._transport: asyncio.Transport
        self._buffer = b""
        self._body: FramedBody | None = None
        self._exchange: LiveRequest | None = None
        self._is_paused = False
        self._half_closed = False
        self._lingers = False
        self._unread = False
        self._reads = True
        self._probe: asyncio.TimerHandle | None = None
        self.deadline = FOR_EVER
        """Loop time at which the connection's present state has lasted too long."""

    @property
    def is_idle(self) -> bool:
        return self._exchange is None

    @property
    def buffered(self) -> int:
        """Bytes that have come and belong to no request yet."""
        return len(self._buffer)

    def _set_reading(self, reading: bool) -> None:
        if reading is self._reads or self._transport.is_closing() or self._half_closed:
            return
        self._reads = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # Its clock

    def _restart_clock(self) -> None:
        """Set the deadline for the present state of the connection."""
        limits = self._gateway.limits
        if self._unread or self._transport.is_closing():
            seconds = limits.unread_seconds
        elif self._lingers:
            seconds = LINGER_SECONDS
        elif self._exchange is None:
            seconds = limits.idle_seconds
        else:
            seconds = FOR_EVER if self._body is None or self._is_paused else limits.body_seconds
        self.deadline = self._loop.time() + seconds

    def _credit(self, size: int) -> None:
        """Extend the deadline of a body of which so many bytes have come."""
        if self._body is None:
            if not self._unread:
                self.deadline = FOR_EVER
        else:
            limits = self._gateway.limits
            latest = self._loop.time() + limits.body_seconds
            self.deadline = min(latest, self.deadline + size / limits.body_rate)

    # Its end

    def close(self) -> None:
        self._transport.close()

    def make_room(self) -> None:
        """Close an idle connection, because connections have run out."""
        self._transport.abort()

    def too_slow(self) -> None:
        """End what has taken too long: `deadline` has passed."""
        exchange = self._exchange
        if self._unread or self._transport.is_closing():
            self._transport.abort()
        elif exchange is not None and self._body is not None and not exchange.has_begun:
            exchange.refuse(bad_request("The body did not come.", status=408, code="request_timeout"))
        elif exchange is None and self._buffer:
            self._refuse_head(BadHeadError(408, "The head did not come."))
        elif exchange is None and not self._lingers:
            self._transport.close()  # not aborted: the end of the last answer may still be on its way
            self._restart_clock()
        else:
            self._transport.abort()

    def look_for_its_end(self) -> None:
        """Probe a client that may have gone: while nothing is read, only the connection's state tells."""
        if not self._reads and not self._half_closed and self._probe is None and _has_ended(self._transport):
            self._probe_client()

    def _refuse_head(self, error: BadHeadError) -> None:
        code = "request_timeout" if error.status == 408 else "bad_request"
        problem = bad_request(str(error), status=error.status, code=code)
        content = problem.body(Dialect.OPENAI)
        reply = Reply(self._transport, http11=True, keep_alive=False)
        reply.send(problem.status, problem.beginning(), len(content), content)
        self._linger()

    def _linger(self) -> None:
        """Wait before closing: a close before the whole request has come would destroy the answer."""
        self._lingers = True
        self._buffer, self._body = b"", None
        self._restart_clock()
        self._set_reading(True)
        if self._half_closed:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection, which the loop has not seen yet
            self._transport.close()

    def _probe_client(self, pause: float = FIRST_PROBE_SECONDS) -> None:
        """Write to a client that sends no more: one that has gone answers with a reset."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        if self._probe is not None:
            self._probe.cancel()
        if not exchange.show_life() and exchange.head.http11:
            self._transport.write(PROBE)
        pause = min(pause, PROBE_SECONDS)
        self._probe = self._loop.call_later(pause, self._probe_client, pause * 2)


def _has_ended(transport: asyncio.Transport) -> bool:
    """Has the client closed its side, as far as the kernel says? It knows before anybody has read so far."""
    if transport.is_closing() or not hasattr(socket, "TCP_INFO"):
        return False
    connection = transport.get_extra_info("socket")
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT)
