"""Looks at the machine, shared by all who ask for one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from supervisor_app.core.devices import Survey
from supervisor_app.core.shortage import CANNOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from supervisor_app.core.ports import Clock


class Looks:
    """Takes one look at a time. A device that cannot be seen limits nothing."""

    def __init__(self, clock: Clock, look: Callable[[], Awaitable[Survey]]) -> None:
        self.seen = Survey()
        """Result of the last look."""
        self._clock = clock
        self._look = look
        self._began = -inf
        """Begin of the look that found it."""
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None]:
        """Look now, unless somebody does: the answer will be asked for soon."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._run(), name="look at the machine")
        return self._looking

    async def since(self, moment: float) -> Survey:
        """Return what was seen by a look that began then or later."""
        while self._began < moment:
            await asyncio.shield(self.begin())
        return self.seen

    async def _run(self) -> None:
        began, found = self._clock.monotonic(), Survey()
        with suppress(*CANNOT):
            found = await self._look()
        self.seen, self._began = found, began

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
