"""Fakes of the ports: a machine in memory, on a clock that only moves when told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.common.storage import StoreError
from supervisor_app.core.changes import Change, Remembered
from supervisor_app.core.context.saved import Kept
from supervisor_app.core.devices import Survey
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.ports import ProbeError, SignalDeniedError, SpawnError
from supervisor_app.core.server_config import ServerConfig
from supervisor_app.core.sightings import (
    Autopsy,
    Canary,
    Cause,
    Endpoint,
    Exit,
    Health,
    Identity,
    MemorySample,
    PortHolder,
    ProcessUsage,
    Slots,
)
from supervisor_app.core.spec import Claim, HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.core.status import Failure, FailureKind, LlamaStatus, Model

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from supervisor_app.core.diagnosis.named_files import BadFile
    from supervisor_app.core.memory_rules import MemoryRules

SETTLE_ROUNDS = 50
"""Turns of the event loop after which nothing moves any more without the clock."""


def make_spec(port: int = 8134, *, args: tuple[str, ...] = ("-m", "model.gguf")) -> LaunchSpec:
    return LaunchSpec(
        host="localhost", port=port, command=("llama-server",), args=args, model_path="model.gguf", cwd="/srv"
    )


def make_config(
    name: str = "default",
    *,
    spec: LaunchSpec | None = None,
    restart: RestartPolicy | None = None,
    health: HealthPolicy | None = None,
    desired_running: bool = True,
    generation: int = 1,
    restart_generation: int = 0,
    claim: Claim | None = None,
) -> ServerConfig:
    return ServerConfig(
        name=name,
        spec=spec or make_spec(),
        restart=restart or RestartPolicy(),
        health=health or HealthPolicy(),
        desired_running=desired_running,
        generation=generation,
        restart_generation=restart_generation,
        claim=claim or Claim(),
    )


class FakeClock:
    """`advance` wakes sleepers in the order of their deadlines and lets everything settle after each."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._now = 0.0
        self._wall = wall
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._wall + self._now

    async def sleep_until(self, deadline: float) -> None:
        if deadline > self._now:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((deadline, future))
            await future

    def freeze(self, seconds: float) -> None:
        """Let time pass in which nothing runs: nobody is woken until the next `advance`."""
        self._now += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock alone, as when somebody sets it."""
        self._wall += seconds

    async def advance(self, seconds: float) -> None:
        target = self._now + seconds
        await settle()
        while True:
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= target and not sleeper[1].done()]
            if not due:
                break
            self._now = max(self._now, min(deadline for deadline, _ in due))
            woken = [sleeper for sleeper in due if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in woken]
            for _, future in woken:
                future.set_result(None)
            await settle()
        self._now = target
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]


async def settle() -> None:
    """Let every task run as far as it gets."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)


class FakeProcess:
    """Ends when told to: by `die`, by SIGTERM unless it ignores that, by SIGKILL."""

    def __init__(self, identity: Identity | None, *, started_at: float, stubborn: bool = False) -> None:
        self.identity = identity
        self.started_at = started_at
        self.stubborn = stubborn
        self.denied = identity is None
        self.owns = True
        self.unseen = ""
        self.lines: list[str] = []
        self.trouble = ""
        self.resident = 0
        self.mapped = 0
        self.fetched_bytes = 0
        self.memory: MemorySample | None = None
        self.found = Autopsy()
        self.used = ProcessUsage()
        self.signals: list[str] = []
        self.forgotten = False
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    def die(self, *, code: int | None = None, signal: int | None = None) -> None:
        if self.alive:
            self._exit.set_result(Exit(code=code, signal=signal))

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        self._signal("TERM")
        if not self.stubborn:
            self.die(code=0)

    def kill(self) -> None:
        self._signal("KILL")
        self.die(signal=9)

    def _signal(self, name: str) -> None:
        if self.denied:
            raise SignalDeniedError
        self.signals.append(name)

    async def endpoint(self, spec: LaunchSpec) -> Endpoint | None:
        there = Endpoint(address="127.0.0.1", port=spec.port, uid=0, unseen=self.unseen)
        return there if self.owns else None

    def leaves_nothing(self) -> bool:
        return not self.alive

    async def means_file(self, path: str, file: Path) -> bool:
        return Path("/srv", path) == file

    async def usage(self, spec: LaunchSpec) -> ProcessUsage:
        return self.used

    async def sample(self) -> MemorySample | None:
        return self.memory

    async def autopsy(self) -> Autopsy:
        return self.found

    async def fetched(self) -> int:
        return self.fetched_bytes

    async def resident_bytes(self) -> int:
        return self.resident

    async def mapped_bytes(self) -> int:
        return self.mapped

    async def last_lines(self, count: int, since: int | None = None) -> list[str]:
        return self.lines[since or 0 :][-count:]

    async def log_position(self) -> int:
        return len(self.lines)

    async def log_trouble(self) -> str:
        return self.trouble

    def forget(self) -> None:
        self.forgotten = True


