"""The pace of a download: a bound on its bytes per second, and its speed. Pure, told the time."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 5.0
"""A speed is that of so many last seconds."""


class Bound:
    """A bucket of one second of bytes: `pause` tells how long to wait after some were read."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self._rate = bytes_per_second
        self._free_at = now

    def change(self, bytes_per_second: float) -> None:
        """Set another bound; 0: none."""
        self._rate = bytes_per_second

    def pause(self, count: int, now: float) -> float:
        """Return the seconds to wait after `count` bytes."""
        if self._rate <= 0:
            self._free_at = now
            return 0.0
        self._free_at = max(self._free_at, now - 1.0) + count / self._rate
        return max(0.0, self._free_at - now)


class Speed:
    """Bytes per second, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, now: float) -> float:
        """Note how many bytes there are now; return the speed."""
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (done - before) / (now - then) if now > then else 0.0


def backoff(attempt: int) -> float:
    """Return the seconds before try number `attempt`, from 1 on."""
    return float(min(60, 2 ** (attempt - 1)))
