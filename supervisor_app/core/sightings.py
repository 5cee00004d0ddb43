"""Values seen of processes and servers, without a way to look."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from supervisor_app.common.words import ending_of_node


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Identity of a process: pids are reused, a pid with its start time and boot is not."""

    pid: int
    start: int
    """Clock ticks since boot (Linux), hundredths of a second since the epoch elsewhere."""
    boot_id: str


@dataclass(frozen=True, kw_only=True)
class Exit:
    """The end of a process. Both None: it was not our child, so nobody told us."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        return ending_of_node(self.code, self.signal)


@dataclass(frozen=True, kw_only=True)
class ListeningSocket:
    """A socket that listens on a port of this machine, as the kernel tells of it."""

    address: str
    """Numeric; `0.0.0.0` or `::` for all addresses."""
    port: int
    uid: int | None
    """User that made the socket; None where the system does not tell."""
    inode: int
    """Names the socket; 0 where the system does not tell."""
    pid: int | None = None
    """Pid, only where there is no inode."""

    @property
    def reachable_at(self) -> str:
        """An address to connect to: a wildcard is reached over loopback."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)  # noqa: S104


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The one address at which a server was proved to listen: everybody who talks to it uses this one."""

    address: str
    """Numeric, never a wildcard."""
    port: int
    uid: int | None
    """Uid of the listening socket: whoever connects asks for no other."""
    realm: str = ""
    """Space in which address and uid have this meaning (`core.machine.sockets.realm`)."""
    unseen: str = field(default="", compare=False)
    """Warning for people of what could not be seen of the socket; empty: nothing is hidden."""

    def as_json(self) -> dict[str, Any]:
        return {"address": self.address, "port": self.port, "uid": self.uid, "realm": self.realm}


@dataclass(frozen=True, kw_only=True)
class PortHolder:
    """The process that listens on a server's port. `identity` is None where its pid is hidden."""

    identity: Identity | None
    command: str
    """The program's name: everybody may read it, so no argument of it is shown."""
    is_llama_server: bool
    """The process may be adopted: it answers as llama-server does, and its user may have our requests."""
    foreign_user: str = ""
    """The name of its user when nothing of ours may go to that one: it is not even asked what it is."""
    problem: str = ""
    """Why the address cannot be had or shared, in place of who holds it, as part of a sentence."""
    endpoint: Endpoint | None = None
    """Endpoint at which the process was found; None when it was found otherwise."""
    argv: tuple[str, ...] = ()
    """Command line; empty when it cannot be seen."""
    started_at: float | None = None
    """Unix seconds; None when the process cannot be seen."""
    ours: bool = False
    """A supervisor of ours started it: its output goes to this server's log file."""
    server: str = ""
    """Name of another server whose process it is, or was: no other one may adopt it."""

    def __str__(self) -> str:
        if self.identity is None:
            return (
                f"a process of another user ({self.foreign_user})"
                if self.foreign_user
                else ("a process of another user")
            )
        return f"pid {self.identity.pid} ({self.command})"


class Health(Enum):
    """Answer to GET /health."""

    OK = auto()
    LOADING = auto()
    """503: it answers, so it makes progress."""
    REFUSED = auto()
    """Refused: no connection was taken."""
    SILENT = auto()
    """Connected, but no answer in time."""
    WRONG = auto()
    """Answered with something else."""


@dataclass(frozen=True, kw_only=True)
class ProcessUsage:
    """Signs of work that can be seen without asking the server."""

    cpu_seconds: float = 0.0
    connections: int = 0
    """Clients connected to the spec's port."""


GPU_WORKS = 10
"""Percent in use from which on a GPU computes; drawing a desktop takes less."""


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """Bytes of one GPU, whoever uses them."""

    used: int
    total: int
    percent: int = 0
    """Percent of the last second in which the GPU computed, for whomever."""

    @property
    def works(self) -> bool:
        return self.percent >= GPU_WORKS


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """Memory of a process with its children, and of its machine, at one moment. Bytes."""

    at: float
    """Unix seconds."""
    anon: int = 0
    """Bytes in memory without the pages of files, which can be dropped."""
    swap: int = 0
    file: int = 0
    """Pages of files that it maps, in memory: programs and, where it maps them, models."""
    host_total: int = 0
    host_available: int = 0
    host_swap_free: int = 0
    limit: int | None = None
    """Limit of the control group."""
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
    """Findings of the kernel about the end of a process."""

    oom_kills: int = 0
    """Kills by the OOM killer in its control group, within the last minute of the run."""
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log that name it; none where we may not read it."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A slot of a server, in tokens; 0 where the server does not tell."""

    id: int
    task: int | None = None
    """Number of its last task, which grows with each task of the server; None: it never had one."""
    works: bool = False
    cached: int = 0
    """Tokens of the prompt that were found in the cache."""
    processed: int = 0
    """Tokens of the prompt that were computed so far."""
    decoded: int = 0
    """Tokens of the answer so far."""
    used: int = 0
    """Tokens that lie in its context; those of the last task stay."""
    size: int = 0
    """Tokens that its context takes."""
    shared: int = 0
    """Tokens of the context that it shares with the other slots; 0: it has its own."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Answer of the server's slots; `mark` changes with every token and every batch of a prompt."""

    answered: bool
    busy: bool = False
    mark: Any = None
    working: int = 0
    """Number of slots."""
    total: int = 0
    each: tuple[Slot, ...] = field(default=(), compare=False)


class Canary(Enum):
    """Result of asking a server for one token."""

    FINE = auto()
    """The server answered, sleeps, or cannot be asked just now: only silence is evidence."""
    SILENT = auto()
    """No answer in time."""
    UNSUPPORTED = auto()
    """The server does not complete text, and never will."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Cause of a permanent failure: a file, a port. Once it has changed, the failure may be gone."""

    present: bool
    """False: visibly gone, whatever it was before (the port is free, the missing file is there)."""
    mark: object
    """Differs when the file or the port's holder is another one."""
    is_port: bool = False
    """A free port is proof; a file that is there may be another one than the one that was missed."""
