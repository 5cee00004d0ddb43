"""Who may go to one server, in which order, and how many at once. Pure: no clock, no network."""

from __future__ import annotations

from bisect import insort
from typing import Protocol


class Visitor(Protocol):
    """A request at the gate."""

    arrival: int
    """Grows with every request: who was here first, goes first, also after a crash."""
    solo: bool
    """Goes only when nobody else is inside: it is under suspicion."""

    @property
    def model(self) -> str:
        """As its client named it; may be empty."""

    def admitted(self) -> None:
        """It is its turn."""

    def server_ended(self) -> None:
        """While it is inside: the server will not answer any more."""

    def server_changed(self) -> None:
        """While it waits: something is new about the server."""


class QueueFullError(Exception):
    """So many wait already."""


class Gate:
    """Counts those inside and queues the others. `open` only while the server can be asked."""

    def __init__(self, *, capacity: int = 0, max_waiting: int = 256) -> None:
        self.capacity = capacity
        """At once inside; 0: no limit."""
        self.max_waiting = max_waiting
        self.is_open = False
        self.inside: set[Visitor] = set()
        self.waiting: list[Visitor] = []
        """By arrival."""
        self._is_letting_in = False

    def enter(self, visitor: Visitor) -> bool:
        """True: go now. False: wait for `admitted`. Raises QueueFullError."""
        if not self.waiting and self._may_enter(visitor):
            self.inside.add(visitor)
            return True
        if len(self.waiting) >= self.max_waiting:
            raise QueueFullError
        insort(self.waiting, visitor, key=_arrival)  # it may have waited elsewhere before
        return False

    def return_to_queue(self, visitor: Visitor) -> None:
        """Back to where it was in the order; room is not asked for: it had been let in before."""
        self.inside.discard(visitor)
        insort(self.waiting, visitor, key=_arrival)

    def leave(self, visitor: Visitor) -> None:
        """Inside or waiting, it is done here."""
        if visitor in self.inside:
            self.inside.remove(visitor)
        elif visitor in self.waiting:
            self.waiting.remove(visitor)
        if self.waiting:
            self.let_in()

    def let_in(self) -> None:
        """As many as may go now. One that is done at once lets in the next, which must not nest."""
        if self._is_letting_in:
            return
        self._is_letting_in = True
        try:
            while self.waiting and self._may_enter(self.waiting[0]):
                visitor = self.waiting.pop(0)
                self.inside.add(visitor)
                visitor.admitted()
        finally:
            self._is_letting_in = False

    def _may_enter(self, visitor: Visitor) -> bool:
        if not self.is_open:
            return False
        if visitor.solo:
            return not self.inside
        if self.capacity and len(self.inside) >= self.capacity:
            return False
        return not (len(self.inside) == 1 and next(iter(self.inside)).solo)


def _arrival(visitor: Visitor) -> int:
    return visitor.arrival
