"""The world as the planner sees it: memory, servers in it, servers that want in, and the rules.

Bytes are keyed by `core.devices.Device.id`; times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Source(StrEnum):
    """Origin of a need, the most certain first."""

    MEASURED = "measured"
    TOLD = "told"
    """Told by the engine, in its log or by `llama-fit-params`."""
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"
    """No bytes are known."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Flags with which a server would need less."""

    flags: str
    """Flags as they are written on a command line: `-c 16384`."""
    devices: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes that a server takes on each device, from its start until its end."""

    devices: Mapping[str, int]
    source: Source
    remedies: tuple[Remedy, ...] = ()
    """The mildest first."""
    runs: int = 0
    """Runs in which it was measured."""
    build: str = ""
    """Build of the engine that was measured or asked."""
    shrinks: bool = False
    """llama-server itself takes less where less is free, because layers and context are not set."""

    @property
    def main(self) -> str | None:
        """The device with the most bytes, whose bandwidth a load takes; None: not known."""
        return max(self.devices, key=lambda device: (self.devices[device], device), default=None)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The memory of one device that servers may share."""

    device: str
    name: str
    """Name within a sentence: `GPU 0`, `the host`."""
    total: int
    reserve: int
    strangers: int
    """Used by processes that are no servers of this node."""
    is_set: bool = False
    """People allow no more than `total` (`budget_mb`); the device has more."""

    @property
    def usable(self) -> int:
        return max(0, self.total - self.reserve - self.strangers)


class Standing(StrEnum):
    LOADING = "loading"
    BUSY = "busy"
    """Requests are in flight or have their turn next."""
    IDLE = "idle"
    LEAVING = "leaving"
    """Told to end, or ended and its memory not yet seen to be back."""


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A server that holds memory."""

    name: str
    need: Need
    """Never less than what it is seen to hold."""
    standing: Standing
    ready_since: float | None
    last_used: float
    """End of its last request; without any the moment at which it became ready."""
    load_seconds: float
    """Time from start to ready, which is expected of the next start, too."""
    requests: int
    """Requests in flight, or with their turn next."""
    pinned: bool
    group: str
    priority: int


class Cause(StrEnum):
    """Reason why a server is wanted."""

    PRELOAD = "preload"
    """A server that should run, and for which nobody waits: it evicts nobody."""
    WISH = "wish"
    """A person, a program or the configuration has just asked for its start."""
    REQUEST = "request"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A server that wants in."""

    name: str
    need: Need
    cause: Cause
    since: float
    waiting: int
    """Requests that wait for it."""
    pinned: bool
    group: str
    priority: int


@dataclass(frozen=True, kw_only=True)
class World:
    budgets: tuple[Budget, ...]
    """A device without a budget limits nothing."""
    residents: tuple[Resident, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules that people set under `[memory]`."""

    min_resident_seconds: float = 10.0
    max_wait_for_busy_seconds: float = 0.0
    """Wait after which a request's server may evict busy ones, which finish what is in flight; 0: never."""
    max_loaded: int = 0
    """Servers of the node at a time; 0: no limit."""
    group_limits: Mapping[str, int] = field(default_factory=dict)
    """Servers of a group at a time; 1: the group is exclusive. A group that is missing has no limit."""
    parallel_loads: int = 1
    """Loads at a time on each device, by the main device of each server."""
