"""The gateway's own questions to a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from supervisor_app.gateway.servers.upstream import Connection, Receiver

if TYPE_CHECKING:
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.servers.backend import Backend

FETCH_SECONDS = 5.0
MAX_BYTES = 4 * 1024 * 1024
UNUSABLE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""Errors of a look into an answer that is no JSON, or other JSON than expected."""


class FetchError(Exception):
    """The server did not answer, or not with 200."""


class RefusedError(FetchError):
    """The server did answer: to ask again would not help."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class _Fetch(Receiver):
    """Collects one small answer."""

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer
        self._status = 0
        self._content = b""

    def on_head(self, head: ResponseHead, length: int | None) -> None:
        self._status = head.status

    def on_content(self, content: bytes) -> None:
        self._content = (self._content + content)[:MAX_BYTES]

    def on_end(self) -> None:
        if self._answer.done():
            return
        if self._status == 200:
            self._answer.set_result(self._content)
        else:
            self._answer.set_exception(RefusedError(self._status))

    def on_lost(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_exception(FetchError(reason))

    def on_writable(self, writable: bool) -> None: ...


async def fetch(
    backend: Backend, path: str, body: bytes | None = None, *, seconds: float | None = None
) -> bytes:
    """Ask with the server's own key, on a new connection: GET, or POST of some JSON. Raises FetchError."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    listener = _Fetch(answer)
    key = f"Authorization: Bearer {backend.facts.api_key}\r\n" if backend.facts.api_key else ""
    host = backend.pool.authority.decode()
    method, about = "GET", ""
    if body is not None:
        method, about = "POST", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{key}{about}Connection: close\r\n\r\n"
    made: list[Connection] = []

    def ask(connection: Connection) -> None:
        made.append(connection)
        connection.ask(listener, head.encode("latin-1"), body or b"", last=True)

    connecting = backend.connect(ask, listener.on_lost)
    try:
        async with asyncio.timeout(FETCH_SECONDS if seconds is None else seconds):
            return await answer
    except TimeoutError as error:
        raise FetchError("no answer") from error
    finally:
        connecting.cancel()
        for connection in made:
            connection.abort()
