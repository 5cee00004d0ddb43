"""What most others do: first come, first served, and the least recently used goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.placement.decisions import Plan, Refuse, Start, Wait
from supervisor_app.core.placement.draft import Draft
from supervisor_app.core.placement.leaving import Candidate
from supervisor_app.core.placement.obstacles import doubt, last_process
from supervisor_app.core.placement.shares import lack
from supervisor_app.core.placement.world import Cause, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.placement.world import Demand, Policy, World


LOOK_SECONDS = 5.0
"""Between two looks while somebody waits, because it does not say when the answer may change."""


def least_recently_used(world: World, demands: Sequence[Demand], policy: Policy, now: float) -> Plan:
    """Plan with the same needs, limits and refusals as the real planner, and without its thoughts."""
    draft = Draft(world, policy, now)
    idle = sorted(
        (
            each
            for each in world.residents
            if each.standing is Standing.IDLE
            and not each.pinned
            and now >= (each.ready_since or 0.0) + policy.min_resident_seconds
        ),
        key=lambda each: each.last_used,
    )
    for demand in sorted(demands, key=lambda each: (each.cause is Cause.PRELOAD, each.since, each.name)):
        share = draft.wanted(demand)
        if lack(share, draft.most.free):
            draft.decisions.append(Refuse(demand.name, last_process(demand)))
        elif demand.name in draft.residents or draft.loads.before(demand.need):
            draft.decisions.append(Wait(demand.name, last_process(demand)))
        elif not lack(share, draft.free.free):
            draft.free.take(share)
            draft.later.take(share)
            draft.loads.add(demand.name, demand.need, begun=True)
            draft.decisions.append(Start(demand.name, doubt(draft, demand, share)))
        else:
            while demand.cause is not Cause.PRELOAD and idle and (lacking := lack(share, draft.later.free)):
                goes = idle.pop(0)
                if lacking.keys() & draft.shares[goes.name].keys():
                    draft.evict([Candidate(goes, draft.shares[goes.name], 0.0)], demand)
            draft.promise(demand, share)
            draft.decisions.append(Wait(demand.name, last_process(demand)))
    return Plan(tuple(draft.decisions), now + LOOK_SECONDS)
