"""Chores of a node beside its servers: logs are cut before they fill the disk, memory and GPUs looked at."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from supervisor_app.common.outage import Outage
from supervisor_app.core.beat import beat_after
from supervisor_app.core.shortage import CANNOT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.ports import Clock, Processes

log = logging.getLogger(__name__)

CHORES_SECONDS = 1.0
"""Interval between two cuts of a log that is flooded at 100 MB/s."""
SURVEY_SECONDS = 10.0
"""Interval between two looks at memory and GPUs while a server runs."""
IDLE_SURVEY_SECONDS = 60.0
"""Pause between surveys while no server runs."""


class Served(Protocol):
    """The supervisor of one server."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of its processes."""

    def surveyed(self, survey: Survey) -> None:
        """Note what each process was seen to use of each device."""


class LogCutter:
    """Cuts the log of one server, from now on, and says once that this fails."""

    def __init__(self, name: str, processes: Processes) -> None:
        self._name = name
        self._processes = processes
        self._outage = Outage(
            log,
            f"❌ [LOGS] The log of {name} was cut and could not be kept: {{reason}}",
            f"✅ [LOGS] The log of {name} is kept again",
            level=logging.ERROR,
        )
        self._cutting = self._begin()

    def _begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._cut(), name="trim")

    def again(self) -> None:
        """Cut the log once more, unless the last cut still runs: a disk that hangs must delay nobody."""
        if self._cutting.done():
            self._cutting = self._begin()

    async def _cut(self) -> None:
        try:
            if await self._processes.trim_log(self._name):
                self._outage.over()
        except CANNOT as error:
            self._outage.failed(error)

    def cancel(self) -> None:
        self._cutting.cancel()


class Chores:
    """Look after the logs and devices of a node, whatever its database does."""

    def __init__(
        self, processes: Processes, clock: Clock, servers: Callable[[], Mapping[str, Served]]
    ) -> None:
        """`servers`: those of the node, by name."""
        self._processes = processes
        self._clock = clock
        self._servers = servers
        self._cutters: dict[str, LogCutter] = {}
        """Cutters of logs that were ever too large."""
        self._surveyed_at = float("-inf")
        self._surveyed: list[int] = []
        """Pids of the servers that ran at the last look."""
        self._surveying: asyncio.Task[None] | None = None
        self._survey: Survey | None = None

    async def run(self) -> None:
        """Do the chores once a second, until cancelled."""
        while True:
            self._trim_logs()
            self._look()
            await self._clock.sleep_until(beat_after(self._clock.monotonic(), CHORES_SECONDS))

    def take_survey(self) -> Survey | None:
        """Return the devices as they were seen since this was asked last; None: nobody has looked."""
        survey, self._survey = self._survey, None
        return survey

    def forget(self, name: str) -> None:
        """Let go of the log of a server that does not exist any more."""
        cutter = self._cutters.pop(name, None)
        if cutter is not None:
            cutter.cancel()

    def close(self) -> None:
        """Cancel what is under way."""
        for cutter in self._cutters.values():
            cutter.cancel()
        if self._surveying is not None:
            self._surveying.cancel()

    def _trim_logs(self) -> None:
        for name in self._servers():
            if not self._processes.log_is_large(name):
                continue
            if name in self._cutters:
                self._cutters[name].again()
            else:
                self._cutters[name] = LogCutter(name, self._processes)

    def _look(self) -> None:
        """Look at memory and GPUs when that is due, or other processes run than at the last look.

        Not while the last look still waits for a driver.
        """
        if self._surveying is not None and not self._surveying.done():
            return
        pids = [pid for server in self._servers().values() for pid in server.pids]
        now, interval = self._clock.monotonic(), SURVEY_SECONDS if pids else IDLE_SURVEY_SECONDS
        if pids == self._surveyed and now < self._surveyed_at + interval:
            return
        self._surveyed_at, self._surveyed = now, pids
        self._surveying = asyncio.create_task(self._look_at_devices(pids), name="devices")

    async def _look_at_devices(self, pids: Collection[int]) -> None:
        with suppress(*CANNOT):  # for want of our own: the next time
            self._survey = survey = await self._processes.devices(pids)
            for server in self._servers().values():
                server.surveyed(survey)
