"""Who may go to one server, in which order, and how many at once. Pure: no clock, no network."""

from __future__ import annotations

from bisect import insort
from typing import Protocol


class Insider(Protocol):
    """A request that was let in, or would be."""

    solo: bool
    """Goes only when nobody else is inside: it is under suspicion."""
    needs_slot: bool
    """Of the server. A request that needs none takes nobody's place: it waits only while the gate is closed,
    or while a suspect is inside or about to be."""
    insists: bool
    """It has to be alone, and has waited long enough for those that need no slot: it goes although they are
    there, and then its server's death does not prove it guilty."""

    @property
    def counts_as_use(self) -> bool:
        """A server that it is at is not idle."""

    @property
    def since(self) -> float:
        """The same in all processes: when it arrived, in monotonic seconds."""

    @property
    def model(self) -> str:
        """As its client named it; may be empty."""

    def server_ended(self) -> None:
        """While it is inside: the server will not answer any more."""


class Visitor(Insider, Protocol):
    """A request at the gate that waits if it has to."""

    wakes: bool
    """A server that falls asleep while it waits is started for it."""
    arrival: int
    """Grows with every request: who was here first, goes first, also after a crash."""

    def admitted(self) -> None:
        """It is its turn."""

    def server_changed(self) -> None:
        """While it waits: something is new about the server."""


class Ghost(Protocol):
    """A request whose client has left: for all that is known its server still works on it, or dies of it."""

    blocks: bool
    """It has to be alone: nobody enters."""


class Others(Protocol):
    """The gates of other processes before the same server."""

    @property
    def has_suspect(self) -> bool:
        """One of them has a request inside that has to be alone."""

    @property
    def waiting(self) -> int:
        """At all of them."""

    def has_room(self, inside: int, capacity: int, visitor: Insider) -> bool:
        """Beside `inside` this one more: might it enter, as they are?"""

    def claim(self, inside: int, capacity: int, visitor: Insider) -> bool:
        """The same, and it counts from now on."""

    def tell(self, inside: int, beside: int, waiting: int, *, solo: bool, since: float) -> None:
        """How it is here now. `solo`: who is inside has to be alone. `since`: when the one arrived whose turn
        is next; 0: nobody waits that could go.
        """


class QueueFullError(Exception):
    """So many wait already."""


