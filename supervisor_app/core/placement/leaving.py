"""Servers that may go: when, at which cost, and the cheapest of them that free enough."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.placement.reasons import Stay
from supervisor_app.core.placement.shares import lack
from supervisor_app.core.placement.world import Cause, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.core.placement.shares import Amounts, Thing
    from supervisor_app.core.placement.world import Demand, Policy, Resident

BATCH_GAP_SECONDS = 1.0
"""Programs that work through a batch ask again within that time: between two requests it is in use."""
EVICTION_SECONDS = 10.0
"""Cost of an eviction beside the next load: a process is stopped, and its memory waited for."""
RECENT_SECONDS = 10.0
"""Uses within so long are equally recent."""
MOST_DOUBLINGS = 20


@dataclass(frozen=True)
class Candidate:
    """A resident that may go for the sake of another."""

    resident: Resident
    share: Amounts
    cost: float


def may_go_at(resident: Resident, demand: Demand, policy: Policy) -> float:
    """Return the moment from which a resident may be evicted for a demand; infinity: none that is known.

    A turn lasts as long as the load took, so that at most half of the time goes into loads while several
    servers have queues. Within its turn an idle server stays that was in use a moment ago: its batch goes on.
    """
    going = resident.pinned or resident.standing in {Standing.LOADING, Standing.LEAVING}
    if going or resident.ready_since is None or demand.cause is Cause.PRELOAD:
        return math.inf
    settled = resident.ready_since + policy.min_resident_seconds
    turn_over = max(settled, resident.ready_since + resident.load_seconds)
    if resident.standing is Standing.IDLE:
        return max(settled, min(turn_over, _batch_goes_on(resident)))
    if not policy.max_wait_for_busy_seconds or not demand.waiting:
        return math.inf
    wait = policy.max_wait_for_busy_seconds
    return max(turn_over, resident.ready_since + wait, demand.since + wait)


def stay_of(resident: Resident, policy: Policy, now: float) -> Stay:
    """Return why a resident does not go at once."""
    match resident.standing:
        case Standing.LEAVING:
            return Stay.LEAVING
        case _ if resident.pinned:
            return Stay.PINNED
        case Standing.BUSY:
            return Stay.BUSY
        case _ if resident.ready_since is None:
            return Stay.LOADING
        case _ if now < resident.ready_since + policy.min_resident_seconds:
            return Stay.JUST_LOADED
        case _ if now < min(resident.ready_since + resident.load_seconds, _batch_goes_on(resident)):
            return Stay.IN_USE
        case _:
            return Stay.IDLE


def _batch_goes_on(resident: Resident) -> float:
    """Return the moment until which the next request of a batch may be expected."""
    return resident.last_used + BATCH_GAP_SECONDS


def cost_of_absence(resident: Resident, now: float) -> float:
    """Return the expected cost of an eviction, in seconds of work for each second of absence.

    The work is the next load, which is the less likely the longer nobody has used the server. Each step of
    priority doubles the cost.
    """
    work = resident.load_seconds + EVICTION_SECONDS
    unused = max(0.0, now - resident.last_used) + RECENT_SECONDS
    doublings = max(-MOST_DOUBLINGS, min(MOST_DOUBLINGS, resident.priority))
    return work / unused * 2.0**doublings


def cheapest(candidates: Iterable[Candidate], lacking: Amounts) -> list[Candidate] | None:
    """Return the candidates that free all that is lacking at the least cost, busy ones last; None: none do.

    The better of two: the cheapest that is enough alone, and the cheapest for what they free, one after the
    other, without those that the others make needless.
    """
    useful = [each for each in candidates if lacking.keys() & each.share.keys()]
    alone = [[each] for each in useful if _frees([each], lacking)]
    together = _together(useful, lacking)
    return min([*alone, *([together] if together is not None else [])], key=_price, default=None)


def freed_by(candidates: Iterable[Candidate]) -> Counter[Thing]:
    """Return what candidates free together."""
    freed: Counter[Thing] = Counter()
    for each in candidates:
        freed.update(each.share)
    return freed


def _together(useful: Sequence[Candidate], lacking: Amounts) -> list[Candidate] | None:
    rest, left, chosen = dict(lacking), list(useful), list[Candidate]()
    while rest:
        if not left:
            return None
        best = min(left, key=lambda each: _price_for_worth(each, rest))
        left.remove(best)
        chosen.append(best)
        rest = {
            thing: amount - best.share.get(thing, 0)
            for thing, amount in rest.items()
            if amount > best.share.get(thing, 0)
        }
    for dear in sorted(chosen, key=lambda each: _price([each]), reverse=True):
        others = [each for each in chosen if each is not dear]
        if _frees(others, lacking):
            chosen = others
    return chosen


def _price_for_worth(candidate: Candidate, rest: Amounts) -> tuple[bool, float, str]:
    worth = sum(min(1.0, candidate.share.get(thing, 0) / amount) for thing, amount in rest.items())
    resident = candidate.resident
    return resident.requests > 0, candidate.cost / worth if worth else math.inf, resident.name


def _price(chosen: Sequence[Candidate]) -> tuple[int, float, int, list[str]]:
    requests = sum(each.resident.requests for each in chosen)
    cost = sum(each.cost for each in chosen)
    return requests, cost, len(chosen), sorted(each.resident.name for each in chosen)


def _frees(chosen: Sequence[Candidate], lacking: Amounts) -> bool:
    return not lack(lacking, freed_by(chosen))
