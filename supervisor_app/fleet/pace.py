"""News of things that change too often for a page: of each thing the newest, a few times a second. Pure."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

T = TypeVar("T")


class Paced(Generic[T]):
    """Holds the newest of each name back until `pause` seconds after the last. The first goes at once."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._held: dict[str, T] = {}
        self._gone: dict[str, float] = {}
        """Moments at which the last of each name was handed out."""

    def put(self, name: str, news: T, *, at_once: bool = False) -> None:
        """Hold news of a name in place of older ones. `at_once`: they wait for no pause."""
        self._held[name] = news
        if at_once:
            self._gone.pop(name, None)

    def due(self, now: float, *, held_too: bool = False) -> list[T]:
        """Hand out what may go, in the order of its coming; with `held_too` all that there is."""
        names = [
            name for name in self._held if held_too or now - self._gone.get(name, -math.inf) >= self._pause
        ]
        self._gone = {name: at for name, at in self._gone.items() if now - at < self._pause}
        self._gone.update(dict.fromkeys(names, now))
        return [self._held.pop(name) for name in names]

    def wait(self, now: float) -> float | None:
        """Return the seconds until more is due; None: nothing is held."""
        left = [self._gone.get(name, -math.inf) + self._pause - now for name in self._held]
        return max(0.0, min(left)) if left else None

    def forget(self, name: str) -> None:
        self._held.pop(name, None)
