"""Who may go to one server, in which order, and how many at once. Pure: no clock, no network.

Owners of requests (API keys, or addresses while there is none) take turns; of one owner the first to come is
the first to go.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from typing import Protocol

from supervisor_app.gateway.servers.turns import FIRST, NEWCOMER, LocalTurns, Turns

MANY = 2
"""Requests of one owner in a queue: one that has fewer is not sent away for another."""


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

    turn: int
    """The gate sets it: see `turns`."""

    @property
    def key(self) -> int | None:
        """Of the API key that it came with."""

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

    @property
    def owner(self) -> int:
        """Whose it is: owners take turns."""

    def admitted(self) -> None:
        """It is its turn."""

    def displaced(self) -> None:
        """It waits no more: the queue was full, and its owner had the most requests in it."""

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

    @property
    def turns(self) -> Turns:
        """Those of all together."""

    def has_room(self, inside: int, capacity: int, visitor: Insider, *, as_newcomer: bool = False) -> bool:
        """Beside `inside` this one more: might it enter, as they are? `as_newcomer`: it waits elsewhere."""

    def ask_for_room(self, own: int) -> bool:
        """The queue of all is full, and the owner of a new request has `own` in ours: does another worker
        have an owner with more, who gives way?
        """

    def claim(self, inside: int, capacity: int, visitor: Insider) -> bool:
        """The same, and it counts from now on."""

    def tell(
        self, inside: int, beside: int, waiting: int, *, solo: bool, turn: int, since: float, most: int
    ) -> None:
        """How it is here now. `solo`: the one inside has to be alone. `turn` and `since`: of the one that is
        next, and when it arrived; 0: nobody waits that could go. `most`: requests of one owner in the queue.
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
        self._own_turns = LocalTurns()
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
        if not self.max_waiting:
            raise QueueFullError
        if not self.queue_length:
            self._turns.begin_anew()
        elif self.queue_length >= self.max_waiting:
            self._make_room(visitor)
        visitor.turn = self._turns.next_of(visitor.owner)
        self._insert(visitor)
        if self.others is not None:
            self._tell(self.others)
        return False

    def return_to_queue(self, visitor: Visitor) -> None:
        """Back to where it was in the order; room is not asked for: it had been let in before."""
        self.inside.discard(visitor)
        self.beside.discard(visitor)
        if visitor.turn == NEWCOMER:
            visitor.turn = FIRST
        self._insert(visitor)
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
                self._turns.has_come(slotless.turn)
                self.beside.add(slotless)
                slotless.admitted()
            while self.waiting and self._may_enter(self.waiting[0]):
                visitor = self.waiting.pop(0)
                self._turns.has_come(visitor.turn)
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
        return others is None or others.has_room(number, self.capacity, visitor, as_newcomer=True)

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
        first = self.waiting[0] if self.waiting and self.is_open else None
        others.tell(
            len(self.inside),
            len(self.beside) + len(self.ghosts),
            len(self.waiting),
            solo=self._has_suspect,
            turn=first.turn if first is not None else FIRST,
            since=first.since if first is not None else 0.0,
            most=self._most()[1],
        )

    # Turns

    @property
    def _turns(self) -> Turns:
        return self._own_turns if self.others is None else self.others.turns

    def _insert(self, visitor: Visitor) -> None:
        """By turn; of one owner by arrival, also if one comes back from inside or from another server."""
        own = [each for each in self.waiting if each.owner == visitor.owner]
        if any((_order(each) < _order(visitor)) != (each.arrival < visitor.arrival) for each in own):
            own = sorted([*own, visitor], key=_arrival)
            for each, turn in zip(own, sorted(each.turn for each in own), strict=True):
                each.turn = turn
            self.waiting.sort(key=_order)
        insort(self.waiting, visitor, key=_order)

    def _most(self) -> tuple[int, int]:
        """The owner of the most requests that wait here, and how many: only looked for if that may matter."""
        if 2 * self.queue_length < self.max_waiting or not self.waiting:
            return 0, 0
        return Counter(each.owner for each in self.waiting).most_common(1)[0]

    def _make_room(self, visitor: Visitor) -> None:
        """In a full queue the owner of the most requests gives way. Raises QueueFullError."""
        own = sum(each.owner == visitor.owner for each in self.waiting)
        if self._most()[1] > own + 1:
            self.give_way(1)
        elif self.others is None or not self.others.ask_for_room(own):
            raise QueueFullError

    def give_way(self, number: int) -> None:
        """So many of the newest requests of whoever has the most in the queue are sent away."""
        for _ in range(number):
            owner, most = self._most()
            if most < MANY:
                return
            newest = max((each for each in self.waiting if each.owner == owner), key=_arrival)
            self.waiting.remove(newest)
            newest.displaced()


def _arrival(visitor: Visitor) -> int:
    return visitor.arrival


def _order(visitor: Visitor) -> tuple[int, int]:
    return visitor.turn, visitor.arrival