class Gate:
    """Counts those inside and queues the others. `open` only while the server can be asked.

    With `others` all rules are those of all together.
    """

    def __init__(self, *, capacity: int = 0, max_waiting: int = 256) -> None:
        self.capacity = capacity
        """At once inside; 0: no limit."""
        self.max_waiting = max_waiting
        self.is_open = False
        self.inside: set[Insider] = set()
        self.beside: set[Insider] = set()
        """At the server, too, but without a slot."""
        self.ghosts: set[Ghost] = set()
        """Whose clients have left: they take no place, but with one nobody is alone."""
        self.waiting: list[Visitor] = []
        """By arrival."""
        self.others: Others | None = None
        self._is_letting_in = False

    def enter_now(self, visitor: Insider) -> bool:
        """True: go. False: it would have to wait, and nothing has changed."""
        if not visitor.needs_slot and self._may_go_beside(visitor):
            self.beside.add(visitor)
            if self.others is not None:
                self._tell(self.others)
            return True
        if not self.waiting and self._may_enter(visitor):
            self.inside.add(visitor)
            return True
        return False

    def enter(self, visitor: Visitor) -> bool:
        """True: go now. False: wait for `admitted`. Raises QueueFullError."""
        if self.enter_now(visitor):
            return True
        if self.queue_length >= self.max_waiting:
            raise QueueFullError
        insort(self.waiting, visitor, key=_arrival)  # it may have waited elsewhere before
        if self.others is not None:
            self._tell(self.others)
        return False

    def return_to_queue(self, visitor: Visitor) -> None:
        """Back to where it was in the order; room is not asked for: it had been let in before."""
        self.inside.discard(visitor)
        self.beside.discard(visitor)
        insort(self.waiting, visitor, key=_arrival)
        if self.others is not None:
            self._tell(self.others)

    def replace(self, visitor: Insider, successor: Visitor) -> None:
        """It goes on as another one, where it was."""
        for places in (self.inside, self.beside):
            if visitor in places:
                places.remove(visitor)
                places.add(successor)

    def haunt(self, visitor: Insider, ghost: Ghost) -> None:
        """Its client has left while it was inside: `leave` follows."""
        if visitor in self.inside or visitor in self.beside:
            self.ghosts.add(ghost)

    def lay(self, ghost: Ghost) -> None:
        """The server has lived on for long enough, or has died: this ghost counts no more."""
        self.ghosts.discard(ghost)
        self.let_in()

    def leave(self, visitor: Insider) -> None:
        """Inside or waiting, it is done here."""
        if visitor in self.inside:
            self.inside.remove(visitor)
        elif visitor in self.beside:
            self.beside.remove(visitor)
        elif visitor in self.waiting:
            self.waiting = [each for each in self.waiting if each is not visitor]
        if self.waiting:
            self.let_in()
        elif self.others is not None:
            self._tell(self.others)

    def let_in(self) -> None:
        """As many as may go now. One that is done at once lets in the next, which must not nest."""
        if self._is_letting_in:
            return
        self._is_letting_in = True
        try:
            while (slotless := next(filter(self._may_go_beside, self.waiting), None)) is not None:
                self.waiting.remove(slotless)
                self.beside.add(slotless)
                slotless.admitted()
            while self.waiting and self._may_enter(self.waiting[0]):
                visitor = self.waiting.pop(0)
                self.inside.add(visitor)
                visitor.admitted()
        finally:
            self._is_letting_in = False
            if self.others is not None:
                self._tell(self.others)

    @property
    def queue_length(self) -> int:
        """With those who wait elsewhere for the same server."""
        return len(self.waiting) + (0 if self.others is None else self.others.waiting)

    @property
    def in_flight(self) -> set[Insider]:
        return self.inside | self.beside

    def has_room_for(self, visitor: Visitor) -> bool:
        """It would go at once, if it came here now."""
        if self._may_go_beside(visitor):
            return True
        if self.waiting or not self._has_room(visitor):
            return False
        others, number = self.others, len(self.inside)
        return others is None or others.has_room(number, self.capacity, visitor)

    def is_alone(self, visitor: Visitor) -> bool:
        """Of one that was let in and has to be, from now on."""
        if self.inside != {visitor} or not (visitor.insists or self._is_quiet):
            return False
        return self.others is None or self.others.claim(0, self.capacity, visitor)

    def _may_go_beside(self, visitor: Insider) -> bool:
        if not self.is_open or visitor.needs_slot or visitor.solo or self._has_suspect:
            return False
        if self.waiting and self.waiting[0].solo and not self.waiting[0].insists:
            return False
        return self.others is None or not self.others.has_suspect

    def _may_enter(self, visitor: Insider) -> bool:
        return self._has_room(visitor) and (
            self.others is None or self.others.claim(len(self.inside), self.capacity, visitor)
        )

    @property
    def _has_suspect(self) -> bool:
        """A request is inside that has to be alone, or was when its client left."""
        alone = len(self.inside) == 1 and next(iter(self.inside)).solo
        return alone or any(ghost.blocks for ghost in self.ghosts)

    @property
    def _is_quiet(self) -> bool:
        """Nobody is at the server but those inside."""
        return not (self.beside or self.ghosts)

    def _has_room(self, visitor: Insider) -> bool:
        if not self.is_open or self._has_suspect:
            return False
        if visitor.solo:
            return not self.inside and (visitor.insists or self._is_quiet)
        return not self.capacity or len(self.inside) < self.capacity

    def _tell(self, others: Others) -> None:
        since = self.waiting[0].since if self.waiting and self.is_open else 0.0
        beside = len(self.beside) + len(self.ghosts)
        others.tell(len(self.inside), beside, len(self.waiting), solo=self._has_suspect, since=since)


def _arrival(visitor: Visitor) -> int:
    return visitor.arrival
