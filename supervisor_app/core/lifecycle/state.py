"""The state of one server, and the rules by which it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum, auto
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

from supervisor_app.core.lifecycle.effects import Effect
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import Failure, Model, Status
from supervisor_app.core.watch.watchdog import Watch

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Identity


class Phase(Enum):
    """Phase within a status. Only the runner and the sentences look at it."""

    IDLE = auto()
    """No process, nothing planned: initial, error."""
    INSPECTING = auto()
    """Asked who listens on the port."""
    AWAITING_ROOM = auto()
    """Asked for room in memory, or for a turn to load."""
    SPAWNING = auto()
    """Asked for a process, spawned or adopted; it may exist before we hear of it."""
    WAITING = auto()
    """The process runs; /health is not 200 yet."""
    READING_MODELS = auto()
    SERVING = auto()
    DRAINING = auto()
    """Asked to end by somebody; it finishes its requests until `drain_until_at`."""
    ENDING = auto()
    """SIGTERM sent; SIGKILL when `kill_at` comes."""
    BACKOFF = auto()
    """No process; the next try comes at `retry_at`."""


HAS_PROCESS = frozenset({Phase.WAITING, Phase.READING_MODELS, Phase.SERVING, Phase.DRAINING, Phase.ENDING})
PHASES: dict[Status, frozenset[Phase]] = {
    Status.INITIAL: frozenset({Phase.IDLE}),
    Status.STARTING: frozenset(
        {Phase.INSPECTING, Phase.AWAITING_ROOM, Phase.SPAWNING, Phase.WAITING, Phase.READING_MODELS}
    ),
    Status.READY: frozenset({Phase.SERVING}),
    Status.CRASHED: frozenset({Phase.ENDING, Phase.BACKOFF}),
    Status.ERROR: frozenset({Phase.IDLE}),
    Status.STOPPING: frozenset({Phase.SPAWNING, Phase.DRAINING, Phase.ENDING}),
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    keeps_context: bool = False
    """The server's conversations are saved before an end that somebody asked for."""
    room: bool = False
    """Servers share the memory of the node: room is asked for before a process is spawned."""
    in_turn: bool = False
    """More servers than may load at a time: a turn to load is asked for in the same way."""
    beside: bool = False
    """The process runs beside the server's own: no failure of it is followed by another try."""
    adopts: bool = True
    """People named its port: a llama-server of a trusted user there is taken over, whoever started it."""
    spread: float = 0.0
    """Seconds by which a retry is later than its pause: others went down, too (`tries.spread`)."""

    @property
    def asks(self) -> bool:
        return self.room or self.in_turn


