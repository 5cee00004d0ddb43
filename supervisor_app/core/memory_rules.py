"""Rules of a node for its memory: `[memory]` of the file for all servers, each key declared once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.setting import Kind, Section, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

RESERVE_PART = 0.05
LEAST_RESERVE_MB = 512
LOADS_ON_DEVICE = 1
LEAST_LOADS = 8
"""Loads at a time on a node whose memory is not shared out, however few CPUs it has."""


@dataclass(frozen=True, kw_only=True)
class MemoryRules:
    """Rules by which room is made. 0: no limit, unless it says otherwise."""

    reserve_mb: int | None = None
    """Left free on each device; None: 5 % of it, at least 512 MB."""
    max_loaded: int = 0
    min_resident_seconds: int = 10
    max_wait_for_busy_seconds: int = 0
    """0: a busy server is never unloaded, however long others wait."""
    make_room: bool = True
    """False: the memory is not shared out, and of all rules `parallel_loads` alone holds."""
    parallel_loads: int | None = None
    """None: `LOADS_ON_DEVICE` where room is made, else one for each CPU, at least `LEAST_LOADS`."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Group -> how many of its servers may be loaded at once."""
    budget_mb: Mapping[str, int] = field(default_factory=dict)
    """Id or name of a device -> how much of it our servers may use together."""

    def reserve(self, total: int) -> int:
        """Return the bytes to leave free on a device of `total` bytes."""
        if self.reserve_mb is not None:
            return self.reserve_mb * 2**20
        return max(int(RESERVE_PART * total), LEAST_RESERVE_MB * 2**20)


MEMORY_SETTINGS = (
    Setting(
        key="reserve_mb",
        section=Section.NODE,
        default=MemoryRules.reserve_mb,
        help="Left free on each device. By default 5 % of it, at least 512.",
    ),
    Setting(
        key="max_loaded",
        section=Section.NODE,
        default=MemoryRules.max_loaded,
        help="Servers that are loaded at once.",
        zero="as many as fit",
    ),
    Setting(
        key="min_resident_seconds",
        section=Section.NODE,
        default=MemoryRules.min_resident_seconds,
        help="A server that is ready stays for so long before it makes room.",
    ),
    Setting(
        key="max_wait_for_busy_seconds",
        section=Section.NODE,
        default=MemoryRules.max_wait_for_busy_seconds,
        help="After such a wait a busy server finishes and goes.",
        zero="never",
    ),
    Setting(
        key="make_room",
        section=Section.NODE,
        kind=Kind.SWITCH,
        default=MemoryRules.make_room,
        help="Without it, of this table `parallel_loads` alone holds.",
    ),
    Setting(
        key="parallel_loads",
        section=Section.NODE,
        default=MemoryRules.parallel_loads,
        least=1,
        help="Servers that load at once: 1 on a device, or where no room is made 1 a CPU, "
        f"at least {LEAST_LOADS}.",
    ),
)
"""The keys with one value; `budget_mb` and the table `groups` are beside them."""


def loads_at_once(rules: MemoryRules | None, cpus: int) -> int:
    """Return how many servers may load at a time on a node that makes no room."""
    told = None if rules is None else rules.parallel_loads
    return told or max(LEAST_LOADS, cpus)
