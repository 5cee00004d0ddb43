"""Events: wishes, answers to effects, and the passing of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.evidence import ExitReport

if TYPE_CHECKING:
    from supervisor_app.core.context.saved import Kept
    from supervisor_app.core.lifecycle.effects import Attempted
    from supervisor_app.core.sightings import Canary, Exit, Health, Identity, PortHolder
    from supervisor_app.core.status import Failure, Model
    from supervisor_app.core.watch.watchdog import Activity


@dataclass(frozen=True)
class Start:
    """A wish that the server runs; counts retries from 0 again. Changes nothing on a server that runs."""

    note: str = ""
    generation: int = 0
    """Generation of the wish; 0: no person has wished it."""
    preload: bool = False
    """Nobody has asked for the server now: no other one goes for it."""


@dataclass(frozen=True)
class Resume:
    """A process of the last supervisor lives on: take it over by identity, its history continues."""

    holder: PortHolder
    adopted: bool
    retries: int
    recorded: bool = True
    """The run of the process is open already."""
    deaths: tuple[int, ...] = ()
    """`State.deaths`."""
    has_served: bool = False
    """The process has been ready before."""


@dataclass(frozen=True)
class Continue:
    """The last supervisor was killed while this server was down: go on from there."""

    given_up: bool
    retries: int
    failure: Failure | None
    deaths: tuple[int, ...] = ()
    """`State.deaths`."""


@dataclass(frozen=True)
class Stop:
    note: str = ""
    spare_adopted: bool = False
    """Leave a server running that we did not start ourselves: for our own end, not for a user's wish."""
    generation: int = 0
    at_once: bool = False
    """Requests in flight are not waited for."""


@dataclass(frozen=True)
class Restart:
    note: str = ""
    generation: int = 0
    at_once: bool = False
    """`Stop.at_once`."""
    seamless: bool = False
    """The restart is to be without a gap, or not at all: `core.succession` takes such a wish."""


@dataclass(frozen=True)
class ConfigChanged:
    """The configuration of the launch has changed. A stopped server stays stopped."""

    note: str = "The configuration changed."


@dataclass(frozen=True)
class Explained:
    """Pids that a request in quarantine has killed: their deaths use up no retry."""

    pids: frozenset[int]


@dataclass(frozen=True)
class Inspected:
    attempt: int
    holder: PortHolder | None


@dataclass(frozen=True)
class PortAwaited:
    """Answer that the port is another server's for a moment: it is looked at again."""

    attempt: int
    why: str
    """Reason, as a sentence."""


@dataclass(frozen=True)
class RoomGiven:
    """All that the server needs is free, and kept for it."""

    attempt: int
    remark: str = ""
    """Doubt that people should read, as a sentence."""
    made_room: tuple[str, ...] = ()
    """Names of the servers that ended for it."""


@dataclass(frozen=True)
class RoomAwaited:
    """Answer that no room is free yet."""

    attempt: int
    why: str
    """Reason, as a sentence."""


@dataclass(frozen=True)
class RoomRefused:
    """Answer that no room can ever be made, as the world is now."""

    attempt: int
    failure: Failure


@dataclass(frozen=True)
class NotLoaded:
    """Rest until there is room, or somebody asks for the server: nobody has so far, and no room is free.

    Told once more to a server that rests so: the reason has changed.
    """

    attempt: int
    why: str
    """Reason, as a sentence."""


@dataclass(frozen=True)
class RoomBack:
    """Begin: there is room now for a server that was not loaded for want of it."""

    attempt: int


@dataclass(frozen=True)
class Drain:
    """Take no new requests, and finish those in flight: another server needs the room."""

    attempt: int
    why: str
    """Reason, as a sentence; empty: go on as before."""


@dataclass(frozen=True)
class RequestsSeen:
    """Look at a server that drains."""

    attempt: int
    count: int
    """Number of requests in flight; 1 where that cannot be told."""