@dataclass(frozen=True, kw_only=True)
class State:
    """State of one server. Times ending in `_at` are monotonic seconds; None means no deadline."""

    status: Status = Status.INITIAL
    phase: Phase = Phase.IDLE
    attempt: int = 0
    identity: Identity | None = None
    adopted: bool = False
    retries: int = 0
    """Number of retries that are used. One more than the policy allows: they are used up, and it goes on
    slowly (`RestartPolicy.retry_forever`)."""
    deaths: tuple[int, ...] = ()
    """Pids of the processes that ended last, newest last; 0 for a start without a process."""
    failure: Failure | None = None
    """Value of the last run; kept until the next run is ready."""
    models: tuple[Model, ...] = ()
    checks: int = 0
    misses: int = 0
    fetched: int | None = None
    """Bytes of the model that it fetches itself; None while it is not known to fetch any."""
    computing: bool = False
    """The server was silent at the last check, while its process computed."""
    loading: bool = False
    """The last answer was 503 "Loading model"."""
    warnings: tuple[str, ...] = ()
    """Faults of a server that serves all the same, as sentences."""
    log_trouble: str = ""
    """Fate of the log file, as a sentence; empty while the file is in its place."""
    memory: int = 0
    """Bytes it used at the last look."""
    fits: bool = False
    """This run has used less memory than its limit since it was ready: a restart would help."""
    rearms: int = 0
    """Starts in a row, without a run that was stable, because the cause of a failure was gone."""
    start_next: bool = False
    """Start again when the process that is ending is gone."""
    spare_adopted: bool = False
    """A stop came while the process was on its way: if it turns out to be adopted, let it live."""
    wished: bool = False
    """Somebody has asked for this start, and it was not ready since: others may go for it."""
    has_room: bool = False
    """Room was given to this try."""
    awaits: str = ""
    """Reason for which it has no port or no room yet, as a sentence."""
    draining: str = ""
    """Reason for which it takes no new requests, as a sentence."""
    unloaded: str = ""
    """Reason for which it is not loaded although it is to run, as a sentence: the next request loads it."""
    no_room: bool = False
    """The server is not loaded because there was no room for it, and begins once there is some."""
    asks_since: float | None = None
    """Monotonic seconds at which this try asked for room; None: it has not."""
    loads_since: float | None = None
    """Monotonic seconds at which the way to its process was free; None: it was not spawned by us."""
    made_room: tuple[str, ...] = ()
    """Names of the servers that ended for this try."""
    spread: float = 0.0
    """`Policy.spread`, as long as the retry is waited for."""
    more_room: bool = False
    """Memory ran out, and it is tried again with more room."""
    gone: bool = False
    """The process that was asked to end has; what its traces tell is not known yet."""
    was_ready: bool = False
    """This run has been ready: its death is no permanent failure."""
    has_served: bool = False
    """The process was ready under the last supervisor: it may have requests, whatever is known of it yet."""
    is_outdated: bool = False
    """The configuration has changed while the process drains."""
    in_flight: int | None = None
    """Requests in flight at the last look while it drains; None: nobody has looked."""
    drain_seconds: int = 0
    """Seconds that were left for them then."""
    context: str = ""
    """Fate of the conversations that were to be restored, in sentences."""
    note: str = ""
    """Why somebody made it so, in words: "The configuration changed"."""
    probe_at: float | None = None
    silent_at: float | None = None
    load_until_at: float | None = None
    stable_at: float | None = None
    drain_until_at: float | None = None
    """Requests in flight have time until then."""
    look_at: float | None = None
    """Time of the next look at them."""
    save_until_at: float | None = None
    """The conversations are being saved: the process is asked to end no later than then."""
    kill_at: float | None = None
    retry_at: float | None = None
    cause_at: float | None = None
    activity_at: float | None = None
    models_at: float | None = None
    over_since: float | None = None
    """The server uses more memory than its limit."""
    watch: Watch = field(default_factory=Watch)
    postponed: tuple[Effect, ...] = ()
    """Effects that we were too short of something for; tried again at `again_at`."""
    again_at: float | None = None
    hindered: str = ""
    """Our own shortage, now or a moment ago, as part of a sentence: the server is not to blame."""
    free_at: float | None = None
    """Time from which we are hindered no more, unless something has to be postponed until then."""
    resumed_at: float = -inf
    """End of the last time in which we did not run: what was asked before is no evidence."""

    @property
    def shown(self) -> tuple[object, ...]:
        """All but the `UNSEEN` fields."""
        return _SHOWN(self)

    @property
    def is_drained(self) -> bool:
        """Is it to finish its requests before a planned end? Also before it is seen again after a kill."""
        return self.phase is Phase.DRAINING or (self.status is Status.STOPPING and self.has_served)

    @property
    def deadline(self) -> float | None:
        """Time at which `Tick` is due."""
        times = [time for time in _DEADLINES(self) if time is not None]
        return min(times) if times else None


_DEADLINES = attrgetter(
    "probe_at",
    "silent_at",
    "load_until_at",
    "stable_at",
    "drain_until_at",
    "look_at",
    "save_until_at",
    "kill_at",
    "retry_at",
    "cause_at",
    "activity_at",
    "again_at",
    "free_at",
    "models_at",
)
"""Moments of a state, of which the earliest is its deadline: asked for in each step of each server."""
UNSEEN = frozenset(
    {"checks", "watch", "over_since", *(each.name for each in fields(State) if each.name.endswith("_at"))}
) - {"retry_at"}
"""Fields of which nobody is told while a server is looked at."""
_SHOWN = attrgetter(*(each.name for each in fields(State) if each.name not in UNSEEN))

Decision = tuple[State, list[Effect]]
