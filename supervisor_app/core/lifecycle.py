"""The life of one llama-server as a pure state machine: `decide(state, event, policy, now)`.

It never looks at a clock, a process or a network. The runner (`core.supervisor`) turns what happens into
events, performs the effects in order, and calls `decide` with a `Tick` when `State.deadline` has come.
Every effect that will be answered carries `attempt`; an answer to an older attempt is ignored, so a slow
reply can never move a server that has gone on.

    initial --start--> starting --200 from our process, models read--> ready
    starting|ready --exit, never ready, hung--> crashed --backoff over--> starting
    crashed --retries used up--> error          starting --permanent failure--> error
    error --start | config changed | the cause is gone--> starting
    any --stop--> stopping --gone--> initial
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import assert_never

from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.ports import Exit, Health, Identity, PortHolder
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import Failure, FailureKind, Model, Status

CAUSE_INTERVAL = 2.0
"""Seconds between two looks at whether the cause of a permanent failure is gone."""


class Phase(Enum):
    """What exactly is going on inside a status. Only the runner and the sentences look at it."""

    IDLE = auto()
    """No process, nothing planned: initial, error."""
    INSPECTING = auto()
    """Asked who listens on the port."""
    SPAWNING = auto()
    """Asked for a process, spawned or adopted; it may exist before we hear of it."""
    WAITING = auto()
    """It lives, /health is not 200 yet."""
    READING_MODELS = auto()
    SERVING = auto()
    ENDING = auto()
    """SIGTERM sent; SIGKILL when `kill_at` comes."""
    BACKOFF = auto()
    """No process; the next try comes at `retry_at`."""


HAS_PROCESS = frozenset({Phase.WAITING, Phase.READING_MODELS, Phase.SERVING, Phase.ENDING})
PHASES: dict[Status, frozenset[Phase]] = {
    Status.INITIAL: frozenset({Phase.IDLE}),
    Status.STARTING: frozenset({Phase.INSPECTING, Phase.SPAWNING, Phase.WAITING, Phase.READING_MODELS}),
    Status.READY: frozenset({Phase.SERVING}),
    Status.CRASHED: frozenset({Phase.ENDING, Phase.BACKOFF}),
    Status.ERROR: frozenset({Phase.IDLE}),
    Status.STOPPING: frozenset({Phase.SPAWNING, Phase.ENDING}),
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthPolicy = field(default_factory=HealthPolicy)


@dataclass(frozen=True, kw_only=True)
class State:
    """Where one server stands. Times ending in `_at` are monotonic seconds; None means no deadline."""

    status: Status = Status.INITIAL
    phase: Phase = Phase.IDLE
    attempt: int = 0
    identity: Identity | None = None
    adopted: bool = False
    retries: int = 0
    failure: Failure | None = None
    """Of the last life; kept until the next one is ready."""
    models: tuple[Model, ...] = ()
    checks: int = 0
    misses: int = 0
    loading: bool = False
    """It has answered 503 "Loading model"."""
    start_next: bool = False
    """When the process that is ending is gone, start again."""
    spare_adopted: bool = False
    """A stop came while the process was on its way: if it turns out to be adopted, let it live."""
    was_ready: bool = False
    """This life has been ready: what it dies of is not a permanent failure."""
    note: str = ""
    """Why somebody made it so, in words: "The configuration changed"."""
    probe_at: float | None = None
    silent_at: float | None = None
    load_until_at: float | None = None
    stable_at: float | None = None
    kill_at: float | None = None
    retry_at: float | None = None
    cause_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `Tick` is due."""
        times = (
            self.probe_at,
            self.silent_at,
            self.load_until_at,
            self.stable_at,
            self.kill_at,
            self.retry_at,
            self.cause_at,
        )
        return min((time for time in times if time is not None), default=None)


# --- Events: what happened -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """Somebody wants it to run; counts retries from 0 again. On a server that runs: nothing."""

    note: str = ""


@dataclass(frozen=True)
class Resume:
    """A process of the last supervisor lives on: take it over by identity, its history continues."""

    holder: PortHolder
    adopted: bool
    retries: int


