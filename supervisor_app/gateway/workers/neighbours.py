"""The other workers before one server: how many requests they have there, and whose turn it is."""

from __future__ import annotations

import asyncio
import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from supervisor_app.gateway.servers.losses import TOGETHER_SECONDS
from supervisor_app.gateway.servers.turns import NEWCOMER
from supervisor_app.gateway.workers.board import MAX_SERVERS, MAX_TURNS, Board

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.gateway.servers.gate import Gate
    from supervisor_app.gateway.servers.visitors import Insider

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.002
"""Interval of polling while a request waits: no worker is told that a request of another one has ended."""
LOSS_LOCK_SECONDS = 0.02
"""Patience for the lock when a server has died: a right count is worth the wait."""
LOST_SECONDS = 0.02
"""Time after a loss in which no request enters: the connections that this worker has kept may be as dead."""
PID, NUMBER, AT, FIRST, NOW, LATEST = 1, 2, 3, 4, 5, 6
"""Cells of all workers: the process that lost connections; the requests in flight at the first of these
losses, its time, and the number of the worker that noticed. Then the turn that has come, and the latest turn
that was given out.
"""
INSIDE, BESIDE, WAITING, SOLO, SINCE, TURN, MOST, SHED = range(8)
"""Cells of each worker. `BESIDE` counts requests without a slot and requests whose clients have left. `SINCE`
and `TURN` are the arrival and the turn of the request that waits first at an open gate, or 0. `MOST` counts
the requests of one owner in the queue; `SHED` of them are to give way, which others write under the lock.
"""
NO_PID = 0
SPREAD = 2654435761
"""Factor that spreads owners, which are small numbers, over the places for turns."""


