"""Virtual time: what happens, one after the other."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timeline:
    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, event: Callable[[], None]) -> None:
        heappush(self._events, (max(moment, self.now), next(self._numbers), event))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self.at(self.now + seconds, event)

    def clear(self) -> None:
        self._events.clear()

    def next(self) -> bool:
        """Live the next event; False: nothing will ever happen again."""
        if not self._events:
            return False
        self.now, _, event = heappop(self._events)
        event()
        return True
