"""The table `[memory]` of `llamaproxy.toml`: the rules by which room is made on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from supervisor_app.core.devices import HOST
from supervisor_app.core.memory_rules import (
    LEAST_LOADS,
    LOADS_ON_DEVICE,
    MEMORY_SETTINGS,
    MemoryRules,
)
from supervisor_app.core.setting import LARGEST, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.core.setting import Setting

TABLE = "memory"
BUDGET, GROUPS = "budget_mb", "groups"
KEYS = {setting.key: setting for setting in MEMORY_SETTINGS}


class Complaints(Protocol):
    """Takes mistakes, each at a key."""

    def wrong(self, key: tuple[str, ...], value: Any, remedy: str) -> None:
        """Note a value that cannot be used."""

    def unknown(self, key: tuple[str, ...], known: tuple[str, ...]) -> None:
        """Note a key that there is not."""


def read_memory(table: dict[str, Any], complaints: Complaints) -> MemoryRules:
    """Read the table; what is wrong is left out and complained of."""
    said: dict[str, Any] = {}
    for key, value in table.items():
        at = (TABLE, key)
        if key == BUDGET:
            budget = value if isinstance(value, dict) else {HOST: value}
            said[BUDGET] = dict(_amounts(at, budget, complaints, least=1, nested=isinstance(value, dict)))
        elif key == GROUPS and isinstance(value, dict):
            said[GROUPS] = dict(_amounts(at, value, complaints, least=0, nested=True))
        elif key == GROUPS:
            complaints.wrong(at, value, "a table of group = how many may be loaded at once")
        elif key not in KEYS:
            complaints.unknown(at, tuple(sorted({*KEYS, BUDGET, GROUPS})))
        elif KEYS[key].kind is Kind.SWITCH and not Kind.SWITCH.fits(value):
            complaints.wrong(at, value, Kind.SWITCH.words)
        elif KEYS[key].kind is Kind.SWITCH or fits(value, KEYS[key].least, KEYS[key].most):
            said[key] = value
        else:
            complaints.wrong(at, value, f"a whole number of {bounds(KEYS[key])}")
    return MemoryRules(**said)


def _amounts(
    at: tuple[str, ...], table: dict[str, Any], complaints: Complaints, *, least: int, nested: bool
) -> Iterator[tuple[str, int]]:
    for name, value in table.items():
        if fits(value, least, LARGEST):
            yield name, value
        else:
            complaints.wrong((*at, name) if nested else at, value, f"a whole number of at least {least}")


def fits(value: Any, least: int, most: int) -> bool:
    """Tell whether a value is a whole number within bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def bounds(setting: Setting) -> str:
    """Return the bounds of a number in words."""
    return f"at least {setting.least}" if setting.most == LARGEST else f"{setting.least} to {setting.most}"


def memory_lines(rules: MemoryRules) -> dict[str, str]:
    """Return each key with its value in words, those of the tables by their whole names."""
    plain = {key: getattr(rules, key) for key in KEYS}
    plain["reserve_mb"] = "5 %, at least 512" if rules.reserve_mb is None else rules.reserve_mb
    plain["make_room"] = "true" if rules.make_room else "false"
    if rules.parallel_loads is None:
        other = f"one for each CPU, at least {LEAST_LOADS}"
        plain["parallel_loads"] = f"{LOADS_ON_DEVICE} on each device" if rules.make_room else other
    budgets = {f"{BUDGET}.{name}": value for name, value in rules.budget_mb.items()}
    groups = {f"{GROUPS}.{name}": value for name, value in rules.groups.items()}
    return {key: str(value) for key, value in {**plain, **budgets, **groups}.items()}
