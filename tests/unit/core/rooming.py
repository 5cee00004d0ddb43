"""A node whose servers do not all fit into its memory, on a fake machine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from supervisor_app.core.devices import Survey
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.sightings import Slots
from supervisor_app.core.testing import (
    FakeClock,
    FakeContexts,
    FakeFootprints,
    FakeProbe,
    FakeProcesses,
    InMemoryStore,
    RecordingPublisher,
    make_config,
    make_spec,
)
from tests.unit.core.running import running

MB = 2**20
RULES = MemoryRules(budget_mb={"host": 100}, min_resident_seconds=0)
PORTS = {"a": 9001, "b": 9002, "c": 9003}


@dataclass
class Probe(FakeProbe):
    """Answers for several servers, of which some are busy."""

    busy: set[int] = field(default_factory=set)
    """Their ports."""
    silent: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    """Ports of those that let whoever asks for their slots wait for ever."""

    async def slots(self, spec, timeout, *, may_wake):
        if spec.port in self.late:
            await asyncio.Event().wait()
        if spec.port in self.silent:
            return Slots(answered=False)
        works = spec.port in self.busy
        return Slots(answered=True, busy=works, mark=self.slot_checks, working=int(works), total=2)


@dataclass
class Machine(FakeProcesses):
    """With a GPU, if a survey is given."""

    survey: Survey = field(default_factory=Survey)
    ports: list[int] = field(default_factory=list)
    """In the order in which servers were spawned on them."""

    async def spawn(self, name, spec):
        self.ports.append(spec.port)
        return await super().spawn(name, spec)

    async def devices(self, pids):
        await super().devices(pids)
        return self.survey


class Node:
    """Servers a, b and c, each of which needs 60 of 100 MB unless a test says otherwise."""

    def __init__(self, rules, needs, claims) -> None:
        self.clock = FakeClock()
        self.processes = Machine(self.clock)
        self.probe = Probe()
        self.footprints = FakeFootprints(needs={name: need(size) for name, size in needs.items()})
        servers = [make_config(name, spec=make_spec(PORTS[name]), claim=claims.get(name)) for name in needs]
        self.store = InMemoryStore(servers=servers, memory_rules=rules)
        self.publisher = RecordingPublisher()
        self.supervisor = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            footprints=self.footprints,
            contexts=FakeContexts(),
        )

    def snapshot(self, name):
        """The newest that gateways were told of a server."""
        return [seen for seen in self.publisher.announced if seen.name == name][-1]

    @property
    def statuses(self) -> dict[str, str]:
        return {config.name: self.snapshot(config.name).status.value for config in self.store.servers}

    @property
    def loaded(self) -> set[str]:
        return {name for name, status in self.statuses.items() if status == "ready"}

    def process(self, name):
        """The last process of a server."""
        spawns = [at for at, port in enumerate(self.processes.ports) if port == PORTS[name]]
        return self.processes.spawned[spawns[-1]]

    async def ask(self, name: str, seconds: float = 1.0) -> None:
        """Wish for a server, as a request through the gateway does."""
        at = next(at for at, config in enumerate(self.store.servers) if config.name == name)
        config = self.store.servers[at]
        self.store.servers[at] = replace(config, generation=config.generation + 1, desired_running=True)
        self.supervisor.nudge()
        await self.clock.advance(seconds)


def need(size: int, device: str = "host") -> Need:
    return Need(devices={device: size * MB}, source=Source.MEASURED)


@asynccontextmanager
async def node(rules=RULES, *, needs=None, claims=None, prepare=None, settle=5):
    built = Node(rules, needs or dict.fromkeys(PORTS, 60), claims or {})
    if prepare:
        prepare(built)
    async with running(built, settle=settle, ending=20):
        yield built
