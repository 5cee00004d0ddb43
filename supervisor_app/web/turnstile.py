"""Let HTTP requests into Django, under any ASGI server: a few at once, none too large."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from supervisor_app.common.sub_path import inner_path
from supervisor_app.web.errors import refusal
from supervisor_app.web.limits import WebLimits
from supervisor_app.web.turns import NoThreadError, Turns

log = logging.getLogger(__name__)

PROBES = ("livez", "readyz")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Queues = WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Turns, Turns]]


class Turnstile:
    """A few requests at once: each has a thread in Django, and many would leave nobody else the processor."""

    def __init__(self, application: Application, limits: WebLimits | None = None) -> None:
        self._application = application
        self._limits = limits or WebLimits()
        self._queues: Queues = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue = self._queue_of(scope["path"])
        if announced_length(scope) > self._limits.body_bytes:
            await refuse(send, scope, 413, self._limits.too_large)
        elif queue.waiting >= self._limits.waiting:
            await refuse(send, scope, 503, "Too many pages are asked for at once. Try again in a minute.")
        else:
            await self._take_turn(queue, scope, receive, send)

    async def _take_turn(self, queue: Turns, scope: Scope, receive: Receive, send: Send) -> None:
        client = _Client(receive, send, self._limits.body_bytes)
        try:
            async with queue.turn():
                await self._application(scope, client.receive, client.send)
        except NoThreadError as error:
            log.warning("⚠️ [WEB] %s: %s", scope["path"], error)
            if not client.is_answered:
                await refuse(send, scope, 503, "No thread is left to make this page. Try again in a minute.")
        if client.is_too_large:
            await refuse(send, scope, 413, self._limits.too_large)

    def _queue_of(self, path: str) -> Turns:
        """Return the queue of a path. Probes have their own: a late answer may end this process."""
        loop = asyncio.get_running_loop()
        if loop not in self._queues:
            self._queues[loop] = (Turns(self._limits.at_once), Turns(len(PROBES)))
        return self._queues[loop][inner_path(path).removeprefix("/") in PROBES]


class _Client:
    """The client of one request, whose body ends as if the client had left, once the body is too large."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self.is_answered = False
        """An answer has at least begun."""
        self.is_too_large = False
        self._receive = receive
        self._send = send
        self._left = most
        self._is_done = False

    async def receive(self) -> Any:
        message = await self._receive()
        if self._is_done:
            # Daphne says after each answer that the client has left. Django would raise an exception, whose
            # traceback keeps the request and all that belongs to it until the garbage collection.
            await asyncio.Future()
        self._left -= len(message.get("body", b""))
        self.is_too_large = self._left < 0
        return {"type": "http.disconnect"} if self.is_too_large else message

    async def send(self, message: Any) -> None:
        self.is_answered = True
        self._is_done = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def announced_length(scope: Scope) -> int:
    """Return how long the body is to be, in bytes; 0 where the head does not say."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value) if len(value) < 20 else 10**20
    return 0


async def refuse(send: Send, scope: Scope, status: int, sentence: str) -> None:
    answer = refusal(scope["path"], status, sentence)
    headers = [
        (b"content-type", answer.headers["Content-Type"].encode()),
        (b"content-length", str(len(answer.content)).encode()),
        (b"connection", b"close"),
    ]
    if status == 503:
        headers.append((b"retry-after", b"60"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})
