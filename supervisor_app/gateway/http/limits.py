"""Limits on what a client may send and how long it may take: they keep memory and sockets bounded."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    head_bytes: int = 64 * KIB
    body_bytes: int = 4096 * MIB
    replay_bytes: int = 8 * MIB
    """Bytes of a request's body kept to send it again. A longer body flows through and is sent once; or it is
    read on, to disk, if its beginning does not tell where it goes."""
    all_replay_bytes: int = 512 * MIB
    """Bytes kept of all bodies together. While so much is kept, every further body counts as a longer one."""
    all_spooled_bytes: int = 4096 * MIB
    """Bytes of all long bodies on disk: those that have to come whole before it is known where they go."""
    connections: int = 4096
    head_seconds: float = 30.0
    """Time from the first byte of a head to its last: a client that dribbles is cut off."""
    idle_seconds: float = 75.0
    """A kept connection without a request."""
    body_seconds: float = 60.0
    """Seconds that a body may come later than at `body_rate`: one that stops or dribbles is cut off."""
    body_rate: int = KIB
    """Bytes per second."""
    unread_seconds: float = 300.0
    """Time without the client taking a byte of its answer."""
    connect_seconds: float = 5.0
    upstream_idle_seconds: float = 4.0
    """llama-server closes an idle connection after 5."""
    comment_seconds: float = 10.0
    """A streaming client that waits gets its headers after so long, and a comment every so long."""
