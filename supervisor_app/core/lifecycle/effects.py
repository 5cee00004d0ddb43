"""Effects: what a decision asks for. A slow effect is answered by an event of the same attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.evidence import ExitReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.loaded import Loaded, RoomOutcome
    from supervisor_app.core.sightings import Exit, Identity, PortHolder
    from supervisor_app.core.status import Failure


@dataclass(frozen=True)
class InspectPort:
    attempt: int


@dataclass(frozen=True)
class AskRoom:
    """Ask for room in memory for the process to be spawned."""

    attempt: int


@dataclass(frozen=True)
class Spawn:
    attempt: int


@dataclass(frozen=True)
class Adopt:
    attempt: int
    holder: PortHolder
    adopted: bool = True
    """False: a supervisor of ours spawned it."""
    recorded: bool = False
    """The run of the process is open already."""


@dataclass(frozen=True)
class CheckHealth:
    attempt: int


@dataclass(frozen=True)
class ReadModels:
    attempt: int


@dataclass(frozen=True)
class ReadModelsAgain:
    """Read the models of a serving server again: a router loads and unloads them, and finds new ones."""

    attempt: int


@dataclass(frozen=True)
class Terminate:
    attempt: int


@dataclass(frozen=True)
class SaveContext:
    """Save the idle conversations before the end, within `seconds`."""

    attempt: int
    seconds: float


@dataclass(frozen=True)
class CountContext:
    """Count conversations that were kept or lost, for the metrics."""

    counts: Mapping[str, int]
    """`core.ports.ContextCounted.counts`."""


@dataclass(frozen=True)
class CountRoom:
    """Count a decision about the server's room in memory, for the metrics."""

    outcome: RoomOutcome


@dataclass(frozen=True)
class Kill:
    attempt: int


@dataclass(frozen=True)
class Forget:
    """Stop watching the process, leave it running."""


@dataclass(frozen=True)
class CheckActivity:
    """Is it working, and does it get on?"""

    attempt: int
    busy: bool
    """The server was busy at the last look: ask for its slots without further reason."""
    ask: bool = True
    """False: nobody wants to know what its slots do."""


@dataclass(frozen=True)
class CheckRequests:
    """How many requests are in flight?"""

    attempt: int


@dataclass(frozen=True)
class SendCanary:
    """Ask it for one token."""

    attempt: int


@dataclass(frozen=True)
class CheckCause:
    attempt: int
    failure: Failure


@dataclass(frozen=True)
class OpenRun:
    identity: Identity | None
    adopted: bool
    retry: int


@dataclass(frozen=True)
class MarkReady:
    """The open run has reached ready."""

    loaded: Loaded | None = field(default=None, compare=False)
    """Parts of the time that it took; None where that began before us."""


@dataclass(frozen=True)
class CloseRun:
    exit: Exit
    failure: Failure | None
    """Failure of the run; None when the server was asked to end."""
    note: str = ""
    """Why it was asked to."""
    report: ExitReport = field(default_factory=ExitReport)
    """Empty when nobody saw it end."""


@dataclass(frozen=True)
class Log:
    level: int
    """Level of the `logging` module."""
    text: str


DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40

OnProcess = (
    CheckHealth
    | ReadModels
    | ReadModelsAgain
    | SaveContext
    | Terminate
    | Kill
    | CheckActivity
    | CheckRequests
    | SendCanary
)
"""Effects on the process that there is."""
Attempted = InspectPort | Spawn | Adopt | CheckCause | OnProcess
"""Effects that are postponed while our own process is short of something."""
Historic = OpenRun | MarkReady | CloseRun | CountContext | CountRoom
"""Effects that are written down."""
Effect = (
    InspectPort
    | AskRoom
    | Spawn
    | Adopt
    | Forget
    | CheckCause
    | OpenRun
    | MarkReady
    | CloseRun
    | CountContext
    | CountRoom
    | Log
    | OnProcess
)
