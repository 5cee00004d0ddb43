"""Limits of what the web listener takes from one client and from all together. Pure."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """Sizes in bytes, times in seconds."""

    connections: int = 1024
    """WebSockets among them. For each further connection an idle one is closed (`Visitors`)."""
    sockets: int = 512
    """WebSockets: the rest is for people who come later."""
    body_bytes: int = 256 * KIB
    """The longest form of the admin has a few kB, and nothing is uploaded."""
    body_pieces: int = 1000
    """Chunks, or reads of what comes in drops: each costs as much as a long one."""
    read_bytes: int = 4 * KIB
    """Bytes of a connection that are parsed in one pass of the event loop."""
    request_seconds: float = 30.0
    """Time from the first byte of a request to its last, and between two requests."""
    unread_seconds: float = 60.0
    """A WebSocket that takes no byte of what it is told."""
    linger_seconds: float = 2.0
    """Time after a refusal in which what still comes is read and dropped: without it, there is a reset."""
    message_bytes: int = 64 * KIB
    """Most bytes of a WebSocket's message. Clients say nothing longer than {"type": "requestLlamaStatus"}."""
    frames: int = 30
    """Frames of a WebSocket that may come at once; messages, pings and pieces of messages alike."""
    frames_per_second: float = 5.0
    frame_bytes_per_second: float = 8 * KIB
    at_once: int = 2
    """Requests that Django works on; the others wait for their turn.

    Each has a thread that wants the interpreter: with 8 a flood of pages holds supervision up for up to
    240 ms, with 2 for 65 ms, and the pages of others come sooner.
    """
    waiting: int = 256
    """Requests that wait for their turn."""

    @property
    def too_large(self) -> str:
        """The sentence that goes with 413."""
        return f"The body is too large: at most {self.body_bytes} bytes are read."


class Allowance:
    """A bucket of `size` that fills by `per_second`. Times are the caller's clock."""

    __slots__ = ("_at", "_left", "_per_second", "_size")

    def __init__(self, size: float, per_second: float, now: float) -> None:
        self._size = self._left = size
        self._per_second = per_second
        self._at = now

    def take(self, now: float, amount: int = 1) -> bool:
        """Take so much, unless less is left: then False."""
        self._left = min(self._size, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True