@dataclass(frozen=True)
class Stop:
    note: str = ""
    spare_adopted: bool = False
    """Leave a server running that we did not start ourselves: for our own end, not for a user's wish."""


@dataclass(frozen=True)
class Restart:
    note: str = ""


@dataclass(frozen=True)
class ConfigChanged:
    """What to launch is another thing now. A stopped server stays stopped."""

    note: str = "The configuration changed."


@dataclass(frozen=True)
class Inspected:
    attempt: int
    holder: PortHolder | None


@dataclass(frozen=True)
class Spawned:
    attempt: int
    identity: Identity | None
    adopted: bool = False
    resumed: bool = False
    """Its run is open already."""


@dataclass(frozen=True)
class SpawnFailed:
    attempt: int
    failure: Failure


@dataclass(frozen=True)
class Exited:
    attempt: int
    exit: Exit
    failure: Failure


@dataclass(frozen=True)
class SignalDenied:
    attempt: int


@dataclass(frozen=True)
class HealthChecked:
    attempt: int
    health: Health
    ours: bool = True
    """The listening socket belongs to our process."""


@dataclass(frozen=True)
class ModelsRead:
    attempt: int
    models: tuple[Model, ...]
    warning: str = ""


@dataclass(frozen=True)
class CauseChecked:
    attempt: int
    gone: bool


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Start
    | Resume
    | Stop
    | Restart
    | ConfigChanged
    | Inspected
    | Spawned
    | SpawnFailed
    | Exited
    | SignalDenied
    | HealthChecked
    | ModelsRead
    | CauseChecked
    | Tick
)


# --- Effects: what to do about it ----------------------------------------------------------------------


@dataclass(frozen=True)
class InspectPort:
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
    resumed: bool = False


@dataclass(frozen=True)
class CheckHealth:
    attempt: int


@dataclass(frozen=True)
class ReadModels:
    attempt: int


@dataclass(frozen=True)
class Terminate:
    attempt: int


@dataclass(frozen=True)
class Kill:
    attempt: int


@dataclass(frozen=True)
class Forget:
    """Stop watching the process, leave it running."""


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


@dataclass(frozen=True)
class CloseRun:
    exit: Exit
    failure: Failure | None
    """None when it was asked to end."""


@dataclass(frozen=True)
class Log:
    level: int
    """Of the `logging` module."""
    text: str


DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40

Effect = (
    InspectPort
    | Spawn
    | Adopt
    | CheckHealth
    | ReadModels
    | Terminate
    | Kill
    | Forget
    | CheckCause
    | OpenRun
    | MarkReady
    | CloseRun
    | Log
)
Decision = tuple[State, list[Effect]]


# --- The decision --------------------------------------------------------------------------------------


def decide(state: State, event: Event, policy: Policy, now: float) -> Decision:
    """The next state and what to do, given what happened. `now` is monotonic seconds."""
    if isinstance(event, Tick):
        return _tick(state, policy, now)
    if isinstance(event, Start | Resume | Stop | Restart | ConfigChanged):
        return _command(state, event, policy, now)
    if event.attempt != state.attempt:
        return state, []
    return _answer(state, event, policy, now)


def _command(
    state: State, event: Start | Resume | Stop | Restart | ConfigChanged, policy: Policy, now: float
) -> Decision:
    match event:
        case Start():
            return _start(state, event.note)
        case Resume():
            return _resume(state, event)
        case Restart():
            return _restart(state, event.note, policy, now)
        case ConfigChanged():
            if state.status in (Status.INITIAL, Status.STOPPING):
                return state, []
            return _restart(state, event.note, policy, now)
        case Stop():
            return _stop(state, event, policy, now)
        case _ as never:
            assert_never(never)


