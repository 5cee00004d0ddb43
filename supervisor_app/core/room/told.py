"""Decisions about room that servers have been told, and have not acted on yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.lifecycle import Phase

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from supervisor_app.core.room.tenants import Tenant


@dataclass(frozen=True)
class Drained:
    """A server that was told to take no new requests."""

    attempt: int
    for_: str
    """Name of the server for which it makes room."""
    at: float
    """Moment of that word, monotonic seconds."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """Gateway -> requests that it had there when it had stopped to send any."""

    def is_left_by(self, gateways: Collection[str]) -> bool:
        """Have these all said that nothing of theirs is there, or comes? Not if there is none of them."""
        return bool(gateways) and all(self.in_flight.get(name) == 0 for name in gateways)


@dataclass
class Told:
    """Server -> the attempt that it was told of."""

    given: dict[str, int] = field(default_factory=dict)
    """Room was given."""
    draining: dict[str, Drained] = field(default_factory=dict)
    """Requests in flight are to be finished, and room is to be made then."""
    unloaded: dict[str, int] = field(default_factory=dict)
    """Room is to be made by the server."""
    made_room: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Server -> names of those that were told to end for it, until it has its room."""

    @property
    def waited_for(self) -> frozenset[str]:
        """Servers for which others make room."""
        return frozenset({*self.made_room, *(drained.for_ for drained in self.draining.values())})

    def unload(self, name: str, attempt: int, for_: str) -> None:
        """Note that a server is to end for another one."""
        self.unloaded[name] = attempt
        self.made_room[for_] = (*self.made_room.get(for_, ()), name)

    def made_room_for(self, name: str) -> tuple[str, ...]:
        """Take out which servers ended for this one."""
        return self.made_room.pop(name, ())

    def forget_acted_on(self, tenants: Mapping[str, Tenant]) -> None:
        """Forget what servers have acted on, or what is overtaken."""
        self.given = _open(self.given, tenants, Phase.AWAITING_ROOM)
        draining = {name: told.attempt for name, told in self.draining.items()}
        still = _open(draining, tenants, Phase.SERVING)
        self.draining = {name: told for name, told in self.draining.items() if name in still}
        self.unloaded = _open(self.unloaded, tenants, Phase.SERVING)
        self.made_room = {
            name: made
            for name, made in self.made_room.items()
            if name in tenants and tenants[name].state.phase is Phase.AWAITING_ROOM
        }


def _open(told: Mapping[str, int], tenants: Mapping[str, Tenant], phase: Phase) -> dict[str, int]:
    """Return what was told to servers that are still where they were then."""
    states = {name: tenants[name].state for name in told if name in tenants}
    return {
        name: attempt
        for name, attempt in told.items()
        if name in states and states[name].attempt == attempt and states[name].phase is phase
    }
