"""A plan while it is made: what is free, what is promised, and to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.placement.decisions import Evict
from supervisor_app.core.placement.leaving import Candidate, cost_of_absence, may_go_at
from supervisor_app.core.placement.loads import Loads
from supervisor_app.core.placement.reasons import Kind
from supervisor_app.core.placement.shares import Amounts, Ledger, Thing, capacity_of, share_of
from supervisor_app.core.placement.world import Cause, Source, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from supervisor_app.core.placement.decisions import Decision
    from supervisor_app.core.placement.world import Demand, Policy, Resident, World

DOUBT = 1.2
"""An estimate may be so many times too high; beyond that it is believed."""
SOON_SECONDS = 30.0
"""Room that can be had by then is kept for the demand that waits for it. For later room nobody else waits."""


@dataclass(frozen=True)
class Promise:
    """Room that is kept for a demand until it can start."""

    demand: Demand
    share: Amounts


class Draft:
    def __init__(self, world: World, policy: Policy, now: float) -> None:
        self.world, self.policy, self.now = world, policy, now
        self.residents = {resident.name: resident for resident in world.residents}
        self.capacity = capacity_of(world, policy)
        self.shares = {resident.name: share_of(resident, self.capacity) for resident in world.residents}
        self.most = Ledger(self.capacity)
        """Left by those that never go."""
        self.free = Ledger(self.capacity)
        """Left by all that are there, those that leave included."""
        self.later = Ledger(self.capacity)
        """Left by those that stay, and by promises."""
        self.loads = Loads(world.residents, policy.parallel_loads)
        self.promises: list[Promise] = []
        self.started: list[Promise] = []
        """Servers that start by this plan: they hold their room already."""
        self.evicted: set[str] = set()
        self.decisions: list[Decision] = []
        self.moments: set[float] = set()
        self._going = {each.name for each in world.residents if each.standing is Standing.LEAVING}
        """Servers that cannot be evicted any more: leaving, evicted, or promised to somebody."""
        for resident in world.residents:
            self._count(resident)

    def _count(self, resident: Resident) -> None:
        share = self.shares[resident.name]
        self.free.take(share)
        if resident.name not in self._going:
            self.later.take(share)
            if resident.pinned:
                self.most.take(share)

    def wanted(self, demand: Demand) -> Amounts:
        """Return what a demand is to have: all that can ever be free, where it may need less than it says."""
        share = share_of(demand, self.capacity)
        if demand.need.source is not Source.ESTIMATED and not demand.need.shrinks:
            return share
        capped = {
            thing: min(amount, self.most.free[thing]) if self._may_be_less(demand, thing, amount) else amount
            for thing, amount in share.items()
        }
        return {thing: amount for thing, amount in capped.items() if amount > 0}

    def _may_be_less(self, demand: Demand, thing: Thing, amount: int) -> bool:
        memory = thing.kind is Kind.MEMORY
        return memory and (demand.need.shrinks or amount <= self.most.free[thing] * DOUBT)

    def may_go(self, demand: Demand) -> list[Candidate]:
        """Return those that may go for a demand now."""
        return self._candidates(each for each in self._others() if self._goes_at(each, demand) <= self.now)

    def may_go_soon(self, demand: Demand) -> list[Candidate]:
        """Return those that may go for a demand now or soon: a load takes its time, and ends."""
        until = self.now + SOON_SECONDS
        return self._candidates(
            each for each in self._others() if _loads(each, demand) or self._goes_at(each, demand) <= until
        )

    def _others(self) -> Iterator[Resident]:
        return (each for each in self.world.residents if each.name not in self._going)

    def _candidates(self, residents: Iterable[Resident]) -> list[Candidate]:
        return [
            Candidate(each, self.shares[each.name], cost_of_absence(each, self.now)) for each in residents
        ]

    def _goes_at(self, resident: Resident, demand: Demand) -> float:
        """Return when a resident may go, and remember that the plan may change then."""
        moment = may_go_at(resident, demand, self.policy)
        if self.now < moment < math.inf:
            self.moments.add(moment)
        return moment

    def evict(self, chosen: Sequence[Candidate], demand: Demand) -> None:
        for candidate in chosen:
            self.evicted.add(candidate.resident.name)
            self.decisions.append(Evict(candidate.resident.name, demand.name))
        self.count_on(chosen)

    def count_on(self, chosen: Sequence[Candidate]) -> None:
        """Take the room of some residents as free later; nobody else can have it."""
        for candidate in chosen:
            self._going.add(candidate.resident.name)
            self.later.give(candidate.share)

    def start(self, demand: Demand, share: Amounts) -> None:
        self.free.take(share)
        self.later.take(share)
        self.loads.add(demand.name, demand.need, begun=True)
        self.started.append(Promise(demand, share))

    def promise(self, demand: Demand, share: Amounts) -> None:
        self.later.take(share)
        self.promises.append(Promise(demand, share))


def _loads(resident: Resident, demand: Demand) -> bool:
    """Return whether it will be there to be evicted once it is ready."""
    loading = resident.standing is Standing.LOADING and not resident.pinned
    return loading and demand.cause is not Cause.PRELOAD
