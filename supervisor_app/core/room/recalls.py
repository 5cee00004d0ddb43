"""Servers that were not loaded for want of room, and begin once there is some. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.room.tenants import UNKNOWN, demand, remnant, standing_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.placement.world import Demand, Need, World
    from supervisor_app.core.room.tenants import Tenant

RECALL_SECONDS = 10.0
"""Time between two looks whether there is room, while no server changes: other programs give some back."""


def rests(tenant: Tenant) -> bool:
    return tenant.state.no_room


def recalled(tenants: Mapping[str, Tenant], needs: Mapping[str, Need], now: float) -> list[Demand]:
    """Return what those that rest ask for: nobody goes for them, and whoever asks comes first."""
    return [
        demand(tenant, needs.get(name, UNKNOWN), now, waiting=0)
        for name, tenant in tenants.items()
        if rests(tenant)
    ]


def with_places_kept(world: World, tenants: Mapping[str, Tenant], needs: Mapping[str, Need]) -> World:
    """Return the world in which servers that will be tried again still have their room."""
    kept = (
        replace(remnant(name, needs.get(name, UNKNOWN).devices), group=tenant.config.claim.group)
        for name, tenant in tenants.items()
        if standing_of(tenant.state) is None and tenant.state.phase in (Phase.BACKOFF, Phase.ENDING)
    )
    return replace(world, residents=(*world.residents, *kept))
