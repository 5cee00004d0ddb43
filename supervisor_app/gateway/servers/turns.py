"""Turns among requests that wait: every owner of requests gets as many as any other. Pure.

Start-time fair queuing: a request that has to wait is given the next turn of its owner, which comes after the
owner's turn before, and not before the turn that it is now. An owner with one request waiting is served after
at most one of each other owner's, however many those have sent.
"""

from __future__ import annotations

from typing import Protocol

NEWCOMER = 2**62
"""Turn of a request that has not waited yet: it comes after all that do."""
FIRST = 0
"""Turn of a request that was inside before: nobody comes before it."""


class Turns(Protocol):
    """Turns before one server."""

    def next_of(self, owner: int) -> int:
        """Give out a turn."""

    def has_come(self, turn: int) -> None:
        """A request with this turn was let in."""

    def begin_anew(self) -> None:
        """Start over when no request waits any more: earlier turns count for no owner."""


class LocalTurns:
    """`Turns` of one process."""

    def __init__(self) -> None:
        self._now = FIRST
        self._last: dict[int, int] = {}
        """The latest turn of each owner."""

    def next_of(self, owner: int) -> int:
        self._last[owner] = turn = max(self._now, self._last.get(owner, FIRST)) + 1
        return turn

    def has_come(self, turn: int) -> None:
        if turn != NEWCOMER:
            self._now = max(self._now, turn)

    def begin_anew(self) -> None:
        self._now = max(self._now, *self._last.values(), FIRST)
        self._last.clear()
