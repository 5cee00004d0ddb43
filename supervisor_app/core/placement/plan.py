"""The planner: `plan(world, demands, policy, now)`.

Demands are settled one after the other, in the order in which they have a right to memory. Each starts if all
that it needs is free now and promised to nobody. If not, idle servers are evicted for it, if what they free
is enough; else it waits, and what can be had soon is promised to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.placement.decisions import Plan, Refuse, Start, Wait
from supervisor_app.core.placement.draft import Draft
from supervisor_app.core.placement.leaving import cheapest, freed_by
from supervisor_app.core.placement.obstacles import doubt, last_process, no_room, others_load, too_large
from supervisor_app.core.placement.shares import lack
from supervisor_app.core.placement.world import Cause, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.placement.shares import Amounts
    from supervisor_app.core.placement.world import Demand, Policy, World

PATIENCE_SECONDS = 30.0
"""Wait after which no higher priority overtakes any longer."""


def plan(world: World, demands: Sequence[Demand], policy: Policy, now: float) -> Plan:
    """Decide who starts, who goes for whose sake, who waits and who can never fit."""
    draft = Draft(world, policy, now)
    for demand in sorted(demands, key=lambda demand: turn(demand, now)):
        _settle(draft, demand)
    if len(demands) > 1:
        impatient = (
            demand.since + PATIENCE_SECONDS for demand in demands if demand.cause is not Cause.PRELOAD
        )
        draft.moments.update(moment for moment in impatient if moment > now)
    return Plan(tuple(draft.decisions), min(draft.moments, default=None))


def turn(demand: Demand, now: float) -> tuple[bool, bool, float, float, str]:
    """Order of demands: what somebody waits for, what has waited for too long, priority, time of waiting."""
    preload = demand.cause is Cause.PRELOAD
    patient = preload or now < demand.since + PATIENCE_SECONDS
    return preload, patient, -demand.priority if patient else 0, demand.since, demand.name


def _settle(draft: Draft, demand: Demand) -> None:
    share = draft.wanted(demand)
    here = draft.residents.get(demand.name)
    if here is not None and here.standing is not Standing.LEAVING:
        draft.decisions.append(Wait(demand.name, last_process(demand)))
    elif excess := lack(share, draft.most.free):
        draft.decisions.append(Refuse(demand.name, too_large(draft, demand, share, excess)))
    elif here is not None:
        draft.promise(demand, share)
        draft.decisions.append(Wait(demand.name, last_process(demand)))
    elif lack(share, draft.free.free) or lack(share, draft.later.free) or draft.loads.before(demand.need):
        _wait(draft, demand, share)
    else:
        draft.start(demand, share)
        draft.decisions.append(Start(demand.name, doubt(draft, demand, share)))


def _wait(draft: Draft, demand: Demand, share: Amounts) -> None:
    """Let a demand wait, and make room for it, if that can be done.

    Nothing is evicted before its successor may load: until then it can answer.
    """
    now, later, first = lack(share, draft.free.free), lack(share, draft.later.free), tuple(draft.promises)
    idle = draft.may_go(demand)
    stuck = lack(later, freed_by(idle))
    before = draft.loads.before(demand.need, promised=bool(later))
    is_next = draft.loads.queued(demand.need) < draft.loads.limit
    if later and not stuck and not before:
        draft.evict(cheapest(idle, later) or [], demand)
    elif later:
        draft.count_on(cheapest(draft.may_go_soon(demand), later) or [])
    if not lack(share, draft.later.free):
        draft.promise(demand, share)
        draft.loads.add(demand.name, demand.need, begun=False)
    if before and not stuck and (later or not now):
        reason = others_load(demand, before if is_next else (), draft.loads.limit)
    else:
        reason = no_room(draft, demand, share, stuck or now or later, () if now else first)
    draft.decisions.append(Wait(demand.name, reason))
