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
    def __init__(self, residents: Iterable[Resident], limit: int) -> None:
        self.limit = max(1, limit)
        self._loads = [
            Load(resident.name, resident.need, begun=True)
            for resident in residents
            if resident.standing is Standing.LOADING
        ]

    def add(self, name: str, need: Need, *, begun: bool) -> None:
        self._loads.append(Load(name, need, begun))

    def queued(self, need: Need) -> int:
        """Return how many wait, before another one, for the same loads to end."""
        return sum(not load.begun and load.need.main == need.main for load in self._loads)

    def before(self, need: Need, *, promised: bool = False) -> list[Load]:
        """Return the loads for which another one has to wait; empty: it may begin.

        `promised`: those whose room is only promised count, too. One whose need is not known always counts,
        because it has to find a moment in which nothing loads.
        """
        running = [load for load in self._loads if load.begun or promised or _unknown(load.need)]
        if _unknown(need):
            return running
        alone = [load for load in running if _unknown(load.need)]
        beside = [load for load in running if load.need.main == need.main]
        return alone or (beside if len(beside) >= self.limit else [])


def _unknown(need: Need) -> bool:
    return need.source is Source.UNKNOWN
