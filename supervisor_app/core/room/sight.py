"""The machine as decisions about room see it: its memory, needs of servers, and whose process has gone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from supervisor_app.core.room.budgets import unknown_devices
from supervisor_app.core.room.looks import Looks
from supervisor_app.core.room.returning import Returning
from supervisor_app.core.room.tenants import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.placement.world import Need
    from supervisor_app.core.ports import Clock, Footprints
    from supervisor_app.core.room.tenants import Tenant
    from supervisor_app.core.spec import LaunchSpec

log = logging.getLogger(__name__)

GLANCE_SECONDS = 0.25
"""Age of a look at the machine that will do for a decision, unless a process has gone since.

Then a new look shows whether the memory of that process is back.
"""
NEED_SECONDS = 2.0
"""Time for an answer to what one server needs: a disk that hangs must hold up no other server."""


class Sight:
    """Remembers what was seen last, for when the machine does not answer."""

    def __init__(
        self,
        *,
        clock: Clock,
        footprints: Footprints,
        look: Callable[[Collection[int]], Awaitable[Survey]],
        tenants: Callable[[], Mapping[str, Tenant]],
    ) -> None:
        """`look` at the machine, whose servers have these pids."""
        self.looks = Looks(clock, lambda: look([pid for each in tenants().values() for pid in each.pids]))
        self.needs: dict[str, Need] = {}
        """Server -> its need as it was known last."""
        self.returning = Returning()
        self._clock = clock
        self._footprints = footprints
        self._here: frozenset[str] = frozenset()
        """Servers that had memory at the last look."""
        self._left_at = -inf
        """Moment at which a process was last seen to have gone."""
        self._complaints: frozenset[str] = frozenset()

    def saw_all(self, names: Iterable[str]) -> bool:
        """Had these servers memory at the last look?"""
        return self._here.issuperset(names)

    def note_departures(self, with_memory: Iterable[str]) -> None:
        """See whose process has gone since the last look."""
        now, here = self._clock.monotonic(), frozenset(with_memory)
        for name in self._here - here:
            self._left_at = now
            self.returning.left(name, self.needs.get(name, UNKNOWN).devices, now)
        self._here = here

    def since_when(self) -> float:
        """Return when the look at the machine must have begun by which is decided now."""
        now = self._clock.monotonic()
        return now if self.returning.is_awaited else max(self._left_at, now - GLANCE_SECONDS)

    async def survey(self, since: float, rules: MemoryRules | None) -> Survey:
        """Return a look that began then or later, and say once which devices of the rules are missing."""
        survey = await self.looks.since(since)
        self._complain(survey, {} if rules is None else rules.budget_mb)
        return survey

    def _complain(self, survey: Survey, budgets: Mapping[str, int]) -> None:
        missing = frozenset(unknown_devices(budgets, survey))
        for name in sorted(missing - self._complaints):
            there = ", ".join(device.name for device in survey.devices) or "none"
            log.warning(
                "⚠️ [MEMORY] budget_mb names %s, and there is no such device. There are: %s", name, there
            )
        self._complaints = missing

    async def read_needs(self, tenants: Mapping[str, Tenant]) -> dict[str, Need]:
        """Read what servers need, all at once: where a disk hangs, what was known last must do."""
        await asyncio.gather(*(self._read_need(name, tenant) for name, tenant in tenants.items()))
        return self.needs

    async def _read_need(self, name: str, tenant: Tenant) -> None:
        found = await self.need(name, tenant.config.spec)
        if found is not None:
            self.needs[name] = found
        self.needs.setdefault(name, UNKNOWN)

    async def need(self, name: str, spec: LaunchSpec) -> Need | None:
        """Return what a server needs to run so; None where that takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(NEED_SECONDS):
                return await self._footprints.need(name, spec)
        return None
