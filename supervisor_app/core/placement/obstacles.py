"""Reasons of a plan: which thing is missing, who has it, and which flags would help."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.core.placement.leaving import stay_of
from supervisor_app.core.placement.reasons import Holder, Kind, Reason, Stay
from supervisor_app.core.placement.shares import Thing, share_of
from supervisor_app.core.placement.world import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.core.placement.draft import Draft, Promise
    from supervisor_app.core.placement.loads import Load
    from supervisor_app.core.placement.shares import Amounts, Ledger
    from supervisor_app.core.placement.world import Budget, Demand, Resident

STAYING_FIRST: list[Stay | None] = list(Stay)
"""Order in which holders are told: those that stay longest first."""


def too_large(draft: Draft, demand: Demand, share: Amounts, missing: Amounts) -> Reason:
    """Return why a demand never fits."""
    return _of_thing(draft, demand, _worst(share, missing), draft.most, ())


def no_room(
    draft: Draft, demand: Demand, share: Amounts, missing: Amounts, first: Sequence[Promise]
) -> Reason:
    """Return why a demand does not fit now. `first`: promises to others, if these are what is in the way."""
    return _of_thing(draft, demand, _worst(share, missing), draft.free, first)


def others_load(demand: Demand, before: Iterable[Load], limit: int) -> Reason:
    """Return that it waits for its turn. `before`: loads to be named, which only those next in line have.

    For all others the sentence stays the same with each load that ends: it is saved and pushed for each.
    """
    holders = (
        Holder(name=load.name, bytes=0, stay=Stay.LOADING if load.begun else Stay.FIRST) for load in before
    )
    in_order = tuple(sorted(holders, key=_turn))
    return Reason(kind=Kind.LOADS, name=demand.name, holders=in_order, limit=limit)


def _turn(holder: Holder) -> tuple[int, str]:
    """Sort those that load by name, and before those whose turn comes, which are in their order already."""
    return _order(holder), holder.name if holder.stay is Stay.LOADING else ""


def _order(holder: Holder) -> int:
    return STAYING_FIRST.index(holder.stay)


def last_process(demand: Demand) -> Reason:
    return Reason(kind=Kind.STILL_HERE, name=demand.name)


def doubt(draft: Draft, demand: Demand, share: Amounts) -> Reason | None:
    """Return what people should know of a start whose need is not sure."""
    if demand.need.source is Source.UNKNOWN:
        return Reason(kind=Kind.UNKNOWN_NEED, name=demand.name)
    for thing, amount in share_of(demand, draft.capacity).items():
        if amount > share.get(thing, 0):
            return replace(_memory(draft, demand, thing), kind=Kind.DOUBTED, usable=share.get(thing, 0))
    return None


def _worst(share: Amounts, missing: Amounts) -> Thing:
    """Return the thing of whose share the greatest part is missing; memory before limits."""
    return max(missing, key=lambda thing: (thing.kind is Kind.MEMORY, missing[thing] / share[thing], thing))


def _of_thing(draft: Draft, demand: Demand, thing: Thing, room: Ledger, first: Sequence[Promise]) -> Reason:
    holders = (*_residents(draft, thing), *_kept(thing, first, Stay.FIRST))
    if thing.kind is not Kind.MEMORY:
        limit = draft.capacity[thing]
        return Reason(kind=thing.kind, name=demand.name, holders=holders, limit=limit, group=thing.name)
    reason = _memory(draft, demand, thing)
    reserve = _budget(draft, thing).reserve
    flags, with_flags = _remedy(demand, thing, room)
    return replace(
        reason,
        holders=holders,
        reserve=reserve if reason.needed <= room.free[thing] + reserve else 0,
        remedy=flags,
        remedy_needed=with_flags,
    )


def _memory(draft: Draft, demand: Demand, thing: Thing) -> Reason:
    budget = _budget(draft, thing)
    return Reason(
        kind=Kind.MEMORY,
        name=demand.name,
        device=budget.device,
        device_name=budget.name,
        needed=demand.need.devices[thing.name],
        estimated=demand.need.source is Source.ESTIMATED,
        free=max(0, draft.free.free[thing]),
        strangers=budget.strangers,
        allowed=budget.total if budget.is_set else 0,
    )


def _budget(draft: Draft, thing: Thing) -> Budget:
    return next(each for each in draft.world.budgets if each.device == thing.name)


def _remedy(demand: Demand, thing: Thing, room: Ledger) -> tuple[str, int]:
    """Return the mildest flags with which a demand would fit, and the bytes that it takes then."""
    for remedy in demand.need.remedies:
        devices = {Thing(Kind.MEMORY, device): amount for device, amount in remedy.devices.items()}
        if all(amount <= room.free.get(device, amount) for device, amount in devices.items()):
            return remedy.flags, devices.get(thing, 0)
    return "", 0


def _residents(draft: Draft, thing: Thing) -> list[Holder]:
    holders = [*_here(draft, thing), *_kept(thing, draft.started, Stay.LOADING)]
    return sorted(holders, key=lambda each: (_order(each), -each.bytes, each.name))


def _here(draft: Draft, thing: Thing) -> list[Holder]:
    return [
        Holder(
            name=resident.name,
            bytes=_bytes(thing, draft.shares[resident.name]),
            stay=_stay(draft, resident),
            requests=resident.requests,
        )
        for resident in draft.world.residents
        if thing in draft.shares[resident.name]
    ]


def _kept(thing: Thing, promises: Sequence[Promise], stay: Stay) -> list[Holder]:
    return [
        Holder(name=promise.demand.name, bytes=_bytes(thing, promise.share), stay=stay)
        for promise in promises
        if thing in promise.share
    ]


def _stay(draft: Draft, resident: Resident) -> Stay:
    if resident.name in draft.evicted:
        return Stay.LEAVING
    return stay_of(resident, draft.policy, draft.now)


def _bytes(thing: Thing, share: Amounts) -> int:
    return share[thing] if thing.kind is Kind.MEMORY else 0
