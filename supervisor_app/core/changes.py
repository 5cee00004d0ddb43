"""Values that the supervisor hands to the store, and those that the store gives back after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor_app.core.status import Failure, LlamaStatus, Replacement, RunSummary, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.loaded import Loaded, RoomOutcome
    from supervisor_app.core.sightings import Exit, Identity
    from supervisor_app.core.spans import SpanBegan


@dataclass(frozen=True, kw_only=True)
class RunOpened:
    """A run begins: its process was spawned or adopted."""

    identity: Identity | None
    adopted: bool
    retry: int
    started_at: float
    argv: tuple[str, ...] = ()
    launch: Mapping[str, Any] = field(default_factory=dict)
    secrets: str = ""
    """`ServerConfig.secrets`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that people set for it, without the values that may be secret."""


@dataclass(frozen=True, kw_only=True)
class RunReady:
    at: float
    loaded: Loaded | None = None
    """Parts of the time that the start took; None where nobody has measured it."""


@dataclass(frozen=True, kw_only=True)
class RunClosed:
    """The run has ended; `failure` is None when it was asked to."""

    at: float
    exit: Exit
    failure: Failure | None
    last_lines: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """`core.diagnosis.evidence.Evidence` as JSON; empty when nobody saw it end."""
    note: str = ""
    """Why it was asked to end, in words."""


@dataclass(frozen=True, kw_only=True)
class ContextCounted:
    """Conversations were saved, restored or lost, or it was seen whether restored ones were of use."""

    counts: Mapping[str, int]
    """Outcome -> number: `saved`, `restored`, `lost` of conversations, `used`, `unused` of starts."""


@dataclass(frozen=True, kw_only=True)
class RoomCounted:
    """The server made room for another one, or was refused because there never is room for it."""

    outcome: RoomOutcome


RunEvent = RunOpened | RunReady | RunClosed | ContextCounted | RoomCounted


@dataclass(frozen=True, kw_only=True)
class Change:
    """A step of one server, stored in one transaction."""

    snapshot: LlamaStatus
    identity: Identity | None
    generation: int
    """The last generation the supervisor acted on."""
    run_events: tuple[RunEvent, ...] = ()
    spans: tuple[SpanBegan, ...] = ()
    """Times of another state that began, in order."""
    port: int | None = None
    """Port of the newest process that took another's place; None: the configured one."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """Record of a server that the last supervisor left."""

    version: int = 0
    generation: int = 0
    status: Status = Status.INITIAL
    seen_at: float | None = None
    """Unix seconds of the last look of the last supervisor."""
    down_since: float | None = None
    """`LlamaStatus.down_since`."""
    retries: int = 0
    deaths: tuple[int, ...] = ()
    """Pids of the processes that ended last, newest last."""
    failure: Failure | None = None
    identity: Identity | None = None
    """Identity of the process whose run is still open."""
    run_open: bool = False
    adopted: bool = False
    argv: tuple[str, ...] = ()
    """Command line of that process; empty when it was adopted."""
    secrets: str = ""
    """`ServerConfig.secrets` of that process; empty: nobody knows."""
    runs: tuple[RunSummary, ...] = ()
    replacement: Replacement | None = None
    """Restart without a gap that was under way."""
    port: int | None = None
    """`Change.port`."""
    last_good: Mapping[str, Any] | None = None
    """The `launch` of the last run that reached ready."""
    holds_turn: bool = False
    """The last supervisor had acquired its turn to restart."""
    loads: tuple[tuple[tuple[str, ...], float], ...] = ()
    """Last starts that reached ready, newest first: what was started, and seconds until ready."""
