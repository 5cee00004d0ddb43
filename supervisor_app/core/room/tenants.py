"""Servers as the planner sees them: who has memory, and who wants some. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.placement.world import Cause, Demand, Need, Resident, Source, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core import lifecycle
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.use import Use

UNKNOWN = Need(devices={}, source=Source.UNKNOWN)
_STANDING = {
    Phase.SPAWNING: Standing.LOADING,
    Phase.WAITING: Standing.LOADING,
    Phase.READING_MODELS: Standing.LOADING,
    Phase.SERVING: Standing.IDLE,
    Phase.DRAINING: Standing.LEAVING,
    Phase.ENDING: Standing.LEAVING,
}


class Tenant(Protocol):
    """The supervisor of one server."""

    @property
    def config(self) -> ServerConfig: ...
    @property
    def state(self) -> lifecycle.State: ...
    @property
    def second(self) -> lifecycle.State | None:
        """State of the process beside its own, during a restart without a gap."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of its processes."""

    @property
    def has_begun(self) -> bool:
        """True once it has found out what the last supervisor left."""

    @property
    def use(self) -> Use:
        """Moments of its use."""

    @property
    def load_seconds(self) -> float:
        """Time that its last starts took."""

    @property
    def closed_since(self) -> int | None:
        """Version of the first snapshot that said: it takes no new requests. None: it takes some."""

    async def requests(self) -> int:
        """Ask the server how many requests are in flight; 1 where that cannot be told."""

    def tell(self, event: lifecycle.Event) -> None:
        """Take a decision."""


def standing_of(state: lifecycle.State) -> Standing | None:
    """Return how a server stands in memory; None: it has none."""
    if state.gone:
        return None
    if state.phase is Phase.INSPECTING and state.has_room:
        return Standing.LOADING
    return _STANDING.get(state.phase)


def asks(tenant: Tenant) -> bool:
    return tenant.state.phase is Phase.AWAITING_ROOM


def is_undecided(tenant: Tenant) -> bool:
    """May it turn out in a moment that the server has memory already, or asks for some?"""
    state = tenant.state
    return not tenant.has_begun or (state.phase is Phase.INSPECTING and not state.has_room)


def resident(tenant: Tenant, standing: Standing, need: Need, requests: int) -> Resident:
    """`requests`: in flight. A process that was found running is somebody else's, and stays.

    A server that is being restarted without a gap counts as busy.
    """
    claim = tenant.config.claim
    busy = standing is Standing.IDLE and (requests > 0 or tenant.second is not None)
    return Resident(
        name=tenant.config.name,
        need=need,
        standing=Standing.BUSY if busy else standing,
        ready_since=tenant.use.ready_since,
        last_used=tenant.use.last_used,
        load_seconds=tenant.load_seconds,
        requests=requests,
        pinned=claim.pinned or tenant.state.adopted,
        group=claim.group,
        priority=claim.priority,
    )


def at_least(need: Need, seen: Mapping[str, int]) -> Need:
    """Return a need that is no less than what the process is seen to use."""
    if all(need.devices.get(device, 0) >= used for device, used in seen.items()):
        return need
    devices = {
        device: max(need.devices.get(device, 0), seen.get(device, 0)) for device in {*need.devices, *seen}
    }
    return replace(need, devices=devices)


def remnant(name: str, devices: Mapping[str, int]) -> Resident:
    """Memory of a process that has gone, which is not back yet."""
    return Resident(
        name=name,
        need=Need(devices=devices, source=Source.MEASURED),
        standing=Standing.LEAVING,
        ready_since=None,
        last_used=0.0,
        load_seconds=0.0,
        requests=0,
        pinned=False,
        group="",
        priority=0,
    )


def demand(tenant: Tenant, need: Need, since: float, waiting: int) -> Demand:
    """`since`: when it was first seen to ask. `waiting`: requests that wait for it in gateways."""
    claim = tenant.config.claim
    cause = Cause.REQUEST if waiting else Cause.WISH if tenant.state.wished else Cause.PRELOAD
    return Demand(
        name=tenant.config.name,
        need=need,
        cause=cause,
        since=since,
        waiting=waiting,
        pinned=claim.pinned,
        group=claim.group,
        priority=claim.priority,
    )