def _answer(state: State, event: Event, policy: Policy, now: float) -> Decision:
    match event:
        case Inspected() if state.phase is Phase.INSPECTING:
            return _inspected(state, event.holder, policy, now)
        case Spawned() if state.phase is Phase.SPAWNING:
            return _spawned(state, event, policy, now)
        case SpawnFailed() if state.phase is Phase.SPAWNING:
            if state.status is Status.STOPPING:
                return _ended(state)
            return _failed(state, event.failure, policy, now)
        case Exited() if state.phase in HAS_PROCESS:
            return _exited(state, event, policy, now)
        case SignalDenied() if state.phase is Phase.ENDING:
            return _signal_denied(state, policy, now)
        case HealthChecked() if state.phase is Phase.WAITING:
            return _checked_while_starting(state, event, policy, now)
        case HealthChecked() if state.phase is Phase.SERVING:
            return _checked_while_serving(state, event, policy, now)
        case ModelsRead() if state.phase is Phase.READING_MODELS:
            return _models_read(state, event, policy, now)
        case CauseChecked() if state.status is Status.ERROR:
            return _cause_checked(state, event.gone, now)
        case _:
            return state, []


# --- Commands ------------------------------------------------------------------------------------------


def _begin(state: State, note: str = "") -> Decision:
    """A new try, from the question who listens on the port."""
    attempt = state.attempt + 1
    begun = State(
        status=Status.STARTING,
        phase=Phase.INSPECTING,
        attempt=attempt,
        retries=state.retries,
        failure=state.failure,
        note=note,
    )
    return begun, [Log(INFO, "🚀 [LLAMA] Starting Llama service..."), InspectPort(attempt)]


def _start(state: State, note: str) -> Decision:
    if state.status in (Status.STARTING, Status.READY):
        return state, []
    if state.phase in (Phase.SPAWNING, Phase.ENDING):
        return replace(state, start_next=True, retries=0, note=note), []
    return _begin(replace(state, retries=0, failure=None), note)


def _resume(state: State, event: Resume) -> Decision:
    if state.status is not Status.INITIAL:
        return state, []
    attempt = state.attempt + 1
    resumed = State(status=Status.STARTING, phase=Phase.SPAWNING, attempt=attempt, retries=event.retries)
    said = Log(INFO, f"🔗 [LLAMA] {event.holder} is still ours: taking it over without a restart.")
    return resumed, [said, Adopt(attempt, event.holder, adopted=event.adopted, resumed=True)]


def _restart(state: State, note: str, policy: Policy, now: float) -> Decision:
    fresh = replace(state, retries=0)
    if state.phase in HAS_PROCESS:
        return _end(replace(fresh, start_next=True, note=note), Status.STOPPING, policy, now)
    if state.phase is Phase.SPAWNING:
        return replace(fresh, status=Status.STOPPING, start_next=True, note=note), []
    return _begin(replace(fresh, failure=None), note)


def _stop(state: State, event: Stop, policy: Policy, now: float) -> Decision:
    calm = replace(state, start_next=False, note=event.note)
    if state.phase is Phase.SPAWNING:
        return replace(calm, status=Status.STOPPING, spare_adopted=event.spare_adopted), []
    if state.phase in HAS_PROCESS:
        if state.adopted and event.spare_adopted:
            return _let_go(calm)
        return _end(calm, Status.STOPPING, policy, now)
    if state.status is Status.INITIAL:
        return state, []
    return State(attempt=state.attempt + 1, note=event.note), []


def _let_go(state: State) -> Decision:
    """Stop watching it and leave its run open: the next supervisor takes it over by identity."""
    said = Log(INFO, "👋 [LLAMA] It was not started here, so it is left running")
    return State(attempt=state.attempt + 1, note=state.note), [said, Forget()]


def _end(state: State, status: Status, policy: Policy, now: float) -> Decision:
    """Ask the process to end, once: SIGTERM now, SIGKILL after the grace."""
    if state.phase is Phase.ENDING:
        return replace(state, status=status), []
    ending = replace(
        state,
        status=status,
        phase=Phase.ENDING,
        kill_at=now + policy.restart.stop_grace_ms / 1000,
        probe_at=None,
        silent_at=None,
        load_until_at=None,
        stable_at=None,
    )
    return ending, [Terminate(state.attempt)]


# --- Starting ------------------------------------------------------------------------------------------


def _inspected(state: State, holder: PortHolder | None, policy: Policy, now: float) -> Decision:
    if holder is None:
        return replace(state, phase=Phase.SPAWNING), [Spawn(state.attempt)]
    if holder.is_llama_server:
        found = Log(INFO, f"🔎 [LLAMA] Found a running llama-server: {holder}. Taking it over.")
        return replace(state, phase=Phase.SPAWNING), [found, Adopt(state.attempt, holder)]
    taken = failure_of(FailureKind.PORT_TAKEN, f"{holder} listens on it")
    return _failed(state, taken, policy, now)


