"""Follow a process on its way to ready: how far its model is downloaded and loaded."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.watch.loading import LEAST_BYTES, LoadWatch

if TYPE_CHECKING:
    from supervisor_app.core.ports import Process
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import Progress
    from supervisor_app.core.surroundings import Surroundings

FETCH_SECONDS = 1.0


class LoadFollower:
    """Progress of one process, from its spawn or adoption until it is ready."""

    def __init__(self, process: Process, around: Surroundings, *, attempt: int, load: LoadWatch) -> None:
        self.since = around.clock.monotonic()
        """Moment of the spawn or adoption, in monotonic seconds."""
        self.progress: Progress | None = None
        """None while nothing is known of it."""
        self._process = process
        self._around = around
        self._attempt = attempt
        self._load = load

    async def follow_load(self, spec: LaunchSpec) -> None:
        """Report twice a second how far the model is loaded."""
        around, total = self._around, 0
        with suppress(*CANNOT):
            total = await around.processes.model_bytes(around.name, spec)
        while not around.state().was_ready and total >= LEAST_BYTES:
            await around.clock.sleep_until(around.clock.monotonic() + LoadWatch.INTERVAL)
            try:
                loaded = await self._process.resident_bytes()
            except CANNOT:
                continue
            state = around.state()
            if state.loading and state.phase is lifecycle.Phase.WAITING:
                elapsed = around.clock.monotonic() - self.since
                self.progress = self._load.progress(loaded, total, elapsed)
                around.log.info("%s", self._load.line(self.progress), extra={"transient": True})
                around.progressed()

    async def follow_download(self) -> None:
        """Report once a second whether the download gets on, until the model loads."""
        around, most = self._around, -1
        while not (around.state().was_ready or around.state().loading):
            with suppress(*CANNOT):
                fetched = await self._process.fetched()
                if fetched > most and around.state().phase is lifecycle.Phase.WAITING:
                    most = fetched
                    around.report(lifecycle.Fetching(self._attempt, fetched))
            await around.clock.sleep_until(around.clock.monotonic() + FETCH_SECONDS)
