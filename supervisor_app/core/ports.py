"""What the supervisor needs from the world, as Protocols, and the values that cross the border.

`core.process`, `core.probe`, `supervisor_app.store` and `supervisor_app.publish` are the real ones;
`core.testing` ships the fakes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from supervisor_app.core.spec import HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.core.status import Failure, LlamaStatus, Model, RunSummary, Status


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which process this is, beyond doubt: pids are reused, a pid with its start time and boot is not."""

    pid: int
    start: int
    """Clock ticks since boot (Linux), hundredths of a second since the epoch elsewhere."""
    boot_id: str


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a process ended. Both None: it was not our child, so nobody told us."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        def word(number: int | None) -> str:
            return "null" if number is None else str(number)

        return f"code {word(self.code)} signal {word(self.signal)}"


@dataclass(frozen=True, kw_only=True)
class PortHolder:
    """Who listens on a server's port. `identity` is None where another user's process hides its pid."""

    identity: Identity | None
    command: str
    is_llama_server: bool
    argv: tuple[str, ...] = ()
    """Its command line; empty when it cannot be seen."""
    started_at: float | None = None
    """Unix seconds; None when the process cannot be seen."""
    ours: bool = False
    """A supervisor of ours started it: its output goes to this server's log file."""

    def __str__(self) -> str:
        if self.identity is None:
            return "a process of another user"
        return f"pid {self.identity.pid} ({self.command})"


class Health(Enum):
    """What GET /health said."""

    OK = auto()
    LOADING = auto()
    """503: it answers, so it makes progress."""
    REFUSED = auto()
    """Nobody listens."""
    SILENT = auto()
    """Connected, but no answer in time."""
    WRONG = auto()
    """Answered with something else."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Signs of work that can be seen without asking the server."""

    cpu_seconds: float = 0.0
    connections: int = 0
    """Clients connected to the spec's port."""


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """Bytes of one GPU, whoever uses them."""

    used: int
    total: int


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """One look at a process with its children, and at its machine. Bytes."""

    at: float
    """Unix seconds."""
    anon: int = 0
    """In memory, without the pages of files: those can be dropped."""
    swap: int = 0
    host_total: int = 0
    host_available: int = 0
    host_swap_free: int = 0
    limit: int | None = None
    """Of its control group."""
    limit_used: int = 0
    gpus: tuple[GpuMemory, ...] = ()

    @property
    def used(self) -> int:
        return self.anon + self.swap

    @property
    def room(self) -> tuple[int, int]:
        """Free and total: of the machine, or of its control group when that has less."""
        if self.limit is not None and self.limit - self.limit_used < self.host_available:
            return max(0, self.limit - self.limit_used), self.limit
        return self.host_available, self.host_total

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "anon": self.anon,
            "swap": self.swap,
            "hostTotal": self.host_total,
            "hostAvailable": self.host_available,
            "hostSwapFree": self.host_swap_free,
            "limit": self.limit,
            "limitUsed": self.limit_used,
            "gpus": [{"used": gpu.used, "total": gpu.total} for gpu in self.gpus],
        }


@dataclass(frozen=True, kw_only=True)
class Autopsy:
    """What the kernel knows of a process's end."""

    oom_kills: int = 0
    """In its control group, within the last minute of its life."""
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log that name it; none where we may not read it."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What the server's slots said; `mark` changes with every token and every batch of a prompt."""

    answered: bool
    busy: bool = False
    mark: Any = None
    working: int = 0
    """So many of them."""
    total: int = 0


class Canary(Enum):
    """What came of asking a server for one token."""

    FINE = auto()
    """It answered, or it sleeps or cannot be asked just now: only silence is evidence."""
    SILENT = auto()
    """No answer in time."""
    UNSUPPORTED = auto()
    """It is no server that completes text, and never will be."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What a permanent failure hangs on: a file, a port. It may be gone once this has changed."""

    present: bool
    """False: visibly gone, whatever it was before (the port is free, the missing file is there)."""
    mark: object
    """Differs when the file or the port's holder is another one."""


