"""The connections of the web listener, and which of them has to go when one more comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.web.limits import WebLimits


class WebConnection(Protocol):
    """A connection that may have to end for another."""

    def give_way(self) -> None:
        """End now: somebody else needs the place."""


class Visitors:
    """Counts connections. If all places are taken, the one that has been idle longest goes first.

    A stranger who holds connections without asking anything keeps nobody out: while those on which nothing
    was ever answered have half of the places, they go before those that a client keeps for its next request.
    That half stays theirs, however many others were answered: a newcomer needs time to ask.
    """

    def __init__(self, limits: WebLimits) -> None:
        self.limits = limits
        self._all: set[WebConnection] = set()
        self._sockets: set[WebConnection] = set()
        self._unanswered: dict[WebConnection, None] = {}
        """Connections without an answer yet; as the idle ones in the order in which they fell idle."""
        self._idle: dict[WebConnection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    @property
    def has_room_for_socket(self) -> bool:
        """A WebSocket stays for hours, so not every place is for one."""
        return len(self._sockets) < min(self.limits.sockets, (self.limits.connections + 1) // 2)

    def make_room(self) -> bool:
        """Close an idle connection before one more comes. False: all are in the middle of something."""
        if len(self._all) < self.limits.connections:
            return True
        has_half = 2 * len(self._unanswered) >= self.limits.connections
        longest = next(iter(self._unanswered if has_half or not self._idle else self._idle), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.give_way()
        return True

    def join(self, visitor: WebConnection) -> None:
        self._all.add(visitor)
        self._unanswered[visitor] = None

    def join_as_socket(self, visitor: WebConnection) -> None:
        self._all.add(visitor)
        self._sockets.add(visitor)

    def leave(self, visitor: WebConnection) -> None:
        """Forget a visitor, also one that has left already."""
        self._all.discard(visitor)
        self._sockets.discard(visitor)
        self.mark_busy(visitor)

    def mark_idle(self, visitor: WebConnection) -> None:
        """Note that all it asked is answered: from now on it may have to go."""
        if visitor in self._all:
            self._idle[visitor] = None

    def mark_busy(self, visitor: WebConnection) -> None:
        """Note that a request is being answered."""
        self._unanswered.pop(visitor, None)
        self._idle.pop(visitor, None)
