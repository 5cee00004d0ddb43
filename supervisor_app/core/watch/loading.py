"""Progress of loading a model, with an estimate from the past starts of the same server."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING

from supervisor_app.common.words import left, size
from supervisor_app.core.status import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_BYTES = 128 * 2**20
"""Least size of a model whose loading is worth following: a process without a model has a third of this."""


class LoadWatch:
    """Estimate from the last starts that reached ready."""

    INTERVAL = 0.5
    """Seconds between two looks."""

    def __init__(self, past_seconds: Sequence[float] = ()) -> None:
        self._past = deque(past_seconds, maxlen=5)

    def learned(self, seconds: float) -> None:
        self._past.appendleft(seconds)

    @property
    def usual(self) -> float:
        """Seconds that the last starts took, in the middle; 0 when there are none."""
        return median(self._past) if self._past else 0.0

    def progress(self, loaded: int, total: int, elapsed: float) -> Progress:
        """Make progress of bytes and of seconds since the start. No estimate once the usual time is over."""
        left = self.usual - elapsed
        return Progress(loaded=min(loaded, total), total=total, eta_seconds=left if left > 0 else None)

    @staticmethod
    def line(progress: Progress) -> str:
        """Word the progress for the console."""
        sizes = f"{size(progress.loaded)} of {size(progress.total)}"
        eta = "" if progress.eta_seconds is None else f", {left(progress.eta_seconds)}"
        return f"⏳ [LLAMA] Loading the model: {progress.percent} % ({sizes}{eta})"