def _spawned(state: State, event: Spawned, policy: Policy, now: float) -> Decision:
    alive = replace(state, phase=Phase.WAITING, identity=event.identity, adopted=event.adopted)
    opened: list[Effect] = [OpenRun(event.identity, event.adopted, state.retries)]
    if event.resumed:
        opened = []
    if state.status is Status.STOPPING:
        if event.adopted and state.spare_adopted:
            after, effects = _let_go(alive)
        else:
            after, effects = _end(alive, Status.STOPPING, policy, now)
        return after, [*opened, *effects]
    # Our own child needs some milliseconds before it listens; an adopted one listens already.
    first_check = now if event.adopted else now + policy.health.starting_interval(0)
    return replace(alive, probe_at=first_check, silent_at=now + policy.health.max_silence), opened


def _checked_while_starting(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
    checks = state.checks + 1
    state = replace(state, checks=checks)
    if event.health is Health.OK and event.ours:
        ready = replace(state, phase=Phase.READING_MODELS, probe_at=None, silent_at=None, load_until_at=None)
        plural = "check" if checks == 1 else "checks"
        return ready, [Log(INFO, f"✅ Server ready after {checks} {plural}"), ReadModels(state.attempt)]
    if event.health is Health.LOADING and event.ours:
        limit = now + policy.health.max_load_seconds
        state = replace(
            state,
            loading=True,
            silent_at=now + policy.health.max_silence,
            load_until_at=state.load_until_at or limit,
        )
    return replace(state, probe_at=now + policy.health.starting_interval(checks)), []


def _models_read(state: State, event: ModelsRead, policy: Policy, now: float) -> Decision:
    count = len(event.models)
    plural = "model" if count == 1 else "models"
    ready = replace(
        state,
        status=Status.READY,
        phase=Phase.SERVING,
        models=event.models,
        was_ready=True,
        failure=None,
        misses=0,
        note=event.warning,
        probe_at=now + policy.health.interval_ms / 1000,
        stable_at=now + policy.restart.stable_after_ms / 1000,
    )
    effects: list[Effect] = [MarkReady()]
    if event.warning:
        effects.append(Log(WARNING, f"⚠️ [LLAMA] {event.warning}"))
    effects += [
        Log(INFO, f"📦 Loaded {count} {plural}"),
        Log(INFO, f"✅ [LLAMA] Service ready with {count} {plural}"),
    ]
    return ready, effects


# --- Serving -------------------------------------------------------------------------------------------


def _checked_while_serving(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
    # 503 "Loading model" after ready: it answers, so it lives (a sleeping server loads again).
    if event.health in (Health.OK, Health.LOADING):
        return replace(state, misses=0, probe_at=now + policy.health.interval_ms / 1000), []
    misses = state.misses + 1
    if misses < policy.health.max_misses:
        return replace(state, misses=misses, probe_at=now + policy.health.interval_ms / 1000), []
    hung = failure_of(FailureKind.HUNG, f"it missed {misses} health checks in a row")
    return _unresponsive(replace(state, misses=misses), hung, policy, now)


def _unresponsive(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """The process lives but is of no use: end it, then treat it like a crash."""
    ending, effects = _end(replace(state, failure=failure), Status.CRASHED, policy, now)
    return ending, [Log(ERROR, f"❌ [LLAMA] {failure.sentence}"), *effects]


# --- Down ----------------------------------------------------------------------------------------------


def _exited(state: State, event: Exited, policy: Policy, now: float) -> Decision:
    said = Log(INFO if state.status is Status.STOPPING else WARNING, f"Process exited with {event.exit}")
    if state.status is Status.STOPPING:
        after, effects = _ended(state)
        return after, [said, CloseRun(event.exit, None), *effects]
    # What we ended ourselves for being hung died of that, not of our signal.
    failure = state.failure if state.phase is Phase.ENDING and state.failure else event.failure
    if state.start_next:
        after, effects = _begin(replace(state, failure=None), state.note)
    else:
        after, effects = _failed(state, failure, policy, now)
    return after, [said, CloseRun(event.exit, failure), *effects]


def _signal_denied(state: State, policy: Policy, now: float) -> Decision:
    """It is not ours to end: let go of it and say so."""
    refused = "It belongs to another user, so it was left running: stop it where it was started."
    said = Log(WARNING, f"⚠️ [LLAMA] {refused}")
    failure = None if state.status is Status.STOPPING else state.failure or failure_of(FailureKind.HUNG)
    forgotten: list[Effect] = [said, Forget(), CloseRun(Exit(), failure)]
    if failure is None:
        after, effects = _ended(replace(state, note=refused))
    else:
        after, effects = _failed(state, failure, policy, now)
    return after, [*forgotten, *effects]


def _ended(state: State) -> Decision:
    """What was asked to stop is gone."""
    if state.start_next:
        return _begin(replace(state, failure=None), state.note)
    stopped = State(attempt=state.attempt + 1, note=state.note)
    return stopped, [Log(INFO, "🛑 [LLAMA] Stopped")]


def _failed(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """There is no process any more: plan the next try, or give up."""
    attempt = state.attempt + 1
    if failure.permanent and not state.was_ready:
        given_up = State(
            status=Status.ERROR,
            attempt=attempt,
            retries=state.retries,
            failure=failure,
            cause_at=now + CAUSE_INTERVAL,
        )
        return given_up, [Log(ERROR, f"❌ [LLAMA] {failure.sentence}. {failure.hint}")]
    limit = policy.restart.max_retries
    if state.retries >= limit:
        given_up = State(status=Status.ERROR, attempt=attempt, retries=state.retries, failure=failure)
        text = (
            f"❌ [LLAMA] {failure.sentence}. Gave up after {limit} retries; start it by hand. {failure.hint}"
        )
        return given_up, [Log(ERROR, text)]
    retry = state.retries + 1
    delay = policy.restart.backoff(retry)
    waiting = State(
        status=Status.CRASHED,
        phase=Phase.BACKOFF,
        attempt=attempt,
        retries=retry,
        failure=failure,
        retry_at=now + delay,
    )
    return waiting, [
        Log(ERROR, f"❌ [LLAMA] {failure.sentence} (retry {retry}/{limit})"),
        Log(INFO, f"🔄 Retry {retry}/{limit} in {round(delay * 1000)}ms"),
    ]


def _cause_checked(state: State, gone: bool, now: float) -> Decision:
    if not gone:
        return replace(state, cause_at=now + CAUSE_INTERVAL), []
    title = state.failure.title if state.failure else "The failure"
    note = f"The cause of “{title}” is gone."
    after, effects = _begin(replace(state, retries=0), note)
    return after, [Log(INFO, f"♻️ [LLAMA] {note}"), *effects]


# --- Time ----------------------------------------------------------------------------------------------


def _tick(state: State, policy: Policy, now: float) -> Decision:
    def due(time: float | None) -> bool:
        return time is not None and now >= time

    if due(state.retry_at):
        return _begin(state)
    if due(state.kill_at):
        killing = Log(WARNING, "⚠️ [LLAMA] It did not end in time: SIGKILL")
        return replace(state, kill_at=None), [killing, Kill(state.attempt)]
    if due(state.cause_at) and state.failure is not None:
        return replace(state, cause_at=None), [CheckCause(state.attempt, state.failure)]
    if due(state.silent_at):
        silence = f"no answer for {policy.health.max_silence:g} s"
        return _unresponsive(state, failure_of(FailureKind.NEVER_READY, silence), policy, now)
    if due(state.load_until_at):
        loading = f"still loading after {policy.health.max_load_seconds} s"
        return _unresponsive(state, failure_of(FailureKind.NEVER_READY, loading), policy, now)
    effects: list[Effect] = []
    if due(state.stable_at):
        state = replace(state, stable_at=None, retries=0)
    if due(state.probe_at):
        state = replace(state, probe_at=None)
        effects.append(CheckHealth(state.attempt))
    return state, effects
