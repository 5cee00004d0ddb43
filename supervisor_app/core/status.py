"""The vocabulary: what a server can be, why it can fail, and the snapshot everybody reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import iso

if TYPE_CHECKING:
    from supervisor_app.core.loaded import Loaded
    from supervisor_app.core.sightings import Endpoint, Identity


class Status(StrEnum):
    """The public contract: exactly these words. Finer truth goes beside them, never into new ones."""

    INITIAL = "initial"
    """Not running, and not asked to run."""
    STARTING = "starting"
    """Looking at the port, spawning, or waiting until our own process answers 200."""
    READY = "ready"
    """/health answered 200 from our own process and its models were read."""
    CRASHED = "crashed"
    """The server went down: it is being cleaned up, or the next try waits for its backoff."""
    ERROR = "error"
    """Given up: retries used up, or a cause that a retry cannot mend."""
    STOPPING = "stopping"
    """Asked to end; SIGKILL follows when the grace is over."""


DOWN = frozenset({Status.CRASHED, Status.ERROR})
"""A server that is to run and does not."""


class FailureKind(StrEnum):
    """Reasons why a process ended or never became ready; `core.diagnosis.explanations` explains each."""

    BINARY_MISSING = "binary_missing"
    LIBRARY_MISSING = "library_missing"
    BAD_ARGUMENT = "bad_argument"
    MODEL_MISSING = "model_missing"
    MODEL_UNREADABLE = "model_unreadable"
    MODEL_CORRUPT = "model_corrupt"
    MODEL_UNSUPPORTED = "model_unsupported"
    DOWNLOAD_FAILED = "download_failed"
    PORT_TAKEN = "port_taken"
    DOES_NOT_FIT = "does_not_fit"
    OUT_OF_MEMORY = "out_of_memory"
    OOM_KILLED = "oom_killed"
    GPU_OUT_OF_MEMORY = "gpu_out_of_memory"
    GPU_LOST = "gpu_lost"
    NEVER_READY = "never_ready"
    HUNG = "hung"
    KILLED_BY_SIGNAL = "killed_by_signal"
    EXITED = "exited"
    HOST_LOST = "host_lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure in plain words.

    `permanent` means that trying again without a change cannot help, so no retry is burnt on it.
    """

    kind: FailureKind
    permanent: bool
    title: str
    detail: str
    """Exact circumstances: the decisive line, the pid, the path."""
    hint: str
    """Advice to people."""
    file: str = field(default="", compare=False)
    """Absolute path of the file that the failure is about; empty: none, or not known."""

    @property
    def sentence(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title

    def as_json(self) -> dict[str, str]:
        return {
            "kind": self.kind.value,
            "title": self.title,
            "detail": self.detail,
            "hint": self.hint,
        }


AVAILABLE = "available"
"""Status of a model whose server says nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a server offers. `None` where neither the server nor the file tells."""

    id: str
    name: str
    size: int | None = None
    """Bytes, as the server says; else the file's own."""
    type: str = "llama"
    modified_at: int | None = None
    """Unix seconds of the file's last change."""
    status: str = AVAILABLE

    @property
    def comes_and_goes(self) -> bool:
        """Is it a model of a router? Routers alone say whether a model is loaded."""
        return self.status != AVAILABLE

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "size": self.size,
            "type": self.type,
            "modified_at": self.modified_at,
            "status": self.status,
        }


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of loading a model: bytes of it resident in the process, against the size of its files."""

    loaded: int
    total: int
    eta_seconds: float | None = None
    """Estimate from this server's own past starts; None when there are none."""

    @property
    def percent(self) -> int:
        return min(99, int(100 * self.loaded / self.total)) if self.total > 0 else 0

    def as_json(self) -> dict[str, Any]:
        eta = None if self.eta_seconds is None else round(self.eta_seconds, 1)
        return {"loaded": self.loaded, "total": self.total, "percent": self.percent, "etaSeconds": eta}


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A past or present run, as the timeline shows it. Times are Unix seconds."""

    retry: int
    adopted: bool
    started_at: float
    ready_at: float | None = None
    loaded: Loaded | None = None
    """Parts of the time until it was ready; None where nobody has measured it."""
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    failure: Failure | None = None
    memory: str = ""
    """Sentence on the memory used just before the end; empty when that tells nothing."""

    @property
    def open(self) -> bool:
        return self.ended_at is None


class Stage(StrEnum):
    """Stage of a restart without a gap, or how the last one came to nothing."""

    LOADING = "loading"
    """A new process starts beside the server's own."""
    LEAVING = "leaving"
    """The new process serves; the one before finishes what it does."""
    REFUSED = "refused"
    """Nothing was begun."""
    FAILED = "failed"
    """The new process did not get ready: the one before serves on."""


