"""Vital signs of a process that serves: what the last looks at it have found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.command_line.shared_context import ContextFlags
    from supervisor_app.core.sightings import MemorySample, Slot
    from supervisor_app.core.watch.watchdog import Activity


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """Findings of the looks that the watchdog takes anyway: every 2 s while there is work, else every 5 s."""

    at: float = 0.0
    """Unix seconds of the last look."""
    cores: float | None = None
    """CPU of the process since the look before, in cores."""
    memory: MemorySample | None = None
    """None: it is gone or hidden."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """Bytes that it uses of each GPU."""
    slots: tuple[Slot, ...] = ()
    """Slots as they were told last; empty: they never were."""

    @property
    def context_size(self) -> int:
        """Tokens that the context of all slots takes."""
        return max((slot.shared for slot in self.slots), default=0) or sum(slot.size for slot in self.slots)

    def after(
        self, activity: Activity, memory: MemorySample | None, at: float, context: ContextFlags
    ) -> Vitals:
        """Return the vitals after a look. A server that is not asked for its slots has none that work."""
        slots = context.told_of(activity.each) or tuple(replace(slot, works=False) for slot in self.slots)
        return replace(self, at=at, cores=activity.cores, memory=memory, slots=slots)
