"""The end of a body: by its length, by its last chunk, or with the connection (RFC 9112, 6 and 7)."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Protocol

MAX_LINE = 4096
"""Most bytes of a chunk's size with its extensions."""
MAX_TRAILERS = 16 * 1024
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
MAX_DIGITS = 18
HEX_DIGITS = b"0123456789abcdefABCDEF"
CHUNK_SIZE = re.compile(
    rb'([0-9A-Fa-f]{1,16})(?:;%(token)b(?:=(?:%(token)b|"[\t !#-\[\]-~]*"))?)*' % {b"token": TOKEN}
)
TRAILER = re.compile(rb"(?!(?i:content-length|transfer-encoding):)%b:[\t -~\x80-\xff]*" % TOKEN)


class FramingError(Exception):
    """Two readers could disagree on where this message ends; the text says why."""


class FramedBody(Protocol):
    """An incremental reader of one body."""

    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The content in `data`, and what is left of it: after the body's end, or what was not read yet.

        Raises FramingError.
        """

    def eof(self) -> bool:
        """The connection ended: is the body whole?"""


class SizedBody:
    """A body of a known number of bytes, perhaps 0."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        left = self.left
        if len(data) < left:
            self.left = left - len(data)
            return data, b""
        self.left = 0
        self.done = True
        return (data, b"") if len(data) == left else (data[:left], data[left:])

    def eof(self) -> bool:
        return self.done


class BodyUntilClose:
    """All that comes: an answer of HTTP/1.0, or one that says neither its length nor that it is chunked."""

    done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def eof(self) -> bool:
        return True


class _Part(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()


class ChunkedBody:
    """Chunks, as strictly as llhttp reads them: no bare LF, no sign, no space. Trailers are dropped."""

    def __init__(self, at_once: int | None = None) -> None:
        """`at_once`: so many chunks are read by one `feed`, which leaves the rest of its data."""
        self.done = False
        self._at_once = at_once
        self._part = _Part.SIZE
        self._left = 0
        self._pending = b""
        self._trailers = 0

    def eof(self) -> bool:
        return self.done

    def whole_chunk(self, data: bytes) -> bytes | None:
        """The content of `data`, when that is one whole chunk and no more. So the events of a stream come."""
        start = data.find(b"\r\n", 0, MAX_DIGITS)
        digits = data[:start]
        if start > 0 and self._part is _Part.SIZE and not self._pending and not digits.strip(HEX_DIGITS):
            size = int(digits, 16)
            if size and len(data) == start + size + 4 and data.endswith(b"\r\n"):
                return data[start + 2 : -2]
        return None

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        chunk = self.whole_chunk(data)
        if chunk is not None:
            return chunk, b""
        if self._pending:
            data, self._pending = self._pending + data, b""
        pieces: list[bytes] = []
        position, size, most = 0, len(data), self._at_once
        while position < size and not self.done:
            if self._part is _Part.DATA:
                if len(pieces) == most:
                    break
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._part = _Part.DATA_END
            else:
                end = self._line(data, position)
                if end < 0:
                    self._pending = data[position:]
                    position = size
                else:
                    self._take_line(data[position:end])
                    position = end + 2
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return content, data[position:] if position < size else b""

    def _line(self, data: bytes, start: int) -> int:
        """Find the line's CRLF; -1 when it has not come yet. Raises FramingError."""
        end = data.find(b"\r\n", start)
        length = (end if end >= 0 else len(data)) - start
        if self._part is _Part.DATA_END and (length if end >= 0 else data[start : start + 1] != b"\r"):
            raise FramingError("a chunk is longer than it says")
        if length > MAX_LINE or self._trailers + length > MAX_TRAILERS:
            raise FramingError("a chunk's size or the trailers are too long")
        return end

    def _take_line(self, line: bytes) -> None:
        if self._part is _Part.DATA_END:
            self._part = _Part.SIZE
        elif self._part is _Part.SIZE:
            match = CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise FramingError(f"{line[:40]!r} is not the size of a chunk")
            self._left = int(match[1], 16)
            self._part = _Part.DATA if self._left else _Part.TRAILERS
        elif line and not TRAILER.fullmatch(line):
            raise FramingError(f"{line[:40]!r} is not a trailer")
        else:
            self._trailers += len(line) + 2
            self.done = not line
