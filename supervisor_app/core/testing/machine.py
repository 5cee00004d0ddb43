"""A machine in memory: its processes, and what a server answers to a probe."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.devices import Survey
from supervisor_app.core.ports import ProbeError, SignalDeniedError, SpawnError
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
from supervisor_app.core.status import Failure, Model

if TYPE_CHECKING:
    from collections.abc import Collection

    from supervisor_app.core.diagnosis.named_files import BadFile
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.testing.clock import FakeClock


class FakeProcess:
    """Ends when told to: by `die`, by SIGTERM unless it ignores that, by SIGKILL."""

    def __init__(self, identity: Identity | None, *, started_at: float, stubborn: bool = False) -> None:
        self.identity = identity
        self.started_at = started_at
        self.stubborn = stubborn
        self.denied = identity is None
        self.owns = True
        self.unseen = ""
        self.connected = True
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

    def has_clients(self, endpoint: Endpoint) -> bool:
        return self.connected

    def leaves_nothing(self) -> bool:
        return not self.alive

    async def means_file(self, path: str, file: Path) -> bool:
        return Path("/srv", path) == file

    async def usage(self, spec: LaunchSpec) -> ProcessUsage:
        return self.used

    async def look(self, spec: LaunchSpec) -> tuple[ProcessUsage, MemorySample | None]:
        return await self.usage(spec), await self.sample()

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
        with ExitStack() as stack:
            stack.callback(self.reading.pop, spec.port)
            await asyncio.Event().wait()

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

    def log_is_large(self, name: str) -> bool:
        return True

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


def stranger(*, llama: bool, pid: int = 999) -> PortHolder:
    """Make a stranger on our port."""
    return PortHolder(
        identity=Identity(pid=pid, start=1, boot_id="boot"),
        command="llama-server" if llama else "python -m http.server",
        is_llama_server=llama,
    )
