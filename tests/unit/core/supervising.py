"""The supervisor of a server on a fake machine and a fake clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from supervisor_app.core.changes import Remembered, RunClosed
from supervisor_app.core.recorder import Recorder
from supervisor_app.core.sightings import Identity, MemorySample, Slots
from supervisor_app.core.supervisor import ServerSupervisor
from supervisor_app.core.testing import (
    FakeClock,
    FakeContexts,
    FakeFootprints,
    FakeProbe,
    FakeProcesses,
    FakeRoom,
    InMemoryStore,
    RecordingPublisher,
    make_config,
)

SURVIVOR = Identity(pid=77, start=5, boot_id="boot")
GIB = 1024**3
WORKING = Slots(answered=True, busy=True, mark=1, working=2, total=4)


class Bench:
    """A supervisor and the machine it runs on."""

    def __init__(self, config, remembered, machine=FakeProcesses, probe=FakeProbe) -> None:
        self.clock = FakeClock()
        self.processes = machine(self.clock)
        self.probe = probe()
        self.store = InMemoryStore()
        self.publisher = RecordingPublisher()
        self.footprints = FakeFootprints()
        self.contexts = FakeContexts()
        self.room = FakeRoom()
        self.ports: set[int] = set()
        self.recorder = Recorder(store=self.store, publisher=self.publisher, clock=self.clock)
        self.supervisor = ServerSupervisor(
            config,
            remembered,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            footprints=self.footprints,
            contexts=self.contexts,
            recorder=self.recorder,
            room=self.room,
            turns=self.store,
            ports=self.ports,
        )

    @property
    def status(self):
        return self.supervisor.snapshot

    @property
    def words(self) -> list[str]:
        """Statuses in the order in which pages saw them."""
        seen = [snapshot.status.value for snapshot in self.publisher.snapshots]
        return [word for index, word in enumerate(seen) if index == 0 or word != seen[index - 1]]

    @property
    def history(self):
        return [event for change in self.store.changes for event in change.run_events]

    async def crash_and_recover(self) -> None:
        self.processes.last.die(signal=9)
        await self.clock.advance(90)


@asynccontextmanager
async def bench(config=None, remembered=None, *, prepare=None, machine=FakeProcesses, probe=FakeProbe):
    built = Bench(config or make_config(), remembered or Remembered(), machine, probe)
    if prepare:
        prepare(built)
    tasks = [asyncio.create_task(built.supervisor.run()), asyncio.create_task(built.recorder.run())]
    await built.clock.advance(1)
    try:
        yield built
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def uses(b, gib: float) -> None:
    b.processes.last.memory = MemorySample(
        at=b.clock.time(), anon=int(gib * GIB), host_total=16 * GIB, host_available=GIB
    )


def closed(b) -> RunClosed:
    return [event for event in b.history if isinstance(event, RunClosed)][-1]
