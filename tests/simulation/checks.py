"""Checks of what must hold, whatever happens. Each returns what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.records.record import Record
    from supervisor_app.gateway.workers.board import Board, Table

TOO_LONG_MS = 200_000.0
"""No limit that is in force allows a request to take so long."""
COUNTS = 4
"""Of what a worker tells about a server: inside, beside, waiting, alone."""


def left_at(gateway: Gateway) -> Iterator[str]:
    """All clients have gone: nothing of them may be left."""
    if gateway.exchanges or gateway.clients:
        yield f"left: {len(gateway.exchanges)} exchanges, {len(gateway.clients)} clients"
    if gateway.kept_bytes:
        yield f"left: {gateway.kept_bytes} bytes of bodies"
    for backend in gateway.backends.values():
        gate = backend.gate
        if gate.in_flight or gate.waiting:
            yield f"left at the gate of {backend.facts.name}: {gate.in_flight} inside, {gate.waiting} waiting"
    if any(spent.running for spent in gateway.limiter.spent.values()):
        yield "left: a key has something running"
    if gateway.board is not None:
        yield from _left_on(gateway.board, gateway.board.servers, COUNTS)
        yield from _left_on(gateway.board, gateway.board.keys, 1)


def crowd(first: Gateway, second: Gateway) -> Iterator[str]:
    """Over both workers no more are inside than a server can do, and who has to be alone is."""
    for name in first.backends.keys() & second.backends.keys():
        one, other = first.backends[name], second.backends[name]
        inside = one.gate.inside | other.gate.inside
        capacity = one.facts.capacity
        if capacity and len(inside) > capacity:
            yield f"{len(inside)} inside {name}, which can do {capacity} at once"
        if len(inside) > 1 and any(visitor.solo for visitor in inside):
            yield f"one that has to be alone inside {name} is not"


def hung(records: Iterable[Record]) -> Iterator[str]:
    """Nobody hung, and so no request may have."""
    return (f"hung: {record}" for record in records if record.duration_ms > TOO_LONG_MS)


def _left_on(board: Board, table: Table, counts: int) -> Iterator[str]:
    for row in table.rows:
        for column in range(board.columns):
            told = table.told(row, column)
            if board.numbers[row] and any(board.numbers[told : told + counts]):
                yield f"left on the board by worker {column}: {list(board.numbers[told : told + counts])}"
