"""Servers that do what a script says: they answer, are slow, die at any byte. For `plane`."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.integration.building import eventually

JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


class Call:
    """A request as it came to a server."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.first_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.content: bytes | None = None
        """Body, once it was read."""
        self._reader = reader
        self._writer = writer

    @property
    def left(self) -> bool:
        """Wait until whoever asked has closed the connection."""
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    async def until_left(self) -> None:
        await eventually(lambda: self.left)

    async def body(self) -> bytes:
        if self.content is None:
            self.content = b"".join([piece async for piece in self.pieces()])
        return self.content

    async def pieces(self):
        """The body as it comes, however long."""
        if self.fields.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return
        left = int(self.fields.get("content-length", 0))
        while left:
            piece = await self._reader.read(min(left, 2**18))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Close it with an error: what the kernel does for a process that was killed with unread data."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Call], Awaitable[bool]]
"""Deals with one request; True: the connection stays open for the next."""


def head(status: int = 200, content_type: str = JSON, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Server: llama.cpp", f"Content-Type: {content_type}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


FINISH = chunked(DONE) + LAST_CHUNK


def event(text: str) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


def answers(content: bytes = b'{"ok": true}', status: int = 200, *fields: str, keeps: bool = True) -> Script:
    """Answer whole, with its length; with `keeps` False the connection ends after it without a word."""

    async def script(call: Call) -> bool:
        await call.body()
        await call.send(head(status, JSON, f"Content-Length: {len(content)}", *fields) + content)
        return keeps

    return script


def loads() -> Script:
    """Answer that the model loads, as llama-server says it."""
    error = {"message": "Loading model", "type": "unavailable_error", "code": 503}
    return answers(json.dumps({"error": error}).encode(), 503)


def streams(*events: bytes) -> Script:
    """Stream as llama-server does: the connection ends with the stream, of which nothing was said before."""
    return sends(stream_of(*events) + FINISH)


def stream_of(*events: bytes) -> bytes:
    """The beginning of a stream that goes on."""
    return head(200, EVENTS, "Transfer-Encoding: chunked") + b"".join(map(chunked, events))


def sends(data: bytes, *, piece: int = 0, resets: bool = False) -> Script:
    """Send these bytes, in pieces of so many, and then end the connection."""

    async def script(call: Call) -> bool:
        await call.body()
        for start in range(0, len(data), piece or len(data) or 1):
            await call.send(data[start : start + (piece or len(data))])
            if piece:
                await asyncio.sleep(0)
        if resets:
            if data:
                await asyncio.sleep(0.05)  # a reset overtakes what it follows
            call.reset()
        return False

    return script


def dies(*, resets: bool = False) -> Script:
    """Die without a byte of an answer."""
    return sends(b"", resets=resets)


def hangs(data: bytes = b"") -> Script:
    """Says no more than `data` until whoever asked has left."""

    async def script(call: Call) -> bool:
        await call.body()
        await call.send(data)
        await call.until_left()
        return False

    return script


def waits_for(goes_on: asyncio.Event, script: Script, *, before: bytes = b"", reads: bool = True) -> Script:
    """Sends what comes `before`, and plays the script once the event is set. `reads`: the body, meanwhile."""

    async def waiting(call: Call) -> bool:
        if reads:
            await call.body()
        await call.send(before)
        await goes_on.wait()
        return await script(call)

    return waiting


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server to which a connection is neither made nor refused."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):  # so many wait to be accepted that no more can come
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Scripted:
    """A server that deals with each request by its next script; the last one is for all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.calls: list[Call] = []
        self.lists: list[bytes] = []
        """What it says of its models, whenever it is asked: beside its scripts, as a gateway asks of its own accord.
        The last one is for all that follow; none: it does not say."""
        self.list_calls: list[str] = []
        self.list_says_nothing = False
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def start(self) -> None:
        """Start on the same port as before, if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listens no more, and all its connections end."""
        self._server.close()
        self.drop_all()
        for task in self._open.values():
            if task is not None:
                task.cancel()
        await eventually(lambda: not self._open)

    def drop_all(self) -> None:
        """All its connections end, as when its process dies."""
        for writer in self._open:
            writer.transport.abort()

    async def until_called(self, times: int = 1) -> Call:
        await eventually(lambda: len(self.calls) >= times)
        return self.calls[times - 1]

    @property
    def contents(self) -> list[bytes | None]:
        return [call.content for call in self.calls]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open[writer] = asyncio.current_task()
        try:
            # A connection that was dropped is a RuntimeError for uvloop.
            with suppress(asyncio.IncompleteReadError, OSError, RuntimeError, asyncio.CancelledError):
                keeps = True
                while keeps:
                    call = Call(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                    if call.first_line.startswith("GET /v1/models"):
                        self.list_calls.append(call.first_line)
                        keeps = await self._say_models()(call)
                    else:
                        self.calls.append(call)
                        keeps = await self._next_script()(call)
        finally:
            del self._open[writer]
            writer.close()

    def _say_models(self) -> Script:
        if self.list_says_nothing:
            return hangs()
        if not self.lists:
            return answers(b"{}", 404)
        return answers(self.lists.pop(0) if len(self.lists) > 1 else self.lists[0])

    def _next_script(self) -> Script:
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
