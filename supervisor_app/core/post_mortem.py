"""The post-mortem of a process: why it ended, what it wrote last, and what it had used."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.diagnose import Diagnosis, diagnose
from supervisor_app.core.diagnosis.evidence import ExitReport, Trail, blame
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.sightings import Autopsy, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervisor_app.core.diagnosis.named_files import BadFile
    from supervisor_app.core.ports import Clock, Process
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import Failure
    from supervisor_app.core.surroundings import Surroundings

LAST_LINES = 50
"""Lines kept of the output of each run."""
DIAGNOSIS_LINES = 400
"""Lines read to find the decisive one: a failed assertion is followed by a backtrace of hundreds."""
TRIES = 5
"""Tries to find out why a process ended, while our own process is short of something."""
PAUSE_SECONDS = 1.0
T = TypeVar("T")


async def insist(look: Callable[[], Coroutine[None, None, T]], clock: Clock, *, without: T) -> T:
    """Return what the look finds; `without`, if we are short of something for several seconds."""
    for _ in range(TRIES):
        try:
            return await look()
        except CANNOT:
            await clock.sleep_until(clock.monotonic() + PAUSE_SECONDS)
    return without


@dataclass(frozen=True, kw_only=True)
class PostMortem:
    """Looks at a process that has ended, before its traces are gone."""

    process: Process
    around: Surroundings
    spec: LaunchSpec
    trail: Trail
    adopted: bool
    taken_over: bool
    healthy: tuple[int, int] | None
    """Positions in its log at which the last two good health checks began; None: it has never been ready."""
    at: float
    """Unix seconds at which its end was seen."""

    async def examine(self, ended: Exit) -> tuple[Failure, ExitReport]:
        """Find out why the process ended."""
        around, clock = self.around, self.around.clock
        # At once: while a flood keeps our threads waiting, each look waits anew.
        last_lines, (found, before_end), autopsy, _ = await asyncio.gather(
            insist(lambda: self.process.last_lines(LAST_LINES), clock, without=list[str]()),
            self._diagnose(ended),
            insist(self.process.autopsy, clock, without=Autopsy()),
            self._end_rest(),
        )
        failure = found.failure
        if not (found.decisive and self._ended_by_us):
            failure = blame(failure, ended, self.trail.last, autopsy)
        evidence = self.trail.evidence(
            failure,
            autopsy,
            at=self.at,
            decisive=found.decisive.text if found.decisive else "",
            decisive_at=len(last_lines) - before_end if 0 < before_end <= len(last_lines) else None,
            models=tuple(model.id for model in around.state().models),
        )
        return failure, ExitReport(last_lines=tuple(last_lines), evidence=evidence, at=self.at)

    @property
    def _ended_by_us(self) -> bool:
        return self.around.state().phase is lifecycle.Phase.ENDING

    async def _end_rest(self) -> None:
        """End what the process has started, unless it was adopted: then nothing of that is ours."""
        if not self.adopted:
            around = self.around
            only = self.process.identity if around.shares_log() else None
            await insist(lambda: around.processes.end_rest(around.name, only), around.clock, without=None)

    async def _diagnose(self, ended: Exit) -> tuple[Diagnosis, int]:
        """Find the cause, and how many lines from the end the decisive one is; 0 when there is none.

        A check may still be answered while the process is coming down: what was written since the check
        before the last counts.
        """
        around, clock = self.around, self.around.clock
        was_ready = self.taken_over or around.state().was_ready
        since = self.healthy[0] if was_ready and self.healthy is not None else None
        lines: list[str] = await insist(
            lambda: self.process.last_lines(DIAGNOSIS_LINES, since), clock, without=[]
        )
        bad: list[BadFile] = []
        if ended.code and not was_ready:
            bad = await insist(lambda: around.processes.bad_files(around.name, self.spec), clock, without=bad)
        # Our own signal tells nothing of why the process was silent; perhaps its log does.
        how = Exit() if self._ended_by_us else ended
        found = diagnose(how, lines, was_ready=was_ready, spec=self.spec, files=bad)
        return found, len(lines) - found.decisive.number if found.decisive else 0