@dataclass
class FakeProcesses:
    """A machine. Processes that it spawns are in `spawned`, newest last."""

    clock: FakeClock
    spawned: list[FakeProcess] = field(default_factory=list)
    adopted: list[FakeProcess] = field(default_factory=list)
    holder: PortHolder | None = None
    """A stranger on the port."""
    survivors: dict[Identity, PortHolder] = field(default_factory=dict)
    unrecorded: PortHolder | None = None
    """A process of ours that no run tells of."""
    rests: int = 0
    """Number of times that the fake was asked to end what was left behind."""
    spawn_failure: Failure | None = None
    stubborn: bool = False
    total_bytes: int = 0
    cause: Cause | None = None
    bad: list[BadFile] = field(default_factory=list)
    adopted_lines: list[str] = field(default_factory=list)
    """Log of the next process that is adopted."""
    trimmed: list[str] = field(default_factory=list)
    trim_error: OSError | None = None
    trim_due: bool = True
    surveyed: list[list[int]] = field(default_factory=list)
    """Pids for whose memory it was asked."""
    survey: Survey | None = None
    """Result of each look at the devices; None: a problem, another one each time."""
    survey_error: OSError | None = None
    survey_held: asyncio.Event | None = None
    """A driver answers once this is set; None: at once."""
    reading: dict[int, int] = field(default_factory=dict)
    """Port of each launch whose files are being read ahead, and the room for them; nobody's read ends."""
    reading_error: OSError | None = None

    @property
    def last(self) -> FakeProcess:
        return self.spawned[-1]

    @property
    def alive(self) -> list[FakeProcess]:
        return [process for process in self.spawned if process.alive]

    async def port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        return self.holder

    async def find(self, name: str, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        return self.survivors.get(identity)

    async def find_ours(self, name: str, but: Identity | None = None) -> PortHolder | None:
        known = self.unrecorded is None or self.unrecorded.identity == but
        return None if known else self.unrecorded

    async def end_rest(self, name: str, only: Identity | None = None) -> None:
        self.rests += 1

    async def spawn(self, name: str, spec: LaunchSpec) -> FakeProcess:
        if self.spawn_failure is not None:
            raise SpawnError(self.spawn_failure)
        number = 100 + len(self.spawned)
        identity = Identity(pid=number, start=number, boot_id="boot")
        process = FakeProcess(identity, started_at=self.clock.time(), stubborn=self.stubborn)
        self.spawned.append(process)
        return process

    async def read_ahead(self, spec: LaunchSpec, most: int) -> None:
        if self.reading_error is not None:
            raise self.reading_error
        self.reading[spec.port] = most
        try:
            await asyncio.Event().wait()
        finally:
            del self.reading[spec.port]

    async def devices(self, pids: Collection[int]) -> Survey:
        self.surveyed.append(list(pids))
        if self.survey_held is not None:
            await self.survey_held.wait()
        if self.survey_error is not None:
            raise self.survey_error
        return self.survey or Survey(problems=(f"Look {len(self.surveyed)}.",))

    async def adopt(self, name: str, holder: PortHolder, spec: LaunchSpec) -> FakeProcess:
        if holder.command == "gone":
            raise ProcessLookupError
        process = FakeProcess(holder.identity, started_at=holder.started_at or self.clock.time())
        process.lines = list(self.adopted_lines)
        self.adopted.append(process)
        return process

    async def cause_of(self, name: str, failure: Failure, spec: LaunchSpec) -> Cause | None:
        return self.cause

    async def bad_files(self, name: str, spec: LaunchSpec) -> list[BadFile]:
        return self.bad

    async def model_bytes(self, name: str, spec: LaunchSpec) -> int:
        return self.total_bytes

    async def trim_log(self, name: str) -> bool:
        if self.trim_error is not None:
            raise self.trim_error
        self.trimmed.append(name)
        return self.trim_due


@dataclass
class FakeProbe:
    """Answers what it was set to; `checks` counts how often it was asked."""

    answer: Health = Health.OK
    offered: tuple[Model, ...] = (Model(id="model.gguf", name="model.gguf", size=1),)
    models_error: str = ""
    running: str = ""
    """The path of the model that the server says it runs."""
    checks: int = 0
    working: Slots = field(default_factory=lambda: Slots(answered=True))
    slot_checks: int = 0
    token: Canary = Canary.FINE
    canaries: int = 0

    async def health(self, spec: LaunchSpec, timeout: float) -> Health:  # noqa: ASYNC109
        self.checks += 1
        return self.answer

    async def running_model(self, spec: LaunchSpec, timeout: float) -> str:  # noqa: ASYNC109
        return self.running

    async def slots(self, spec: LaunchSpec, timeout: float, *, may_wake: bool) -> Slots:  # noqa: ASYNC109
        self.slot_checks += 1
        return self.working

    async def canary(self, spec: LaunchSpec, timeout: float) -> Canary:  # noqa: ASYNC109
        self.canaries += 1
        return self.token

    async def models(self, spec: LaunchSpec, timeout: float) -> tuple[Model, ...]:  # noqa: ASYNC109
        if self.models_error:
            raise ProbeError(self.models_error)
        return self.offered


@dataclass
class InMemoryStore:
    """`down`: every call fails, as of a database that is away. `full`: every write, as on a full disk."""

    servers: list[ServerConfig] = field(default_factory=list)
    memory: dict[str, Remembered] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    beats: list[list[str]] = field(default_factory=list)
    surveys: list[Survey] = field(default_factory=list)
    memory_rules: MemoryRules | None = None
    prunable: int = 0
    """Number of times that there is something to prune."""
    prunes: int = 0
    down: bool = False
    full: bool = False

    async def configs(self) -> Sequence[ServerConfig]:
        self._check()
        return list(self.servers)

    async def remember(self, name: str) -> Remembered:
        self._check()
        return self.memory.get(name, Remembered())

    async def save(self, change: Change) -> None:
        self._check(writing=True)
        self.changes.append(change)

    async def heartbeat(self, names: Sequence[str], devices: Survey | None = None) -> None:
        self._check(writing=True)
        self.beats.append(list(names))
        if devices is not None:
            self.surveys.append(devices)

    async def prune(self) -> bool:
        self._check(writing=True)
        self.prunes += 1
        self.prunable -= self.prunable > 0
        return self.prunable > 0

    def _check(self, *, writing: bool = False) -> None:
        if self.down or (self.full and writing):
            raise StoreError("The database is locked.")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A call of `FakeFootprints.learned`."""

    name: str
    devices: Mapping[str, int]
    out_of_memory: bool
    run: Identity | None


@dataclass
class FakeFootprints:
    """Knows the needs that it was given, and keeps what it is taught."""

    needs: dict[str, Need] = field(default_factory=dict)
    lessons: list[Lesson] = field(default_factory=list)
    heard: dict[str, list[str]] = field(default_factory=dict)
    """Lines of what the engine said, by server."""

    async def need(self, name: str, spec: LaunchSpec) -> Need:
        return self.needs.get(name, Need(devices={}, source=Source.UNKNOWN))

    def learned(
        self,
        name: str,
        spec: LaunchSpec,
        devices: Mapping[str, int],
        out_of_memory: bool = False,
        run: Identity | None = None,
    ) -> None:
        self.lessons.append(Lesson(name=name, devices=devices, out_of_memory=out_of_memory, run=run))

    def told(self, name: str, spec: LaunchSpec, lines: Sequence[str], run: Identity | None = None) -> None:
        self.heard[name] = list(lines)


@dataclass
class FakeContexts:
    """Saves and restores what it was told to; `holding` saves nothing until it is let go."""

    saved: Kept = field(default_factory=Kept)
    restored: Kept = field(default_factory=Kept)
    trouble: str = ""
    """Reason for which the folder cannot be made."""
    cached: list[int] = field(default_factory=list)
    saves: list[str] = field(default_factory=list)
    restores: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    prunes: int = 0
    holding: asyncio.Event | None = None

    async def prepare(self, name: str, spec: LaunchSpec) -> str:
        return self.trouble

    async def save(self, name: str, spec: LaunchSpec, started_at: float, seconds: float) -> Kept:
        self.saves.append(name)
        if self.holding is not None:
            await self.holding.wait()
        return self.saved

    async def restore(self, name: str, spec: LaunchSpec, seconds: float) -> Kept:
        self.restores.append(name)
        return self.restored

    async def forget(self, names: Collection[str]) -> None:
        self.forgotten += sorted(names)

    async def prune(self) -> None:
        self.prunes += 1

    async def answers(self, name: str, since: float, count: int) -> Sequence[int]:
        return self.cached[:count]


@dataclass
class FakeRoom:
    """Room that is asked for only while it `is_on`; whoever asks gets an answer from the test."""

    is_on: bool = False
    nudges: int = 0
    fits: bool = False
    """Answer to the question whether a server that was refused may fit now."""
    beside: str = ""
    """Reason for which a second process of a server has no room."""

    def nudge(self) -> None:
        self.nudges += 1

    async def may_fit(self, name: str) -> bool:
        return self.fits

    async def fits_beside(self, name: str, spec: LaunchSpec) -> str:
        return self.beside


@dataclass
class RecordingPublisher:
    """Keeps what pages would have seen."""

    announced: list[LlamaStatus] = field(default_factory=list)
    snapshots: list[LlamaStatus] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    async def announce(self, snapshot: LlamaStatus) -> None:
        self.announced.append(snapshot)

    async def publish(self, snapshot: LlamaStatus) -> None:
        self.snapshots.append(snapshot)

    async def removed(self, name: str) -> None:
        self.gone.append(name)


def stranger(*, llama: bool, pid: int = 999) -> PortHolder:
    """Make a stranger on our port."""
    return PortHolder(
        identity=Identity(pid=pid, start=1, boot_id="boot"),
        command="llama-server" if llama else "python -m http.server",
        is_llama_server=llama,
    )


def exited(detail: str = "with code 1") -> Failure:
    return failure_of(FailureKind.EXITED, detail)
