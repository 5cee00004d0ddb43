"""Daphne's HTTP connections, within limits: a request too large or too slow ends before it costs anything."""

from __future__ import annotations

import time
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from daphne.http_protocol import HTTPFactory, WebRequest
from twisted.internet.protocol import connectionDone
from twisted.web.http import HTTPChannel

from supervisor_app.web.errors import refusal

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from supervisor_app.web.limits import WebLimits
    from supervisor_app.web.visitors import Visitors

LINGERING_READ = 65536
BUSY = "All places for live pages are taken. Try again in a minute."


class GuardedChannel(HTTPChannel):
    """A connection, until it becomes a WebSocket or ends."""

    visitors: Visitors
    transport: Any  # with what TCP has over any other
    _path: Any  # of the request that comes; Twisted says another type than it has

    def __init__(self) -> None:
        super().__init__()
        self.is_refused = False
        self._request_comes = False

    @property
    def limits(self) -> WebLimits:
        return self.visitors.limits

    # Calls of Twisted

    def connectionMade(self) -> None:
        self.transport.bufferSize = self.limits.read_bytes
        self.visitors.join(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.visitors.leave(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if not self.is_refused:
            super().dataReceived(data)

    def rawDataReceived(self, data: bytes) -> None:
        if not self.is_refused:
            super().rawDataReceived(data)

    def resetTimeout(self) -> None:
        """Start the clock with the first byte of a request: further ones win no time."""
        if not self._request_comes:
            self._request_comes = True
            super().resetTimeout()

    def allHeadersReceived(self) -> None:
        """Look at the length before the client is told to go on, and before a byte of the body is kept."""
        if self.length is not None and self.length > self.limits.body_bytes:
            self.refuse_body(self.limits.too_large)
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if self.is_refused:
            return
        self._request_comes = False
        self.visitors.mark_busy(self)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self.visitors.mark_idle(self)
        super().requestDone(request)

    # visitors.WebConnection

    def give_way(self) -> None:
        self.transport.abortConnection()

    def refuse_body(self, sentence: str) -> None:
        """Answer 413: the body is more than any page sends."""
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        answer = refusal(self._path.decode("latin-1"), status.value, sentence)
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {answer.headers['Content-Type']}\r\n"
            f"Content-Length: {len(answer.content)}\r\nConnection: close\r\n\r\n".encode()
            + answer.content
        )
        self._linger()

    def _linger(self) -> None:
        """Read on for a moment: a close while more comes would be a reset, which destroys the answer."""
        self.is_refused = True
        self.setTimeout(None)
        self.transport.bufferSize = LINGERING_READ
        self._networkProducer.unregisterProducer()
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        self._abortingCall = self.callLater(self.limits.linger_seconds, self.forceAbortClient)


class GuardedRequest(WebRequest):
    """A request. Its body stays in memory: it is short, and temporary files are descriptors."""

    def __init__(self, channel: GuardedChannel, queued: Any) -> None:
        super().__init__(channel, queued, parsePOSTFormSubmission=False)  # Django does that
        self._pieces = 0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        channel, limits = self.channel, self.channel.limits
        self._pieces += 1
        if channel.is_refused:
            return
        if self.content.tell() + len(data) > limits.body_bytes:  # it did not say how long it is
            channel.refuse_body(limits.too_large)
        elif self._pieces > limits.body_pieces:
            channel.refuse_body(f"The body comes in too many pieces: at most {limits.body_pieces} are read.")
        else:
            super().handleContentChunk(data)

    def process(self) -> Any:
        channel, visitors = self.channel, self.channel.visitors
        upgrade = self.requestHeaders.getRawHeaders(b"Upgrade") or [b""]
        if upgrade[0].lower() == b"websocket" and not visitors.has_room_for_socket:
            self.request_start = time.time()
            self.basic_error(HTTPStatus.SERVICE_UNAVAILABLE.value, b"Service Unavailable", BUSY)
            return None
        done = super().process()
        if self.transport is None:  # it is a WebSocket's now
            visitors.leave(channel)
        return done


class GuardedHTTPFactory(HTTPFactory):
    """Makes connections as long as there is room. The limits are those of its server."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.timeOut = server.visitors.limits.request_seconds

    def protocol(self) -> GuardedChannel:
        channel = GuardedChannel()
        channel.visitors = self.server.visitors
        return channel

    def buildProtocol(self, addr: Any) -> GuardedChannel | None:
        if not self.server.visitors.make_room():
            return None  # which closes it
        channel = super().buildProtocol(addr)
        channel.requestFactory = GuardedRequest
        return channel  # type: ignore[no-any-return]
