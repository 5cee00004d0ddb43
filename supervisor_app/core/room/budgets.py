"""Budgets of the devices: what servers may share of each, by a look at the machine and by rules. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.memory_rules import LOADS_ON_DEVICE, MemoryRules
from supervisor_app.core.placement.world import Budget, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from supervisor_app.core.devices import Device, Survey
    from supervisor_app.core.placement.world import Resident


THE_HOST = "the host"


def policy_of(rules: MemoryRules | None) -> Policy:
    """Return the planner's part of the rules."""
    rules = rules or MemoryRules()
    return Policy(
        min_resident_seconds=rules.min_resident_seconds,
        max_wait_for_busy_seconds=rules.max_wait_for_busy_seconds,
        max_loaded=rules.max_loaded,
        group_limits={group: limit for group, limit in rules.groups.items() if limit},
        parallel_loads=rules.parallel_loads or LOADS_ON_DEVICE,
    )


def budgets_of(survey: Survey, rules: MemoryRules, residents: Sequence[Resident]) -> tuple[Budget, ...]:
    """Return a budget for each device that was seen. A budget that people set needs no look at the host."""
    found = tuple(_budget(device, rules, residents) for device in survey.devices)
    if HOST in rules.budget_mb and not any(device.is_host for device in survey.devices):
        return (_allowed(HOST, THE_HOST, rules.budget_mb[HOST]), *found)
    return found


def _budget(device: Device, rules: MemoryRules, residents: Iterable[Resident]) -> Budget:
    """Return what is left to servers, and no more than people allow.

    Memory that our servers use beyond what they are known to need counts as used by strangers.
    """
    known = sum(resident.need.devices.get(device.id, 0) for resident in residents)
    name = THE_HOST if device.is_host else device.name.partition(":")[0]
    measured = Budget(
        device=device.id,
        name=name,
        total=device.total,
        reserve=rules.reserve(device.total),
        strangers=device.strangers + max(0, device.ours - known),
    )
    allowed = next((rules.budget_mb[key] for key in names_of(device) if key in rules.budget_mb), None)
    if allowed is None or allowed * 2**20 >= measured.usable:
        return measured
    return _allowed(device.id, name, allowed)


def _allowed(device: str, name: str, megabytes: int) -> Budget:
    return Budget(device=device, name=name, total=megabytes * 2**20, reserve=0, strangers=0, is_set=True)


def names_of(device: Device) -> tuple[str, ...]:
    """Return the names by which people may call a device: `GPU-5f…`, `GPU 0: NVIDIA RTX 4090`, `GPU 0`."""
    return device.id, device.name, device.name.partition(":")[0]


def unknown_devices(budget_mb: Mapping[str, int], survey: Survey) -> Iterator[str]:
    """Yield the names of devices that people set a budget for, and that are not there."""
    known = {HOST, *(name for device in survey.devices for name in names_of(device))}
    return (name for name in budget_mb if name not in known)
