"""A connection as the gateway has it, without a kernel: its other side is an object of ours.

Modelled: the gateway's buffer with its two marks, a kernel's buffer behind it that fills while the other side
does not read, reading that is paused, ends in order, half closes and resets. Not modelled: bytes on their way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from supervisor_app.gateway.plane.lifetime import CLOSE_WAIT

HIGH, LOW = 64 * 1024, 16 * 1024
"""Bytes: asyncio's marks."""
READ_BYTES = 128 * 1024
"""That one read takes at most."""
ESTABLISHED = 1


class Peer(Protocol):
    """The other side of a connection."""

    def received(self, data: bytes) -> None: ...

    def ended(self, how: str) -> None:
        """`eof`: no more comes, but it may still send. Else the connection is over."""


class _Socket:
    """As far as the gateway looks at it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def setsockopt(self, *_: Any) -> None:
        """Only ever: a close is a reset."""
        self._transport.resets = True

    def getsockopt(self, *_: Any) -> bytes:
        """Only ever: its state."""
        return bytes([CLOSE_WAIT if self._transport.peer_is_done else ESTABLISHED])


class Transport(asyncio.Transport):
    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Peer, kernel_bytes: int) -> None:
        """`kernel_bytes`: so much leaves the gateway's buffer while the other side does not read."""
        super().__init__()
        self.resets = False
        self.peer_is_done = False
        """It sends no more."""
        self._loop = loop
        self._peer = peer
        self._kernel_bytes = kernel_bytes
        self._kernel = self._buffer = b""
        self._incoming: deque[bytes | None] = deque()
        """None: the end of what the other side sends."""
        self._peer_reads = self._reads = True
        self._is_unwritable = False
        self._ends_after_buffer = self._has_ended = False
        self._is_closing = self._is_aborted = self._is_being_lost = self._is_lost = False
        self._protocol: Any

    def attach(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    # The gateway's side

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Socket(self) if name == "socket" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: Any) -> None:
        if self._ends_after_buffer:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_lost or self._is_aborted or (self._is_closing and not self._buffer):
            return
        self._buffer += bytes(data)
        self._flush()
        if len(self._buffer) > HIGH and not self._is_unwritable:
            self._is_unwritable = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if not self._is_closing and not self._ends_after_buffer:
            self._ends_after_buffer = True
            self._flush()

    def pause_reading(self) -> None:
        self._reads = self._reads and self._is_closing

    def resume_reading(self) -> None:
        if not self._is_closing and not self._reads:
            self._reads = True
            self._loop.call_soon(self._deliver)

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._flush()

    def abort(self) -> None:
        if not self._is_aborted and not self._is_lost:
            self._is_closing = self._is_aborted = True
            self._buffer = b""
            self._lose_soon("reset" if self.resets else "aborted")

    # The other side

    def peer_reads(self, reads: bool) -> None:
        self._peer_reads = reads
        if reads:
            self._flush()

    def peer_sends(self, data: bytes) -> None:
        if not self._is_closing:
            self._incoming.append(data)
            self._deliver()

    def peer_ends(self) -> None:
        self.peer_is_done = True
        if not self._is_closing:
            self._incoming.append(None)
            self._deliver()

    def peer_resets(self) -> None:
        if not self._is_lost:
            self._is_closing = self._is_aborted = self._is_being_lost = True
            self._buffer = b""
            self._lose("reset by peer", ConnectionResetError("Connection reset by peer"))

    # Between the two

    def _deliver(self) -> None:
        while self._reads and self._incoming and not self._is_closing:
            data = self._incoming.popleft()
            if data is None:
                if not self._protocol.eof_received():
                    self.close()
                return
            while self._incoming and self._incoming[0] is not None and len(data) < READ_BYTES:
                data += self._incoming.popleft()
            if len(data) > READ_BYTES:
                self._incoming.appendleft(data[READ_BYTES:])
            self._protocol.data_received(data[:READ_BYTES])

    def _flush(self) -> None:
        """What the other side or the kernel takes goes; then what waited for that."""
        if self._peer_reads:
            gone, self._kernel, self._buffer = self._kernel + self._buffer, b"", b""
            if gone:
                self._peer.received(gone)
        else:
            room = max(0, self._kernel_bytes - len(self._kernel))
            self._kernel, self._buffer = self._kernel + self._buffer[:room], self._buffer[room:]
        if self._is_unwritable and len(self._buffer) <= LOW:
            self._is_unwritable = False
            self._loop.call_soon(self._resume_writing)
        if self._buffer or self._is_lost:
            return
        if self._ends_after_buffer and not self._has_ended:
            self._has_ended = True
            self._peer.ended("eof")
        if self._is_closing and not self._is_aborted:
            self._lose_soon("closed")

    def _resume_writing(self) -> None:
        if not self._is_lost:
            self._protocol.resume_writing()

    def _lose_soon(self, how: str) -> None:
        if not self._is_being_lost:
            self._is_being_lost = True
            self._loop.call_soon(self._lose, how, None)

    def _lose(self, how: str, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)
            self._peer.ended(how)
