"""A second process of a server, beside the first, as the planner sees it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.core.placement.decisions import Refuse, Wait
from supervisor_app.core.placement.plan import plan
from supervisor_app.core.placement.reasons import sentence
from supervisor_app.core.placement.world import Cause, Demand, Policy, Resident, Standing, World

if TYPE_CHECKING:
    from supervisor_app.core.placement.world import Need
    from supervisor_app.core.room.tenants import Tenant

ANY_LOADS = 1_000_000
"""Loads at a time: a second process does not wait for others to load, it loads at once or not at all."""


def name_beside(name: str) -> str:
    """Return the name of a second process in sentences. No server can have such a name."""
    return f"{name} (new)"


def beside(tenant: Tenant, standing: Standing, need: Need) -> Resident:
    """Return what a second process holds. It loads, or makes room by itself: nobody has to evict it."""
    claim = tenant.config.claim
    return Resident(
        name=name_beside(tenant.config.name),
        need=need,
        standing=standing if standing is Standing.LOADING else Standing.LEAVING,
        ready_since=None,
        last_used=tenant.use.last_used,
        load_seconds=tenant.load_seconds,
        requests=0,
        pinned=False,
        group=claim.group,
        priority=claim.priority,
    )


def demand_beside(tenant: Tenant, need: Need, now: float) -> Demand:
    """Return what a second process asks for. As a preload nobody goes for it."""
    claim = tenant.config.claim
    return Demand(
        name=name_beside(tenant.config.name),
        need=need,
        cause=Cause.PRELOAD,
        since=now,
        waiting=0,
        pinned=claim.pinned,
        group=claim.group,
        priority=claim.priority,
    )


def as_idle(world: World, name: str) -> World:
    """Return the world in which this server is not busy for the sake of its restart: no reason names that."""
    residents = (
        replace(each, standing=Standing.IDLE) if each.name == name else each for each in world.residents
    )
    return replace(world, residents=tuple(residents))


def why_not_beside(world: World, demand: Demand, policy: Policy, now: float) -> str:
    """Return why a second process has no room, as a sentence; empty: it has some now, and nobody goes."""
    alone = replace(policy, parallel_loads=ANY_LOADS)
    for decision in plan(world, [demand], alone, now).decisions:
        if decision.name == demand.name and isinstance(decision, Wait | Refuse):
            return sentence(decision.reason)
    return ""
