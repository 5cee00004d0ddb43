"""Loads that run at the same time: a few for each device, and one alone where a need is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.placement.world import Source, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.core.placement.world import Need, Resident


@dataclass(frozen=True)
class Load:
    name: str
    need: Need
    begun: bool
    """False: its room is promised, and it begins next."""


class Loads:
    """Loads by their main device, so that a plan for hundreds of servers looks at few for each of them."""

    def __init__(self, residents: Iterable[Resident], limit: int) -> None:
        self.limit = max(1, limit)
        self._begun = _Lists()
        self._promised = _Lists()
        for resident in residents:
            if resident.standing is Standing.LOADING:
                self.add(resident.name, resident.need, begun=True)

    def add(self, name: str, need: Need, *, begun: bool) -> None:
        (self._begun if begun else self._promised).add(Load(name, need, begun))

    def queued(self, need: Need) -> int:
        """Return how many wait, before another one, for the same loads to end."""
        return len(self._promised.on(need))

    def before(self, need: Need, *, promised: bool = False) -> list[Load]:
        """Return the loads for which another one has to wait; empty: it may begin.

        `promised`: those whose room is only promised count, too. One whose need is not known always counts,
        because it has to find a moment in which nothing loads.
        """
        alone = [*self._begun.unknown, *self._promised.unknown]
        if _unknown(need):
            return [*self._begun.all, *(self._promised.all if promised else self._promised.unknown)]
        begun, later = self._begun.on(need), self._promised.on(need) if promised else []
        return alone or ([*begun, *later] if len(begun) + len(later) >= self.limit else [])


class _Lists:
    """Loads in their order: all, those of each main device, and those whose need is not known."""

    def __init__(self) -> None:
        self.all: list[Load] = []
        self.unknown: list[Load] = []
        self._by_device: dict[str | None, list[Load]] = {}

    def add(self, load: Load) -> None:
        self.all.append(load)
        self._by_device.setdefault(load.need.main, []).append(load)
        if _unknown(load.need):
            self.unknown.append(load)

    def on(self, need: Need) -> list[Load]:
        """Return those on the main device of a need."""
        return self._by_device.get(need.main, [])


def _unknown(need: Need) -> bool:
    return need.source is Source.UNKNOWN
