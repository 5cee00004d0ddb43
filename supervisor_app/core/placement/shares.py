"""Things that servers share (memory of devices, places in node and group), and how much of each they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from supervisor_app.core.placement.reasons import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.placement.world import Demand, Policy, Resident, World


class Thing(NamedTuple):
    kind: Kind
    """Memory, or the limit of node or group."""
    name: str = ""
    """Name of the device or the group."""


Amounts = dict[Thing, int]
"""Bytes of memory; of a limit one place for each server."""


def capacity_of(world: World, policy: Policy) -> Amounts:
    """Return all that is limited, and to how much."""
    memory = {Thing(Kind.MEMORY, budget.device): budget.usable for budget in world.budgets}
    node = {Thing(Kind.NODE_LIMIT): policy.max_loaded}
    groups = {Thing(Kind.GROUP_LIMIT, group): limit for group, limit in policy.group_limits.items()}
    return memory | {thing: limit for thing, limit in (node | groups).items() if limit > 0}


def share_of(server: Resident | Demand, capacity: Amounts) -> Amounts:
    """Return what a server takes of all that is limited."""
    memory = {Thing(Kind.MEMORY, device): amount for device, amount in server.need.devices.items()}
    places = {Thing(Kind.NODE_LIMIT): 1, Thing(Kind.GROUP_LIMIT, server.group): 1}
    return {thing: amount for thing, amount in (memory | places).items() if amount > 0 and thing in capacity}


def lack(share: Amounts, free: Mapping[Thing, int]) -> Amounts:
    """Return by how much a share exceeds what is free; empty: it fits."""
    return {thing: amount - free[thing] for thing, amount in share.items() if amount > free[thing]}


class Ledger:
    """Free amounts, negative where more is taken than there is: strangers may have come."""

    def __init__(self, capacity: Amounts) -> None:
        self.free = dict(capacity)

    def take(self, share: Amounts) -> None:
        for thing, amount in share.items():
            self.free[thing] -= amount

    def give(self, share: Amounts) -> None:
        for thing, amount in share.items():
            self.free[thing] += amount