class Neighbours:
    """`others.Neighbours` over the board, in the event loop of a backend."""

    def __init__(
        self, board: Board, row: int, let_in: Callable[[], None], give_way: Callable[[int], None]
    ) -> None:
        """`let_in` and `give_way`: methods of our own gate."""
        self._board = board
        self._row = row
        self._own = board.servers.told(row, board.column)
        self._others = tuple(board.servers.told(row, other) for other in board.others)
        self._let_in = let_in
        self._give_way = give_way
        self.turns = _SharedTurns(self, board, row)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        return sum(self._board.numbers[other + WAITING] for other in self._others)

    @property
    def load(self) -> int:
        """Requests in flight or waiting."""
        numbers = self._board.numbers
        return sum(numbers[other + INSIDE] + numbers[other + WAITING] for other in self._others)

    @property
    def has_suspect(self) -> bool:
        return any(self._board.numbers[other + SOLO] for other in self._others)

    def claim(self, inside: int, capacity: int, visitor: Insider) -> bool:
        board, own = self._board, self._own
        if not self.has_room(inside, capacity, visitor) or not board.lock():
            return False
        try:
            if not self.has_room(inside, capacity, visitor):
                return False
            board.numbers[own + INSIDE] = inside + 1
            board.numbers[own + SOLO] = visitor.solo
        finally:
            board.unlock()
        return True

    def has_room(self, inside: int, capacity: int, visitor: Insider, *, as_newcomer: bool = False) -> bool:
        numbers, times = self._board.numbers, self._board.times
        if self._loop.time() - times[self._row + AT] < LOST_SECONDS:
            return False
        place = (NEWCOMER if as_newcomer else visitor.turn, visitor.since)
        waits_for_all = visitor.solo and not visitor.insists
        for other in self._others:
            since = times[other + SINCE]
            if numbers[other + SOLO] or (since and (numbers[other + TURN], since) < place):
                return False
            inside += numbers[other + INSIDE]
            if waits_for_all and numbers[other + BESIDE]:
                return False
        return not inside if visitor.solo else not capacity or inside < capacity

    def tell(
        self, inside: int, beside: int, waiting: int, *, solo: bool, turn: int, since: float, most: int
    ) -> None:
        numbers, own = self._board.numbers, self._own
        numbers[own + INSIDE] = inside
        numbers[own + BESIDE] = beside
        numbers[own + WAITING] = waiting
        numbers[own + SOLO] = solo
        numbers[own + TURN] = turn
        numbers[own + MOST] = most
        if numbers[own + SHED]:
            self._loop.call_soon(self._shed)
        self._board.times[own + SINCE] = since
        if since and self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def ask_for_room(self, own: int) -> bool:
        numbers = self._board.numbers
        with self._board.locked():
            other = max(self._others, key=lambda other: numbers[other + MOST], default=None)
            if other is None or numbers[other + MOST] <= own + 1:
                return False
            numbers[other + MOST] -= 1
            numbers[other + SHED] += 1
        return True

    def _look(self) -> None:
        self._timer = None
        self._let_in()

    def _shed(self) -> None:
        numbers, cell = self._board.numbers, self._own + SHED
        if self._is_closed:
            return
        with self._board.locked():
            number, numbers[cell] = numbers[cell], 0
        self._give_way(number)

    def was_alone(self, pid: int | None, in_flight: int, now: float) -> bool:
        """Record the loss of a connection to this process: was its request the only one of all workers?

        The first worker to notice the loss takes the count, its own request included. A worker that was not
        counted then had no request in flight.
        """
        numbers, times, row = self._board.numbers, self._board.times, self._row
        with self._board.locked(LOSS_LOCK_SECONDS):
            if numbers[row + PID] != (pid or NO_PID) or now - times[row + AT] > TOGETHER_SECONDS:
                numbers[row + PID] = pid or NO_PID
                elsewhere = sum(numbers[other + INSIDE] + numbers[other + BESIDE] for other in self._others)
                numbers[row + NUMBER] = in_flight + elsewhere
                numbers[row + FIRST] = self._board.column + 1
                times[row + AT] = now
            return numbers[row + NUMBER] == 1 and numbers[row + FIRST] == self._board.column + 1

    def noticed_all(self, in_flight: int) -> bool:
        """Was this worker the first to notice the last loss, and had no other worker requests there?"""
        numbers, row = self._board.numbers, self._row
        return numbers[row + NUMBER] == in_flight and numbers[row + FIRST] == self._board.column + 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._board.numbers[self._own + SHED] = 0
        self.tell(0, 0, 0, solo=False, turn=0, since=0.0, most=0)
        self._is_closed = True


class _SharedTurns:
    """`turns.Turns` of all workers, without the lock: of two requests with one turn the older goes first."""

    def __init__(self, neighbours: Neighbours, board: Board, row: int) -> None:
        self._neighbours = neighbours
        self._numbers = board.numbers
        self._first = board.first_turn
        self._row = row

    def next_of(self, owner: int) -> int:
        numbers, row = self._numbers, self._row
        cell = self._first + (row * 31 + owner * SPREAD) % MAX_TURNS
        numbers[cell] = turn = max(numbers[row + NOW], numbers[cell]) + 1
        numbers[row + LATEST] = max(numbers[row + LATEST], turn)
        return turn

    def has_come(self, turn: int) -> None:
        if turn != NEWCOMER:
            self._numbers[self._row + NOW] = max(self._numbers[self._row + NOW], turn)

    def begin_anew(self) -> None:
        if not self._neighbours.waiting:
            self._numbers[self._row + NOW] = self._numbers[self._row + LATEST]


def neighbours_of(gate: Gate, server: str, board: Board) -> Neighbours | None:
    """Join the other workers before this server; None: the board has no room for another server."""
    key = int.from_bytes(blake2b(server.encode(), digest_size=7).digest()) or 1
    with board.locked():
        row = board.servers.row_of(key)
    if row is None:
        log.warning("⚠️ [GATEWAY] More than %d servers: each worker counts %s for itself", MAX_SERVERS, server)
        return None
    return Neighbours(board, row, gate.let_in, gate.give_way)
