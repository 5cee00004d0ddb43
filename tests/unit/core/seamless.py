"""A server on a port that was chosen, which may be restarted without a gap."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from supervisor_app.core.changes import Remembered
from supervisor_app.core.sightings import Health, Identity, PortHolder, Slots
from supervisor_app.core.spec import HealthPolicy, LaunchSpec
from supervisor_app.core.status import Replacement, Stage
from supervisor_app.core.testing import FakeProbe, FakeProcesses, make_config, stranger
from tests.unit.core.supervising import bench

PORT, SECOND, THIRD = 8200, 8201, 8202
FIRST_PID, SECOND_PID = 100, 101
SPEC = LaunchSpec(
    host="localhost",
    port=PORT,
    command=("llama-server",),
    args=("-m", "model.gguf", "--port", str(PORT)),
    model_path="model.gguf",
    cwd="/srv",
)
OLD = Identity(pid=77, start=77, boot_id="boot")
NEW = Identity(pid=78, start=78, boot_id="boot")


@dataclass
class Machine(FakeProcesses):
    specs: list[LaunchSpec] = field(default_factory=list)
    """Specs of `spawned`."""
    taken: set[int] = field(default_factory=set)
    """Ports on which a stranger listens."""

    async def port_holder(self, name, spec):
        return stranger(llama=False) if spec.port in self.taken else None

    async def spawn(self, name, spec):
        process = await super().spawn(name, spec)
        self.specs.append(spec)
        return process

    @property
    def ports(self):
        return [spec.port for spec in self.specs]


@dataclass
class Probe(FakeProbe):
    """Answers for two processes, which are told apart by their ports."""

    loading: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)

    async def health(self, spec, timeout):
        if spec.port in self.silent:
            return Health.SILENT
        return Health.LOADING if spec.port in self.loading else Health.OK

    async def slots(self, spec, timeout, *, may_wake):
        works = int(spec.port in self.busy)
        return Slots(answered=True, busy=bool(works), mark=self.slot_checks, working=works, total=2)


def config(**changes):
    chosen = replace(make_config(spec=SPEC), spare_ports=(PORT, SECOND, THIRD))
    return replace(chosen, **changes)


def remembered(stage, *, port=SECOND, identity=NEW, **changes):
    """Record of a server whose own process is `OLD`, with another one beside it."""
    replacement = Replacement(stage=stage, detail="", identity=identity, port=port)
    values = {"identity": OLD, "run_open": True, "argv": SPEC.argv, "generation": 1}
    return Remembered(**{**values, "replacement": replacement, **changes})


def found(identity, spec=SPEC):
    return PortHolder(
        identity=identity, command="llama-server", is_llama_server=True, argv=spec.argv, ours=True
    )


@asynccontextmanager
async def serving(given=None, record=None, *, prepare=None):
    """A supervisor on a machine with two ports to choose from; without a record it has started a process."""
    running = bench(given or config(), record, prepare=prepare, machine=Machine, probe=Probe)
    async with running as b:
        yield b


def wishes(b, **changes):
    """Take a configuration in which the next generation is asked for."""
    old = b.supervisor.placed.given
    b.supervisor.apply(replace(old, generation=old.generation + 1, **changes))


async def restarts(b, seconds=1.0):
    """Ask for a restart without a gap."""
    wishes(b, restart_generation=b.supervisor.placed.given.generation + 1, restart_seamless=True)
    await b.clock.advance(seconds)


def changed(b, *flags, **changes):
    """Change the launch."""
    spec = replace(SPEC, args=(*SPEC.args, *flags))
    b.supervisor.apply(replace(b.supervisor.placed.given, spec=spec, seamless=True, **changes))


NEVER_READY = HealthPolicy(max_checks=3)
LOADING, LEAVING = Stage.LOADING, Stage.LEAVING


def alive(b):
    """Return the pids of all processes of a bench that live."""
    return [process.identity.pid for process in b.processes.alive]


def stage(b):
    """Return how far a restart without a gap has come; None: there is none."""
    return b.status.replacement and b.status.replacement.stage
