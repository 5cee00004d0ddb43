"""Loads on a node that makes no room: a few at a time, whatever they need. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.placement.decisions import Wait
from supervisor_app.core.placement.obstacles import others_load
from supervisor_app.core.placement.plan import plan, turn
from supervisor_app.core.placement.world import Cause, Need, Policy, Source, Standing, World
from supervisor_app.core.room.beside import name_beside
from supervisor_app.core.room.tenants import asks, is_undecided, remnant, standing_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from supervisor_app.core import lifecycle
    from supervisor_app.core.placement.decisions import Plan
    from supervisor_app.core.placement.world import Demand
    from supervisor_app.core.room.tenants import Tenant

WEIGHTLESS = Need(devices={}, source=Source.MEASURED)
"""Need of a server where nobody shares memory out: of all limits that of the loads alone holds."""
TOGETHER_SECONDS = 2.0
"""Servers that ask within this time have come together: the start of a node, or a crash of many."""
SPAWN_SECONDS = 5.0
"""Time for a spawn, most often some milliseconds: one that waits for a disk that hangs loads nothing."""


def loads(state: lifecycle.State, now: float) -> bool:
    """Tell whether a server takes a place of those that load.

    An end is certain: a load by the readiness limit of the server. A download, which may take hours, is none,
    nor is what was found running.
    """
    if state.loads_since is None or standing_of(state) is not Standing.LOADING:
        return False
    if state.phase in (Phase.INSPECTING, Phase.SPAWNING):
        return now < state.loads_since + SPAWN_SECONDS
    return state.loading or not state.fetched


def loading(tenants: Mapping[str, Tenant], given: Collection[str], now: float) -> list[str]:
    """Return the names of those that load. `given`: servers that were told to, and have not acted on that."""
    own = [name for name, tenant in tenants.items() if name in given or loads(tenant.state, now)]
    second = [
        name_beside(name)
        for name, tenant in tenants.items()
        if tenant.second is not None and loads(tenant.second, now)
    ]
    return [*own, *second]


def may_be_crowded(tenants: Mapping[str, Tenant], given: Collection[str], limit: int, now: float) -> bool:
    """Return whether there may be fewer places than servers that want one: then all are heard first."""
    coming = sum(
        is_undecided(tenant) or (asks(tenant) and name not in given) for name, tenant in tenants.items()
    )
    return len(loading(tenants, given, now)) + coming > limit


def line_up(names: Iterable[str], demands: Sequence[Demand], limit: int, now: float) -> Plan:
    """Decide who loads next, beside those that do: what somebody waits for, then priority, then the name.

    Only those that may begin, and as many behind them, are planned. All others wait for these in any case,
    and their reason names nobody.
    """
    residents = tuple(replace(remnant(name, {}), standing=Standing.LOADING) for name in names)
    world, policy = World(budgets=(), residents=residents), Policy(parallel_loads=limit)
    in_order = sorted(_as_one(demands), key=lambda demand: turn(demand, now))
    next_ones, others = in_order[: 2 * limit], in_order[2 * limit :]
    planned = plan(world, next_ones, policy, now)
    waits = (Wait(demand.name, others_load(demand, (), limit)) for demand in others)
    return replace(planned, decisions=(*planned.decisions, *waits))


def _as_one(demands: Sequence[Demand]) -> list[Demand]:
    """Return the demands as if those that nobody waits for had come with the first, if soon after that."""
    preloads = [demand.since for demand in demands if demand.cause is Cause.PRELOAD]
    first = min(preloads, default=0.0)
    return [
        replace(demand, since=first)
        if demand.cause is Cause.PRELOAD and demand.since <= first + TOGETHER_SECONDS
        else demand
        for demand in demands
    ]
