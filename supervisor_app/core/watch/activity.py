"""Looks whether a server works: first from outside, and only with reason at its slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.sightings import ProcessUsage
from supervisor_app.core.watch.watchdog import Activity

if TYPE_CHECKING:
    from supervisor_app.core.ports import Probe
    from supervisor_app.core.spec import LaunchSpec

IDLE_CPU = 0.02
"""Cores in use below which nobody has asked for anything; answering /health takes less."""


class WorkMeter:
    """Remembers what one process had used at the last look."""

    def __init__(self) -> None:
        self._usage = ProcessUsage()
        self._looked_at = 0.0

    async def look(
        self,
        usage: ProcessUsage,
        probe: Probe,
        spec: LaunchSpec,
        *,
        busy: bool,
        ask: bool,
        timeout: float,  # noqa: ASYNC109
        now: float,
    ) -> Activity:
        """`usage`: of the process, at `now`. `busy`: it was at the last look.

        `timeout` and `now` (monotonic) in seconds.

        A server that neither computes nor has a client is not asked: /slots would wake a sleeping one. Nor
        is one without `ask`: nobody wants to know.
        """
        elapsed = now - self._looked_at
        cores = max(0.0, usage.cpu_seconds - self._usage.cpu_seconds) / elapsed if elapsed > 0 else 0.0
        self._usage, self._looked_at = usage, now
        computing = cores >= IDLE_CPU
        if not ask or not (busy or computing or usage.connections):
            return Activity(cores=cores)
        slots = await probe.slots(spec, timeout, may_wake=busy or computing)
        return Activity(
            busy=slots.busy,
            mark=slots.mark,
            answered=slots.answered,
            signs=computing or (usage.connections > 0 and not slots.total),
            cores=cores,
            working=slots.working,
            slots=slots.total,
            each=slots.each,
        )
