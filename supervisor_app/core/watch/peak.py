"""Peak of the memory of one process, and when it says what such a process needs. Pure.

A server that has never worked has touched only a part of what it reserves, and one that was ready for a
moment was perhaps not even looked at: neither teaches anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.status import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.sightings import MemorySample

LEAST_SECONDS = 10.0
"""Ready for so long before it teaches: the devices are looked at as often."""
PAUSE_SECONDS = 60.0
"""Between two lessons of one process, as long as it runs."""
GROWTH = 1.02
"""Less growth on each device is no news while it runs."""
WANT_OF_MEMORY = frozenset({FailureKind.OUT_OF_MEMORY, FailureKind.OOM_KILLED, FailureKind.GPU_OUT_OF_MEMORY})


@dataclass
class Peak:
    """Most bytes seen of each kind. Times in monotonic seconds."""

    own: int = 0
    """Backed by no file, swapped out or not."""
    data: int = 0
    """Pages of the files that it maps as data, its model among them, since it was ready."""
    devices: dict[str, int] = field(default_factory=dict)
    ready_at: float | None = None
    worked: bool = False
    surveyed_ready: bool = False
    """The GPUs were looked at since it was ready."""
    taught: dict[str, int] = field(default_factory=dict)
    taught_at: float | None = None
    _programs: int | None = None
    """Pages of files that are no data: they hardly change, so what else changes is data."""

    def became_ready(self, now: float, data: int, sample: MemorySample | None) -> None:
        """Note what the process maps now that all is loaded: before that it may map the model in passing."""
        self.ready_at, self.data, self._programs = now, data, None if sample is None else sample.file - data

    def sampled(self, sample: MemorySample | None) -> None:
        if sample is None:
            return
        self.own = max(self.own, sample.used)
        if self._programs is not None and self.data:
            self.data = max(self.data, sample.file - self._programs)

    def surveyed(self, used: Mapping[str, int]) -> None:
        for device, count in used.items():
            self.devices[device] = max(self.devices.get(device, 0), count)
        self.surveyed_ready = self.surveyed_ready or self.ready_at is not None

    @property
    def bytes(self) -> dict[str, int]:
        """The peak by device."""
        return {HOST: self.own + self.data, **self.devices}

    def lesson(self, now: float, *, ended: bool = False) -> dict[str, int] | None:
        """Return the peak when there is news in it, and take it for taught; None: nothing to teach."""
        if self.ready_at is None or now - self.ready_at < LEAST_SECONDS or not self.own:
            return None
        if not (self.worked and self.surveyed_ready):
            return None
        least, pause = (1.0, 0.0) if ended else (GROWTH, PAUSE_SECONDS)
        news = self.bytes
        if all(count <= least * self.taught.get(device, 0) for device, count in news.items()):
            return None
        if self.taught_at is not None and now < self.taught_at + pause:
            return None
        self.taught, self.taught_at = news, now
        return news

    def short_of(self, kind: FailureKind) -> dict[str, int] | None:
        """Return what it had of the devices that it died for want of; None: it did not die of that."""
        if kind not in WANT_OF_MEMORY:
            return None
        return dict(self.devices) if kind is FailureKind.GPU_OUT_OF_MEMORY else {HOST: self.own + self.data}