@dataclass(frozen=True)
class Unload:
    """Make room for another server, and rest until somebody asks."""

    attempt: int
    note: str
    """Sentence for the history."""
    why: str
    """Sentence for as long as it rests."""


@dataclass(frozen=True)
class Spawned:
    attempt: int
    identity: Identity | None
    adopted: bool = False
    resumed: bool = False
    """The run of the process is open already."""


@dataclass(frozen=True)
class SpawnFailed:
    attempt: int
    failure: Failure


@dataclass(frozen=True)
class Gone:
    """The process has ended, and its memory is back. `Exited` follows, with what its traces tell."""

    attempt: int


@dataclass(frozen=True)
class Exited:
    attempt: int
    exit: Exit
    failure: Failure
    report: ExitReport = field(default_factory=ExitReport)


@dataclass(frozen=True)
class SignalDenied:
    attempt: int


@dataclass(frozen=True)
class HealthChecked:
    attempt: int
    health: Health
    ours: bool = True
    """The listening socket belongs to our process."""
    asked_at: float = inf
    """Monotonic seconds."""
    computing: bool = False
    """The server was silent, but its process computes: some builds answer nothing during a long prompt."""


@dataclass(frozen=True)
class Postponed:
    """An effect was not carried out for want of our own resources: that says nothing about the server."""

    attempt: int
    effect: Attempted
    why: str
    """Reason, as part of a sentence."""
    since: float
    """Time at which the effect was begun, monotonic seconds."""


@dataclass(frozen=True)
class Unobserved:
    """Our own process did not run for so long: stopped, frozen or starved."""

    seconds: float


@dataclass(frozen=True)
class Fetching:
    """The server fetches its model itself, and got on with that since the last look."""

    attempt: int
    fetched: int
    """Bytes so far, or another measure that only grows while it gets on."""


@dataclass(frozen=True)
class ModelsRead:
    attempt: int
    models: tuple[Model, ...]
    warnings: tuple[str, ...] = ()
    """Faults of a server that serves all the same, as sentences."""
    memory: int = 0
    """Bytes that it uses; 0 when nobody can tell."""
    context: Kept | None = None
    """Result of restoring its conversations; None: they are not kept."""


@dataclass(frozen=True)
class ContextSaved:
    """The conversations are saved, as far as they can be: now the process may end."""

    attempt: int
    kept: Kept


@dataclass(frozen=True)
class ContextJudged:
    """Judgement on whether the restored conversations were of use."""

    attempt: int
    used: int
    """Tokens that were not computed again; 0: they were of no use."""
    answers: int
    """Number of answers that were looked at."""


@dataclass(frozen=True)
class ModelsReadAgain:
    attempt: int
    models: tuple[Model, ...] | None
    """Models of the server; None: it did not say."""


@dataclass(frozen=True)
class ActivitySeen:
    attempt: int
    activity: Activity


@dataclass(frozen=True)
class CanarySeen:
    attempt: int
    canary: Canary
    asked_at: float = inf


@dataclass(frozen=True)
class CauseChecked:
    attempt: int
    gone: bool


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Command = Start | Resume | Continue | Stop | Restart | ConfigChanged
RoomEvent = (
    RoomGiven | RoomAwaited | RoomRefused | NotLoaded | RoomBack | Drain | Unload | RequestsSeen | Gone
)
"""Room in memory: given and taken away, up to what is there again once a process has gone."""
Event = (
    Command
    | RoomEvent
    | Explained
    | Inspected
    | PortAwaited
    | Spawned
    | SpawnFailed
    | Exited
    | SignalDenied
    | HealthChecked
    | ModelsRead
    | ModelsReadAgain
    | ActivitySeen
    | CanarySeen
    | CauseChecked
    | ContextSaved
    | ContextJudged
    | Postponed
    | Fetching
    | Unobserved
    | Tick
)
