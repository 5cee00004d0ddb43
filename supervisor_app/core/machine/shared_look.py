"""A look at the whole machine, shared by all who ask within a moment. Blocking: not for the event loop."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SharedLook(Generic[T]):
    """Result of the last look. Many servers that ask at the same moment cost one look, and not one each."""

    def __init__(self, look: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._lock = Lock()
        self._began = float("-inf")
        self._found: T

    def get(self, max_age: float = 0.0) -> T:
        """Return what a look found that began at most `max_age` seconds before this call, or later.

        Raises what the look raises.
        """
        asked_at = self._clock()
        with self._lock:
            if self._began < asked_at - max_age:
                began = self._clock()
                self._found = self._look()
                self._began = began
            return self._found