UNDER_WAY = frozenset({Stage.LOADING, Stage.LEAVING})
"""Stages in which there is a process beside the server's own, or is to be one."""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A restart without a gap, as people and the next supervisor must know it."""

    stage: Stage
    detail: str
    """Sentence for people."""
    identity: Identity | None = None
    """Identity of the process beside the server's own; None: there is none, or not yet."""
    port: int = 0
    """Port of that process; 0: none is chosen yet."""

    def as_json(self) -> dict[str, Any]:
        pid = self.identity.pid if self.identity else None
        return {"stage": self.stage.value, "detail": self.detail, "pid": pid}


@dataclass(frozen=True, kw_only=True)
class LlamaStatus:
    """The published snapshot of one server: what the pages, the API, the events and the CLI show.

    Times are Unix seconds. `version` grows with every change, so that a late push never overwrites a
    newer one.
    """

    name: str
    status: Status = Status.INITIAL
    detail: str = ""
    """Plain sentence: why the server is in this state, what happens next."""
    url: str = ""
    models: tuple[Model, ...] = ()
    last_error: str | None = None
    failure: Failure | None = None
    retries: int = 0
    max_retries: int = 5
    started_at: float | None = None
    ready_at: float | None = None
    down_since: float | None = None
    """Time at which it went down, or could not be started, and was not ready since; None: it is not down."""
    next_retry_at: float | None = None
    adopted: bool = False
    pid: int | None = None
    progress: Progress | None = None
    draining: bool = False
    """The server finishes what it does, takes no new requests, and ends then: for gateways."""
    unloaded: bool = False
    """The server is to run, has no room in memory, and is loaded with the next request."""
    replacement: Replacement | None = None
    """Restart without a gap; None: none is under way, and the last one did as it should."""
    can_roll_back: bool = False
    """The server is down since its configuration was changed, and the one before reached ready."""
    warnings: tuple[str, ...] = ()
    """Faults of a server that serves all the same, as sentences."""
    runs: tuple[RunSummary, ...] = ()
    """The last ten runs, newest first."""
    version: int = 0
    endpoint: Endpoint | None = None
    """Address at which the server was proved to listen: for our own programs, not for the public contract."""

    @property
    def drains(self) -> bool:
        """Does it finish its requests before an end that somebody asked for?"""
        return self.draining and self.status is Status.STOPPING

    @property
    def memory(self) -> str:
        """Tell in a sentence what the last run used, if that run's failure is why the server is down."""
        if self.failure is None or not self.runs or self.status not in DOWN:
            return ""
        last = self.runs[0].failure
        same = last is not None and (last.kind, last.detail) == (self.failure.kind, self.failure.detail)
        return self.runs[0].memory if same else ""

    @property
    def loaded(self) -> str:
        """Tell in a sentence how long the process that runs took to load; empty where that is not known."""
        load = self.load
        return load.sentence if load is not None and self.status is Status.READY else ""

    @property
    def load(self) -> Loaded | None:
        """Parts of the load of the process that runs; None where they are not known."""
        return self.runs[0].loaded if self.runs and self.runs[0].open else None

    def uptime(self, now: float) -> int:
        """Whole seconds since the process started; 0 while there is none."""
        return 0 if self.started_at is None else max(0, int(now - self.started_at))

    def as_json(self, now: float) -> dict[str, Any]:
        """The `LlamaStatus` of the public contract; `now` in Unix seconds."""
        return {
            "name": self.name,
            "status": self.status.value,
            "detail": self.detail,
            "url": self.url,
            "models": [model.as_json() for model in self.models],
            "lastError": self.last_error,
            "failure": self.failure and self.failure.as_json(),
            "retries": self.retries,
            "maxRetries": self.max_retries,
            "uptime": self.uptime(now),
            "startedAt": iso(self.started_at),
            "nextRetryAt": iso(self.next_retry_at),
            "adopted": self.adopted,
            "pid": self.pid,
            "progress": self.progress and self.progress.as_json(),
            "draining": self.draining,
            "unloaded": self.unloaded,
            "loaded": self.loaded,
            "replacement": self.replacement and self.replacement.as_json(),
            "canRollBack": self.can_roll_back,
            "warnings": list(self.warnings),
        }
