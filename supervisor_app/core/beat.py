"""Moments at which a node looks again at what it looks at all the time. Pure.

An event loop that wakes up is slow at first: of many servers that are looked at one by one, each at a moment
of its own, the wake-ups cost more than the looks. On a common beat those that are due at about the same time
are looked at together, though not all at once: a death in the meantime would be noticed late.
"""

from __future__ import annotations

import math

BEAT_SECONDS = 0.125
"""Time between two beats; a power of two, of which every multiple is exact."""
LEAST_SECONDS = 1.0
"""Shorter pauses are as long as they are said to be."""


def beat_after(now: float, pause: float) -> float:
    """Return the moment of the last beat within `pause` seconds, so never a later one than that.

    `now`: monotonic seconds.
    """
    due = now + pause
    return due if pause < LEAST_SECONDS else math.floor(due / BEAT_SECONDS) * BEAT_SECONDS
