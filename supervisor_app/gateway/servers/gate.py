"""The gate of one server: which request may go in, in which order, and how many at once. Pure.

Owners of requests (API keys, or addresses while there is none) take turns; of one owner the first to come is
the first to go.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.gateway.servers.turns import FIRST, NEWCOMER, LocalTurns, Turns

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.others import Others
    from supervisor_app.gateway.servers.visitors import Ghost, Insider, Visitor

MANY = 2
"""Requests in a queue from which on their owner gives way to others."""


class QueueFullError(Exception):
    """The queue is full: as many requests wait as may."""


class Gate:
    """Counts requests inside and queues the others; open only while the server can be asked.

    With `others` all limits are those of all workers together.
    """

    def __init__(self, *, capacity: int = 0, max_waiting: int = 256) -> None:
        self.capacity = capacity
        """Most requests inside at once; 0: no limit."""
        self.max_waiting = max_waiting
        self.is_open = False
        self.inside: set[Insider] = set()
        self.beside: set[Insider] = set()
        """Requests at the server that take no slot."""
        self.former: set[Insider] = set()
        """Requests at the process before, which finishes them: they take no place at the one that serves."""
        self.ghosts: set[Ghost] = set()
        """Requests whose clients have left: they take no place, but beside one no suspect is alone."""
        self.waiting: list[Visitor] = []
        """Visitors that wait, in the order of their turns."""
        self._waiting: dict[Insider, Visitor] = {}
        """Each of them, to be found at once."""
        self._slotless: list[Visitor] = []
        """Visitors among them that need no slot, in the same order."""
        self._of_owner: dict[int, list[Visitor]] = {}
        """Owner -> visitors of that owner, by arrival, which is the order of their turns as well."""
        self.others: Others | None = None
        self._own_turns = LocalTurns()
        self._is_letting_in = False

    def enter_now(self, visitor: Insider) -> bool:
        """Let a request in at once. False: it would have to wait, and nothing has changed."""
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
        """Let a request in. False: it waits for `admitted`. Raises QueueFullError."""
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
        """Put a request back to its place in the order. It had been let in before, so it needs no room."""
        for places in (self.inside, self.beside, self.former):
            places.discard(visitor)
        if visitor.turn == NEWCOMER:
            visitor.turn = FIRST
        self._insert(visitor)
        if self.others is not None:
            self._tell(self.others)

    def replace(self, visitor: Insider, successor: Visitor) -> None:
        """Swap a visitor in place, keeping its slot."""
        for places in (self.inside, self.beside, self.former):
            if visitor in places:
                places.remove(visitor)
                places.add(successor)

    def change_process(self) -> None:
        """Give all places to a new process; the one before finishes what it has."""
        self.former |= self.in_flight
        self.inside.clear()
        self.beside.clear()

    def haunt(self, visitor: Insider, ghost: Ghost) -> None:
        """Keep the ghost of a request whose client left while it was inside: `leave` follows."""
        if visitor in self.inside or visitor in self.beside:
            self.ghosts.add(ghost)

    def lay(self, ghost: Ghost) -> None:
        """Remove a ghost: the server has lived on for long enough, or has died."""
        self.ghosts.discard(ghost)
        self.let_in()

    def leave(self, visitor: Insider) -> None:
        """Remove a request, inside or waiting, and let in the next."""
        if visitor in self.inside:
            self.inside.remove(visitor)
        elif visitor in self.beside:
            self.beside.remove(visitor)
        elif visitor in self.former:
            self.former.remove(visitor)
        elif visitor in self._waiting:
            self._take_out(self._waiting[visitor])
        if self.waiting:
            self.let_in()
        elif self.others is not None:
            self._tell(self.others)

    def let_in(self) -> None:
        """Let in as many as may go now. A request that is done at once lets in the next, without nesting."""
        if self._is_letting_in:
            return
        self._is_letting_in = True
        try:
            while (slotless := next(filter(self._may_go_beside, self._slotless), None)) is not None:
                self._take_out(slotless)
                self._turns.has_come(slotless.turn)
                self.beside.add(slotless)
                slotless.admitted()
            while self.waiting and self._may_enter(self.waiting[0]):
                visitor = self.waiting[0]
                self._take_out(visitor)
                self._turns.has_come(visitor.turn)
                self.inside.add(visitor)
                visitor.admitted()
        finally:
            self._is_letting_in = False
            if self.others is not None:
                self._tell(self.others)

    @property
    def queue_length(self) -> int:
        """Requests that wait here and at other workers."""
        return len(self.waiting) + (0 if self.others is None else self.others.waiting)

    @property
    def in_flight(self) -> set[Insider]:
        return self.inside | self.beside

    @property
    def at_any_process(self) -> set[Insider]:
        """Requests in flight, also at the process before."""
        return self.inside | self.beside | self.former

    def has_room_for(self, visitor: Visitor) -> bool:
        """Would this request go in at once, if it came here now?"""
        if self._may_go_beside(visitor):
            return True
        if self.waiting or not self._has_room(visitor):
            return False
        others, number = self.others, len(self.inside)
        return others is None or others.has_room(number, self.capacity, visitor, as_newcomer=True)

    def is_alone(self, visitor: Visitor) -> bool:
        """Is a suspect that was let in alone, and will be from now on?"""
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
        """Is a request inside that has to be alone, or was one when its client left?"""
        alone = len(self.inside) == 1 and next(iter(self.inside)).solo
        return alone or any(ghost.blocks for ghost in self.ghosts)

    @property
    def _is_quiet(self) -> bool:
        """Is the server free of requests without a slot, and of ghosts?"""
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
        """Insert by turn; of one owner by arrival, also a request that comes back from inside."""
        own = self._of_owner.setdefault(visitor.owner, [])
        at = bisect_left(own, visitor.arrival, key=_arrival)
        own.insert(at, visitor)
        if any(_order(one) > _order(next_one) for one, next_one in pairwise(own[max(0, at - 1) : at + 2])):
            for each, turn in zip(own, sorted(each.turn for each in own), strict=True):
                each.turn = turn
            self.waiting.sort(key=_order)
            self._slotless.sort(key=_order)
        insort(self.waiting, visitor, key=_order)
        if not visitor.needs_slot:
            insort(self._slotless, visitor, key=_order)
        self._waiting[visitor] = visitor

    def _take_out(self, visitor: Visitor) -> None:
        """Remove a visitor that waits."""
        del self._waiting[visitor]
        own = self._of_owner[visitor.owner]
        del own[bisect_left(own, visitor.arrival, key=_arrival)]
        if not own:
            del self._of_owner[visitor.owner]
        for queue in (self.waiting,) if visitor.needs_slot else (self.waiting, self._slotless):
            del queue[bisect_left(queue, _order(visitor), key=_order)]

    def _most(self) -> tuple[int, int]:
        """The owner of the most requests that wait here, and how many; (0, 0) while that cannot matter."""
        if 2 * self.queue_length < self.max_waiting or not self.waiting:
            return 0, 0
        owner, own = max(self._of_owner.items(), key=lambda each: len(each[1]))
        return owner, len(own)

    def _make_room(self, visitor: Visitor) -> None:
        """Send away a request of the owner of the most. Raises QueueFullError."""
        own = len(self._of_owner.get(visitor.owner, ()))
        if self._most()[1] > own + 1:
            self.give_way(1)
        elif self.others is None or not self.others.ask_for_room(own):
            raise QueueFullError

    def give_way(self, number: int) -> None:
        """Send away that many requests, each the newest of the owner of the most."""
        for _ in range(number):
            owner, most = self._most()
            if most < MANY:
                return
            newest = self._of_owner[owner][-1]
            self._take_out(newest)
            newest.displaced()


def _arrival(visitor: Visitor) -> int:
    return visitor.arrival


def _order(visitor: Visitor) -> tuple[int, int]:
    return visitor.turn, visitor.arrival