class SpawnError(Exception):
    """The process could not be started; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class SignalDeniedError(Exception):
    """The process may not be signalled by us: another user's, or one whose pid we cannot see."""


class ProbeError(Exception):
    """The server did not answer as a llama-server does; the message says how."""


class Process(Protocol):
    """One live llama-server: spawned by us, or adopted. Signals reach this process and no other."""

    identity: Identity | None
    started_at: float
    """Unix seconds."""

    async def wait(self) -> Exit:
        """Until it is gone and, if it was our child, reaped. May be awaited again."""

    def terminate(self) -> None:
        """SIGTERM to it and its group. Raises SignalDeniedError; a process already gone is no error."""

    def kill(self) -> None:
        """SIGKILL to it and its group. Raises SignalDeniedError; a process already gone is no error."""

    async def owns_port(self, spec: LaunchSpec) -> bool:
        """Is the socket that listens on the spec's port its own, or one of its children's?"""

    async def usage(self, spec: LaunchSpec) -> Usage:
        """What it and its children have used; zeros when it is gone or hidden."""

    async def sample(self) -> MemorySample | None:
        """What it and its machine use now; None when it is gone or hidden."""

    async def autopsy(self) -> Autopsy:
        """What the kernel says of its end, once it is gone."""

    async def resident_bytes(self) -> int:
        """Memory of it and its children, file pages included; 0 when it is gone."""

    async def last_lines(self, count: int) -> list[str]:
        """The end of what this life wrote, oldest first; empty when its output is not in our file."""

    def forget(self) -> None:
        """Stop watching it; it lives on."""


class Processes(Protocol):
    """Starts, finds and takes over processes of one machine."""

    async def port_holder(self, name: str, spec: LaunchSpec) -> PortHolder | None:
        """Who listens on the address of the server with this name; None when it is free."""

    async def find(self, identity: Identity, spec: LaunchSpec) -> PortHolder | None:
        """The process with exactly this identity, if it lives and still is a llama-server."""

    async def find_ours(self, name: str) -> PortHolder | None:
        """A living process that was spawned for the server with this name, wherever it listens, if at all."""

    async def end_rest(self, name: str) -> None:
        """What a process that was spawned for it left behind when it ended: SIGKILL to its children."""

    async def spawn(self, name: str, spec: LaunchSpec) -> Process:
        """Start it in its own session, its output appended to a file. Raises SpawnError."""

    async def adopt(self, name: str, holder: PortHolder, spec: LaunchSpec) -> Process:
        """Take over a running one. Raises ProcessLookupError when it has just gone."""

    async def cause_of(self, failure: Failure, spec: LaunchSpec) -> Cause | None:
        """What a permanent failure hangs on, as it is now; None when nobody can tell from outside."""

    async def model_bytes(self, spec: LaunchSpec) -> int:
        """Size of the model's files, all parts together; 0 when unknown."""

    async def trim_log(self, name: str) -> bool:
        """Keep a server's log within its bounds. True when that was due. Raises OSError."""


class Probe(Protocol):
    """Asks a server, never blocking the event loop, never raising for what a network may do."""

    async def health(self, spec: LaunchSpec, timeout: float) -> Health: ...  # noqa: ASYNC109

    async def models(self, spec: LaunchSpec, timeout: float) -> tuple[Model, ...]:  # noqa: ASYNC109
        """Raises ProbeError."""

    async def slots(self, spec: LaunchSpec, timeout: float, *, may_wake: bool) -> Slots:  # noqa: ASYNC109
        """What it is working at. Without `may_wake` a sleeping server is left asleep and counts as idle."""

    async def canary(self, spec: LaunchSpec, timeout: float) -> Canary:  # noqa: ASYNC109
        """Ask for one token. A sleeping server is left asleep."""


