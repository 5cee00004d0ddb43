"""Memory of one process as it is seen: for its crash card, and for what others like it will need."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor_app.common.words import counted, noun
from supervisor_app.core.diagnosis.evidence import Trail
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.watch.peak import Peak

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.core.ports import Process
    from supervisor_app.core.sightings import MemorySample
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import Failure
    from supervisor_app.core.surroundings import Surroundings
    from supervisor_app.core.watch.watchdog import Activity

LOAD_LOOKS = (0.1, 0.5)
"""Seconds between two looks at the memory of a process that loads: the first `QUICK_LOOKS`, and later."""
QUICK_LOOKS = 20
PAGES_SECONDS = 0.5
"""Time from ready to the look at all that is mapped: the request that waited for it needs all cores."""


def serving(activity: Activity) -> str:
    """Say what the server was doing, for its crash card."""
    if not activity.answered:
        return "It did not say what it was doing."
    if not activity.busy:
        return "It was idle."
    slots = counted(activity.slots, "slot")
    verb = noun(activity.working, "was", "were")
    return f"{activity.working} of {slots} {verb} working on a request."


class Measured:
    """Samples and peak of one process, and the lessons that are handed on to the footprint of its launch."""

    def __init__(self, process: Process, around: Surroundings, *, teaches: bool) -> None:
        """`teaches`: the process is known to run its spec."""
        self.trail = Trail()
        self._process = process
        self._around = around
        self._teaches = teaches
        self._peak = Peak()

    def surveyed(self, used: Mapping[str, int]) -> None:
        """Note the bytes that the process was seen to use of each GPU."""
        self._peak.surveyed(used)

    async def look(self) -> MemorySample | None:
        """Sample the memory now."""
        sample = await self._process.sample()
        self._note(sample)
        return sample

    def looked(self, sample: MemorySample | None, activity: Activity) -> None:
        """Note a sample, and what the server did then."""
        self._note(sample)
        self.trail.serving = serving(activity)

    def _note(self, sample: MemorySample | None) -> None:
        self.trail.add(sample)
        self._peak.sampled(sample)

    # Lessons

    def told(self, spec: LaunchSpec, lines: Sequence[str]) -> None:
        """Hand on what the engine has said of memory until it was ready."""
        if self._teaches:
            self._around.footprints.told(self._around.name, spec, lines, self._process.identity)

    def worked(self, spec: LaunchSpec, activity: Activity) -> None:
        """Note whether the server works: one that never has shows less than it needs."""
        self._peak.worked = self._peak.worked or not activity.quiet
        self._teach(spec)

    def ended(self, spec: LaunchSpec, failure: Failure) -> None:
        """Hand on the last lesson of a process that has ended with this failure."""
        self._teach(spec, failure, ended=True)

    def _teach(self, spec: LaunchSpec, failure: Failure | None = None, *, ended: bool = False) -> None:
        """Hand on what the process has shown of the memory that it needs, if there is news."""
        if not self._teaches:
            return
        name, run = self._around.name, self._process.identity
        short_of = self._peak.short_of(failure.kind) if failure is not None else None
        if short_of is not None:
            self._around.footprints.learned(name, spec, short_of, out_of_memory=True, run=run)
        elif (news := self._peak.lesson(self._around.clock.monotonic(), ended=ended)) is not None:
            self._around.footprints.learned(name, spec, news, run=run)

    # Tasks

    async def follow_load(self) -> None:
        """Sample the memory while the model loads: most often that is when memory runs out."""
        clock = self._around.clock
        while not self._around.state().was_ready:
            with suppress(*CANNOT):
                await self.look()
            pause = LOAD_LOOKS[0] if len(self.trail.samples) < QUICK_LOOKS else LOAD_LOOKS[1]
            await clock.sleep_until(clock.monotonic() + pause)

    async def look_at_pages(self) -> None:
        """Look once at all that a process has mapped when it is ready."""
        clock = self._around.clock
        await clock.sleep_until(clock.monotonic() + PAGES_SECONDS)
        with suppress(*CANNOT):
            sample, mapped = await self._process.sample(), await self._process.mapped_bytes()
            self._peak.became_ready(clock.monotonic(), mapped, sample)
