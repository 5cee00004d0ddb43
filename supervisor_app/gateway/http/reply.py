"""An answer, framed for its client, from whatever server it comes."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

CHUNKED_END = b"0\r\n\r\n"
AT_ONCE = struct.pack("ii", 1, 0)


def chunk(content: bytes) -> bytes:
    """Frame content as a chunk. Not for empty content: that would be the end."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def sized(beginning: bytes, content: bytes) -> bytes:
    """All of an answer, for a client of HTTP/1.1 whose connection goes on. `beginning`: see `Reply.start`."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (beginning, len(content), content)


class Reply:
    """Writes to a client. `start`, then `write`s, then `finish`; or `break_off` when it cannot be whole."""

    __slots__ = (
        "_bodyless",
        "_chunked",
        "_head",
        "_http11",
        "_sized",
        "_transport",
        "fields",
        "head",
        "keep_alive",
        "started",
        "status",
    )

    def __init__(
        self, transport: asyncio.Transport, http11: bool, keep_alive: bool, to_head: bool = False
    ) -> None:
        self._transport = transport
        self._http11 = http11
        self._bodyless = to_head
        """True: the answer has no body, whatever its length would be."""
        self._chunked = False
        self._sized = False
        """True: the client knows where the body ends."""
        self._head = b""
        self.fields = b""
        """Header lines of our own, for whatever answer it becomes."""
        self.head = b""
        """The head as its client got it; empty before there is one."""
        self.keep_alive = keep_alive
        self.started = False
        self.status = 0

    def start(self, status: int, beginning: bytes, length: int | None) -> None:
        """The head, which goes out with the first content or `flush`. `length` None: not known yet.

        `beginning` is the status line and header lines other than those that say where the body ends.
        """
        self.started = True
        self.status = status
        if status in (204, 304):
            self._bodyless = True
        framing = b""
        if length is not None:
            self._sized = True
            framing = b"" if status == 204 else b"Content-Length: %d\r\n" % length
        elif status in (204, 304):
            pass  # there is no body to say the end of
        elif self._http11:
            framing = b"Transfer-Encoding: chunked\r\n"
            self._chunked = not self._bodyless
        else:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"Connection: close\r\n"
        elif not self._http11:
            framing += b"Connection: keep-alive\r\n"
        self.head = self._head = beginning + self.fields + framing + b"\r\n"

    def flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def write(self, content: bytes) -> None:
        if self._bodyless or not content:
            return
        if self._chunked:
            content = chunk(content)
        if self._head:
            content = self._head + content
            self._head = b""
        self._transport.write(content)

    @property
    def is_chunked(self) -> bool:
        return self._chunked

    def pass_on(self, chunk: bytes) -> None:
        """Framed already, and not the first one."""
        self._transport.write(chunk)

    def finish(self) -> None:
        """End an answer that is whole."""
        if self._chunked:
            self._transport.write(self._head + CHUNKED_END)
            self._head = b""
        elif self._head:
            self.flush()

    def send(self, status: int, beginning: bytes, length: int, content: bytes) -> None:
        """All of it at once. To HEAD it has a `length`, but no content."""
        self.start(status, beginning, length)
        head, self._head = self._head, b""
        if self._bodyless:
            content = b""
        self._transport.write(head + content)

    def break_off(self, *, last_words: bytes = b"") -> None:
        """The answer will never be whole, and its client must learn that.

        `last_words` are an event that says so. Behind them a stream ends as every stream does: many clients
        throw away what came before a body that is cut. Without any, or where the client would take them for
        its next answer, the connection is reset. Either way no other request follows.
        """
        self.keep_alive = False
        if last_words and not self._sized:
            self.write(last_words)
            self.finish()
        else:
            # Else it would be closed in order, and where that is the end an answer would look whole.
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self._transport.abort()
