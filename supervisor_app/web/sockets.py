"""Daphne's WebSockets, within limits: a client that sends too much, or takes nothing, is closed."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from supervisor_app.web.limits import Allowance, WebLimits

if TYPE_CHECKING:
    from supervisor_app.web.visitors import Visitors

POLICY_VIOLATION = 1008
TOO_MUCH = b"Too many messages: ask less often."


class Inbox(asyncio.Queue[dict[str, Any]]):
    """Messages of a client. Its socket hears when all of them are taken."""

    reader: GuardedWebSocket | None = None

    def _get(self) -> dict[str, Any]:
        message: dict[str, Any] = super()._get()
        if self.reader is not None and not self._queue:  # type: ignore[attr-defined]
            self.reader.read_on()
        return message


class GuardedWebSocket(WebSocketProtocol):
    """A WebSocket. A client's frames and bytes are counted before any of them is looked at."""

    @property
    def limits(self) -> WebLimits:
        return self._visitors.limits

    @property
    def _visitors(self) -> Visitors:
        visitors: Visitors = self.factory.server_class.visitors
        return visitors

    # Calls of Twisted and Autobahn

    def connectionMade(self) -> None:
        limits = self.limits
        self._is_refused = self._has_unread = self._has_asked = False
        self._deadline: asyncio.TimerHandle | None = None
        now = monotonic()
        self._frames = Allowance(limits.frames, limits.frames_per_second, now)
        self._bytes = Allowance(2 * limits.message_bytes, limits.frame_bytes_per_second, now)
        self._visitors.join_as_socket(self)
        self.transport.bufferSize = limits.read_bytes // 8
        self.transport.unregisterProducer()  # the HTTP connection that it was
        self.transport.registerProducer(self, True)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self._visitors.leave(self)
        self._stop_clock()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self.state == self.STATE_CONNECTING and self._has_asked:
            self.give_way()  # a client waits until it is let in (RFC 6455, 4.1); Autobahn would keep all
        elif self.state == self.STATE_OPEN and not self._bytes.take(monotonic(), len(data)):
            self._refuse()
        else:
            self._has_asked = True
            super().dataReceived(data)

    def processData(self) -> bool:
        """Parse one frame, or as much of it as has come."""
        if self._is_refused:
            self.data = b""
            return False
        if self.current_frame is None and len(self.data) > 1 and not self._frames.take(monotonic()):
            self._refuse()
            return False
        return bool(super().processData())

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        super().onMessage(payload, isBinary)
        inbox = getattr(self, "application_queue", None)
        if isinstance(inbox, Inbox) and not inbox.empty():
            inbox.reader = self
            self.transport.pauseProducing()

    def read_on(self) -> None:
        """Read again: all messages are taken."""
        if not self._has_unread:
            self.transport.resumeProducing()

    def _refuse(self) -> None:
        """Close with 1008, and drop what still comes until the client has heard, or its second is over."""
        self._is_refused = True
        self.data = b""
        self.sendCloseFrame(code=POLICY_VIOLATION, reasonUtf8=TOO_MUCH)

    def sendMessage(self, *args: Any, **kwargs: Any) -> None:
        """Send, however long the message is: Autobahn has one limit for what is taken and what is sent."""
        most: int = self.maxMessagePayloadSize  # type: ignore[has-type]
        self.maxMessagePayloadSize = 0
        try:
            super().sendMessage(*args, **kwargs)
        finally:
            self.maxMessagePayloadSize = most

    # visitors.WebConnection

    def give_way(self) -> None:
        self.transport.abortConnection()

    # Twisted's producer: what is said to it is not taken, or is again

    def pauseProducing(self) -> None:
        """Read no further: the client must not ask for more before it has taken what there is."""
        self._has_unread = True
        self.transport.pauseProducing()
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self.limits.unread_seconds, self.give_way)

    def resumeProducing(self) -> None:
        self._has_unread = False
        self._stop_clock()
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost: see `connectionLost`."""

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None


class GuardedWebSocketFactory(WebSocketFactory):
    protocol = GuardedWebSocket

    def setProtocolOptions(self, **options: Any) -> None:
        """Take Daphne's options, but for the sizes."""
        most = self.server_class.visitors.limits.message_bytes
        super().setProtocolOptions(
            **{**options, "maxMessagePayloadSize": most, "maxFramePayloadSize": most},
        )
