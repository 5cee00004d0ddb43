"""A supervised llama-server that is to die, and the row that it leaves."""

from __future__ import annotations

import asyncio
import shutil

from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.status import Status
from supervisor_app.core.testing import FakeContexts, FakeFootprints, RecordingPublisher
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.models import Run
from supervisor_app.fleet.store import OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_server
from tests.ports import free_port

ENGINE = shutil.which("llama-server") or ""
PADDING_MB = 512
"""Half a second to load: time to do it harm meanwhile."""


class Ward:
    """A supervisor of one server that gets no second chance: the run it leaves is the one to look at."""

    def __init__(self, folder) -> None:
        self.command = (ENGINE,)
        self.publisher = RecordingPublisher()
        self.log_dir = folder / "logs"
        self._store = OrmStore(
            node="ward",
            overlay=Overlay,
            command=lambda: self.command,
            lease=Lease("ward"),
            hooks=STORE_HOOKS,
        )
        self._probe = HttpProbe()
        self._supervisor = NodeSupervisor(
            store=self._store,
            publisher=self.publisher,
            processes=LocalProcesses(log_dir=self.log_dir),
            probe=self._probe,
            clock=SystemClock(),
            footprints=FakeFootprints(),
            contexts=FakeContexts(),
        )
        self._task: asyncio.Task[None] | None = None
        self.port = free_port()

    async def admit(self, model, *args, threads=True, **fields):
        args = [*(["-t", "1"] if threads else []), *args]
        # Open, so that tests may ask it for what kills it.
        fields = {"max_retries": 0, "stop_grace_ms": 500, "api_key": "", **fields}
        await db(make_server, node="ward", model_path=str(model), port=self.port, args=args, **fields)
        self._task = asyncio.create_task(self._supervisor.run())

    @property
    def seen(self):
        """Return the status as pages saw it last."""
        return self.publisher.snapshots[-1] if self.publisher.snapshots else None

    @property
    def slots_at_work(self) -> int:
        """Return how many slots worked when the watchdog looked last."""
        return sum(slot.works for vitals in self._supervisor.vitals().values() for slot in vitals.slots)

    async def until(self, condition) -> None:
        await eventually(lambda: self._task.done() or (self.seen and condition(self.seen)), DEADLINE)
        assert not self._task.done(), self._task.exception()

    async def until_ready(self) -> int:
        """The pid."""
        await self.until(lambda seen: seen.status is Status.READY)
        return self.seen.pid

    async def until_loading(self) -> int:
        await self.until(lambda seen: seen.pid and seen.detail == "Loading the model.")
        return self.seen.pid

    async def funeral(self) -> Run:
        """Wait until the supervisor has given up, and return the row of the run."""
        await self.until(lambda seen: seen.status is Status.ERROR)
        rows = await db(lambda: list(Run.objects.exclude(ended_at=None)))
        while not rows:  # pages are told a blink before, when the database is slow
            await asyncio.sleep(0.01)
            rows = await db(lambda: list(Run.objects.exclude(ended_at=None)))
        return rows[0]

    async def dies(self, model, *args, **more) -> Run:
        await self.admit(model, *args, **more)
        return await self.funeral()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._supervisor.shutdown()
        self._probe.close()
        self._store.close()


def assert_died(run, kind, title, decisive, *, code=1, sig=None):
    """`decisive` is in the detail, in the evidence and among the last lines."""
    assert (run.exit_code, run.signal) == (code, sig)
    assert (run.failure_kind, run.failure_title) == (kind, title)
    assert run.failure_hint
    if decisive:
        assert decisive in run.evidence["decisive"]
        assert decisive in run.last_lines
