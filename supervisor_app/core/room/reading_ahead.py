"""Files of the model that is loaded next, read from its disk while others make room for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.shortage import CANNOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.placement.world import Need
    from supervisor_app.core.spec import LaunchSpec

    Read = Callable[[LaunchSpec, int], Awaitable[None]]
    """Reads the files of a launch, if they are no larger than so many bytes together."""


def room_for_files(survey: Survey, rules: MemoryRules, residents: Iterable[Need]) -> int:
    """Bytes of the host that files may take.

    The pages of models that servers have mapped count as free: what servers need and are not seen to use is
    left to them.
    """
    host = next((device for device in survey.devices if device.is_host), None)
    if host is None:
        return 0
    unseen = sum(need.devices.get(HOST, 0) for need in residents) - host.ours
    return max(0, host.free - rules.reserve(host.total) - max(0, unseen))


class ReadAhead:
    """Reads for those servers for which others make room at the moment."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._tasks: dict[LaunchSpec, asyncio.Task[None]] = {}

    def only(self, wanted: Mapping[str, LaunchSpec], room: Callable[[], int]) -> None:
        """Begin to read for those that are new, and end for those that are not wanted any more.

        `room`: bytes that files may take.
        """
        specs = set(wanted.values())
        for spec in [spec for spec in self._tasks if spec not in specs]:
            self._tasks.pop(spec).cancel()
        for spec in specs - self._tasks.keys():
            self._tasks[spec] = asyncio.create_task(self._quietly(spec, room()), name="read ahead")

    async def _quietly(self, spec: LaunchSpec, room: int) -> None:
        """A read that fails is nobody's error: the server reads its files itself."""
        with suppress(*CANNOT):
            await self._read(spec, room)