class Clock(Protocol):
    """Both clocks: `monotonic` decides, `time` (Unix seconds) is only shown and stored."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    async def sleep_until(self, deadline: float) -> None:
        """`deadline` in seconds of `monotonic`; one that has passed returns at once."""


class Wish(Enum):
    """What the desired state asks for, since the last generation the supervisor acted on."""

    RUN = auto()
    RESTART = auto()
    STOP = auto()


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """One row of what should run, resolved for this node."""

    name: str
    spec: LaunchSpec
    restart: RestartPolicy
    health: HealthPolicy
    desired_running: bool
    generation: int
    """Grows with every command."""
    restart_generation: int = 0
    """The generation of the last restart asked for."""
    idle_seconds: int | None = None
    """It was stopped because nothing was asked of it for so long; None: not for that."""
    launch: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What people set to launch it so, by field: what a rollback brings back."""

    def wish_since(self, seen: int) -> Wish | None:
        """What was asked since generation `seen`; None when nothing was.

        A lower generation is that of a database restored from a backup: what it asks for counts.
        """
        if self.generation == seen:
            return None
        if not self.desired_running:
            return Wish.STOP
        return Wish.RESTART if self.restart_generation > seen else Wish.RUN


@dataclass(frozen=True, kw_only=True)
class RunOpened:
    """A process began its life under our eyes."""

    identity: Identity | None
    adopted: bool
    retry: int
    started_at: float
    argv: tuple[str, ...] = ()
    launch: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunReady:
    at: float


@dataclass(frozen=True, kw_only=True)
class RunClosed:
    """It ended; `failure` is None when it was asked to."""

    at: float
    exit: Exit
    failure: Failure | None
    last_lines: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """`core.evidence.Evidence` as JSON; empty when nobody saw it end."""
    note: str = ""
    """Why it was asked to end, in words."""


RunEvent = RunOpened | RunReady | RunClosed


@dataclass(frozen=True, kw_only=True)
class Change:
    """One step of one server, stored in one transaction."""

    snapshot: LlamaStatus
    identity: Identity | None
    generation: int
    """The last generation the supervisor acted on."""
    run_events: tuple[RunEvent, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What the last supervisor wrote about a server."""

    version: int = 0
    generation: int = 0
    status: Status = Status.INITIAL
    retries: int = 0
    failure: Failure | None = None
    identity: Identity | None = None
    """Of the process whose run is still open."""
    run_open: bool = False
    adopted: bool = False
    argv: tuple[str, ...] = ()
    """What that process was started with; empty when it was adopted."""
    runs: tuple[RunSummary, ...] = ()
    last_good: Mapping[str, Any] | None = None
    """The `launch` of the last run that reached ready."""
    loads: tuple[tuple[tuple[str, ...], float], ...] = ()
    """Of the last starts that reached ready, newest first: what was started, and seconds until ready."""


class Store(Protocol):
    """The truth on disk. Every method may raise StoreError; none blocks the event loop."""

    async def configs(self) -> Sequence[ServerConfig]:
        """What should run on this node."""

    async def remember(self, name: str) -> Remembered: ...

    async def save(self, change: Change) -> None:
        """Snapshot and history in one transaction. A server that was deleted meanwhile is ignored."""

    async def heartbeat(self, names: Sequence[str]) -> None:
        """Tell the readers that a supervisor still looks after these servers, and the other supervisors that
        this node has one. Raises NodeTakenError when one of those has it by now."""

    async def prune(self) -> bool:
        """Delete some of what nobody needs any more; True when there may be more of it."""


class StoreError(Exception):
    """The database did not answer; try again later."""


class NodeTakenError(Exception):
    """Another supervisor holds this node; the message says which."""


class Publisher(Protocol):
    """Tells every open page. Loses a message rather than raise or block."""

    async def announce(self, snapshot: LlamaStatus) -> None:
        """To the gateways, as fast as can be: requests wait for it."""

    async def publish(self, snapshot: LlamaStatus) -> None:
        """To the pages."""

    async def removed(self, name: str) -> None: ...
