"""The steps of a life: each takes the state and returns the next one with its effects."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from supervisor_app.core.diagnosis import amount, failure_of
from supervisor_app.core.incidents import spell
from supervisor_app.core.lifecycle.effects import (
    ERROR,
    INFO,
    WARNING,
    Adopt,
    CloseRun,
    Effect,
    Forget,
    InspectPort,
    Log,
    MarkReady,
    OpenRun,
    ReadModels,
    SendCanary,
    Spawn,
    Terminate,
)
from supervisor_app.core.lifecycle.events import (
    Exited,
    Fetching,
    HealthChecked,
    ModelsRead,
    ModelsReadAgain,
    Spawned,
)
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.sightings import Canary, Exit, Health, PortHolder
from supervisor_app.core.status import Failure, FailureKind, Status
from supervisor_app.core.watchdog import (
    BUSY_INTERVAL,
    CANARIES,
    CPU_EXTENDS,
    IDLE_INTERVAL,
    Activity,
    Verdict,
    Watch,
    canary_due,
    hear,
    look,
)

CAUSE_INTERVAL = 2.0
"""Seconds between two looks at whether the cause of a permanent failure is gone."""
MODELS_INTERVAL = 10.0
"""Seconds between two looks at which models a router has, and which of them are loaded."""
MAX_DEATHS = 50
"""Of which the pids are remembered."""
NO_PID = 0
KILLED = "A request that killed it is in quarantine."
DRAIN_SECONDS = 60.0
"""How long a server over its memory limit may go on with what it is doing."""


def begin(state: State, note: str = "") -> Decision:
    """A new try, from the question who listens on the port."""
    attempt = state.attempt + 1
    begun = State(
        status=Status.STARTING,
        phase=Phase.INSPECTING,
        attempt=attempt,
        retries=state.retries,
        deaths=state.deaths,
        failure=state.failure,
        rearms=state.rearms,
        note=note,
    )
    return begun, [Log(INFO, "🚀 [LLAMA] Starting Llama service..."), InspectPort(attempt)]


def end(state: State, status: Status, policy: Policy, now: float) -> Decision:
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
        activity_at=None,
        models_at=None,
        over_since=None,
        postponed=(),
        again_at=None,
    )
    return ending, [Terminate(state.attempt)]


def let_go(state: State) -> Decision:
    """Stop watching it and leave its run open: the next supervisor takes it over by identity."""
    said = Log(INFO, "👋 [LLAMA] It was not started here, so it is left running")
    return State(attempt=state.attempt + 1, note=state.note), [said, Forget()]


def ended(state: State) -> Decision:
    """What was asked to stop is gone."""
    if state.start_next:
        return begin(replace(state, failure=None), state.note)
    stopped = State(attempt=state.attempt + 1, note=state.note)
    return stopped, [Log(INFO, "🛑 [LLAMA] Stopped")]


def cause_interval(rearms: int, policy: Policy) -> float:
    """Seconds until the first look: whatever changes all the time must not start the server all the time."""
    return max(CAUSE_INTERVAL, policy.restart.backoff(rearms) if rearms else 0.0)


def failed(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """There is no process any more: plan the next try, or give up."""
    attempt = state.attempt + 1
    pid = state.identity.pid if state.identity is not None else NO_PID
    deaths = (*state.deaths, pid)[-MAX_DEATHS:]
    if failure.permanent and not state.was_ready:
        given_up = State(
            status=Status.ERROR,
            attempt=attempt,
            retries=state.retries,
            deaths=deaths,
            failure=failure,
            rearms=state.rearms,
            cause_at=now + cause_interval(state.rearms, policy),
        )
        return given_up, [Log(ERROR, f"❌ [LLAMA] {failure.sentence}. {failure.hint}")]
    if failure.kind is FailureKind.DOWNLOAD_FAILED:
        return until_fetched(replace(state, deaths=deaths, failure=failure), policy, now)
    limit = policy.restart.max_retries
    if state.retries >= limit and policy.restart.retry_forever:
        return slowly(replace(state, deaths=deaths, failure=failure), policy, now)
    if state.retries >= limit:
        given_up = State(
            status=Status.ERROR, attempt=attempt, retries=state.retries, deaths=deaths, failure=failure
        )
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
        deaths=deaths,
        failure=failure,
        rearms=state.rearms,
        retry_at=now + delay,
    )
    return waiting, [
        Log(ERROR, f"❌ [LLAMA] {failure.sentence} (retry {retry}/{limit})"),
        Log(INFO, f"🔄 Retry {retry}/{limit} in {round(delay * 1000)}ms"),
    ]


def until_fetched(state: State, policy: Policy, now: float) -> Decision:
    """The network is away: that uses up no retry, however long it takes."""
    pause = policy.restart.backoff(state.rearms + 1)
    waiting = State(
        status=Status.CRASHED,
        phase=Phase.BACKOFF,
        attempt=state.attempt + 1,
        retries=state.retries,
        deaths=state.deaths,
        failure=state.failure,
        rearms=state.rearms + 1,
        retry_at=now + pause,
    )
    why = state.failure.sentence if state.failure is not None else "Its model could not be downloaded"
    return waiting, [Log(ERROR, f"❌ [LLAMA] {why}. It is tried again in {pause:g} s")]


def slowly(state: State, policy: Policy, now: float) -> Decision:
    """The retries are used up, and it is to go on all the same."""
    limit, pause = policy.restart.max_retries, policy.restart.slow_backoff
    waiting = State(
        status=Status.CRASHED,
        phase=Phase.BACKOFF,
        attempt=state.attempt + 1,
        retries=limit + 1,
        deaths=state.deaths,
        failure=state.failure,
        retry_at=now + pause,
    )
    why = state.failure.sentence if state.failure is not None else "It went down"
    return waiting, [
        Log(ERROR, f"❌ [LLAMA] {why}. Its {limit} retries are used up"),
        Log(INFO, f"🔄 It is tried again every {spell(pause)} (retry_forever)"),
    ]


def explained(state: State, pids: frozenset[int], policy: Policy, now: float) -> Decision:
    """Give back the retries that these processes used up: they died of a request, not by themselves."""
    given_up = state.status is Status.ERROR and state.failure is not None and not state.failure.permanent
    # The death that made it give up, or go on slowly, is counted by no retry.
    counted = state.retries + (1 if given_up else 0)
    found = sum(pid in pids for pid in state.deaths[len(state.deaths) - counted :]) if counted else 0
    if not found:
        return state, []
    deaths = tuple(pid for pid in state.deaths if pid not in pids)
    known = replace(state, retries=max(0, counted - found), deaths=deaths)
    times = "time" if found == 1 else "times"
    said = Log(INFO, f"♻️ [LLAMA] {KILLED} It died {found} {times} of it, which uses up no retry.")
    if given_up:
        after, effects = begin(known, KILLED)
        return after, [said, *effects]
    if known.phase is Phase.BACKOFF and known.retry_at is not None:
        soon = now + policy.restart.backoff(known.retries)
        known = replace(known, note=KILLED, retry_at=min(known.retry_at, soon))
    return known, [said]


def inspected(state: State, holder: PortHolder | None, policy: Policy, now: float) -> Decision:
    if holder is None:
        return replace(state, phase=Phase.SPAWNING), [Spawn(state.attempt)]
    if holder.is_llama_server:
        found = Log(INFO, f"🔎 [LLAMA] Found a running llama-server: {holder}. Taking it over.")
        adopting = Adopt(state.attempt, holder, adopted=not holder.ours)
        return replace(state, phase=Phase.SPAWNING), [found, adopting]
    return failed(state, port_taken(holder), policy, now)


def port_taken(holder: PortHolder) -> Failure:
    taken = failure_of(FailureKind.PORT_TAKEN, holder.problem or f"{holder} listens on it")
    if not holder.foreign_user:
        return taken
    why = f"{holder} listens on it, of the user {holder.foreign_user}, who could read all requests"
    hint = f"{taken.hint} If that user is meant to serve here, name it in llama_server_users."
    return replace(taken, detail=why, hint=hint)


def spawned(state: State, event: Spawned, policy: Policy, now: float) -> Decision:
    alive = replace(state, phase=Phase.WAITING, identity=event.identity, adopted=event.adopted)
    opened: list[Effect] = [OpenRun(event.identity, event.adopted, state.retries)]
    if event.resumed:
        opened = []
    if state.status is Status.STOPPING:
        if event.adopted and state.spare_adopted:
            after, effects = let_go(alive)
        else:
            after, effects = end(alive, Status.STOPPING, policy, now)
        return after, [*opened, *effects]
    # Our own child needs some milliseconds before it listens; an adopted one listens already.
    first_check = now if event.adopted else now + policy.health.starting_interval(0)
    return replace(alive, probe_at=first_check, silent_at=now + policy.health.max_silence), opened


def checked_while_starting(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
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
    elif event.computing:  # as one that was taken over in the middle of a long prompt does
        limit = now + max(policy.health.max_load_seconds, policy.health.stall_seconds * CPU_EXTENDS)
        state = replace(
            state,
            silent_at=now + policy.health.max_silence,
            load_until_at=state.load_until_at or limit,
        )
    return replace(state, probe_at=now + policy.health.starting_interval(checks)), []


def fetching(state: State, event: Fetching, policy: Policy, now: float) -> Decision:
    """A download may take as long as it takes, if only it gets on."""
    said = []
    if not state.fetched and event.fetched:
        said = [Log(INFO, "⬇️ [LLAMA] It is downloading its model")]
    return replace(state, fetched=event.fetched, silent_at=now + policy.health.max_silence), [*said]


def why_silent(state: State, policy: Policy) -> Failure:
    """Of a start without an answer."""
    seconds = f"{policy.health.max_silence:g} s"
    if state.fetched is not None and not state.loading:
        moved = f"its download stands still for {seconds}" if state.fetched else f"nothing came for {seconds}"
        return failure_of(FailureKind.DOWNLOAD_FAILED, moved)
    return failure_of(FailureKind.NEVER_READY, f"no answer for {seconds}")


def models_read(state: State, event: ModelsRead, policy: Policy, now: float) -> Decision:
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
        loading=False,
        note="",
        warnings=event.warnings,
        memory=event.memory,
        fits=0 < event.memory <= policy.health.max_memory,
        probe_at=now + policy.health.interval_ms / 1000,
        stable_at=now + policy.restart.stable_after_ms / 1000,
        activity_at=now + IDLE_INTERVAL,
        models_at=now + MODELS_INTERVAL if any(model.comes_and_goes for model in event.models) else None,
        watch=Watch(moved_at=now, seen_at=now, quiet_since=now),
    )
    effects: list[Effect] = [MarkReady()]
    effects += [Log(WARNING, f"⚠️ [LLAMA] {warning}") for warning in event.warnings]
    effects += [
        Log(INFO, f"📦 Loaded {count} {plural}"),
        Log(INFO, f"✅ [LLAMA] Service ready with {count} {plural}"),
    ]
    return ready, effects


def models_read_again(state: State, event: ModelsReadAgain, now: float) -> Decision:
    if state.phase is not Phase.SERVING:
        return state, []
    models = state.models if event.models is None else event.models
    return replace(state, models=models, models_at=now + MODELS_INTERVAL), []


def checked_while_serving(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
    # 503 "Loading model" after ready: it answers, so it lives (a sleeping server loads again).
    if event.health in (Health.OK, Health.LOADING):
        loading = event.health is Health.LOADING
        answered = replace(state, misses=0, loading=loading, computing=False)
        return replace(answered, probe_at=now + policy.health.interval_ms / 1000), []
    misses = state.misses + 1
    state = replace(state, computing=event.computing)
    if event.computing:  # whether that leads to anything is for the watchdog to judge
        misses = min(misses, policy.health.max_misses - 1)
    if misses < policy.health.max_misses:
        return replace(state, misses=misses, probe_at=now + policy.health.interval_ms / 1000), []
    hung = failure_of(FailureKind.HUNG, f"it missed {misses} health checks in a row")
    return unresponsive(replace(state, misses=misses), hung, policy, now)


def activity_seen(state: State, activity: Activity, policy: Policy, now: float) -> Decision:
    watch, verdict = look(state.watch, activity, stall_seconds=policy.health.stall_seconds, now=now)
    if verdict is Verdict.STALLED:
        stuck = f"/health says ok, but its work has not moved for {watch.stalled_for(now):.0f} s"
        return unresponsive(replace(state, watch=watch), failure_of(FailureKind.HUNG, stuck), policy, now)
    seen = replace(
        state,
        watch=watch,
        memory=activity.memory,
        log_trouble=activity.log_trouble,
        activity_at=now + watch.interval,
    )
    after, effects = memory_seen(seen, activity, policy, now)
    if activity.log_trouble and activity.log_trouble != state.log_trouble:
        effects = [Log(WARNING, f"⚠️ [LLAMA] {activity.log_trouble}"), *effects]
    if after.phase is Phase.SERVING and canary_due(watch, policy.health.canary_minutes, now):
        after, more = without_proof(after, policy, now)
        effects = [*effects, *more]
    return after, effects


def without_proof(state: State, policy: Policy, now: float) -> Decision:
    """Idle for so long that it may hang for all we know: ask it, unless it has kept silent already."""
    if state.watch.silent_canaries < CANARIES:
        # The next look is when the answer is there: the canary itself would be taken for work.
        return replace(state, activity_at=None), [SendCanary(state.attempt)]
    silence = f"/health says ok, but it gave no token within {policy.health.canary_timeout:g} s, twice"
    return unresponsive(state, failure_of(FailureKind.HUNG, silence), policy, now)


def canary_seen(state: State, canary: Canary, policy: Policy, now: float) -> Decision:
    watch = hear(state.watch, canary, now)
    seen = replace(state, watch=watch, activity_at=now + watch.interval)
    match canary:
        case Canary.SILENT:
            # First a look whether it has got work meanwhile: then the canary had to wait, and is forgotten.
            said = f"⚠️ [LLAMA] It is idle, but gave no token within {policy.health.canary_timeout:g} s"
            return replace(seen, activity_at=now), [Log(WARNING, said)]
        case Canary.UNSUPPORTED:
            return seen, [Log(INFO, "[LLAMA] It does not complete text, so it is not asked for a token")]
        case Canary.FINE:
            return seen, []
        case _ as never:
            assert_never(never)


def memory_seen(state: State, activity: Activity, policy: Policy, now: float) -> Decision:
    """Over its limit: let it finish what it does, then restart it. That mends only what has grown."""
    limit = policy.health.max_memory
    if not limit or activity.memory <= limit:
        return replace(state, fits=state.fits or activity.memory > 0, over_since=None), []
    used = f"It used {amount(activity.memory)}, over its limit of {amount(limit)}."
    if state.over_since is None:
        then = "It is restarted as soon as it is idle." if state.fits else "It needs as much from its start."
        said = [Log(WARNING, f"⚠️ [LLAMA] {used} {then}")]
        state = replace(state, over_since=now)
    else:
        said = []
    if not state.fits:
        return state, [*said]
    busy = activity.busy or not activity.answered
    if busy and now - (state.over_since or now) < DRAIN_SECONDS:
        return replace(state, activity_at=now + BUSY_INTERVAL), [*said]
    again = replace(state, retries=0, start_next=True, note=used)
    after, effects = end(again, Status.STOPPING, policy, now)
    return after, [*said, *effects]


def unresponsive(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """The process lives but is of no use: end it, then treat it like a crash."""
    ending, effects = end(replace(state, failure=failure), Status.CRASHED, policy, now)
    return ending, [Log(ERROR, f"❌ [LLAMA] {failure.sentence}"), *effects]


def exited(state: State, event: Exited, policy: Policy, now: float) -> Decision:
    said = Log(INFO if state.status is Status.STOPPING else WARNING, f"Process exited with {event.exit}")
    if state.status is Status.STOPPING:
        after, effects = ended(state)
        return after, [said, CloseRun(event.exit, None, state.note, event.report), *effects]
    failure = why_it_ended(state, event)
    if state.start_next:
        after, effects = begin(replace(state, failure=None), state.note)
    else:
        after, effects = failed(state, failure, policy, now)
    return after, [said, CloseRun(event.exit, failure, report=event.report), *effects]


def why_it_ended(state: State, event: Exited) -> Failure:
    """What we ended ourselves for being silent died of that, not of our signal.

    Unless it had told before that it was dying: a core dump or a debugger's backtrace takes minutes.
    """
    if state.phase is not Phase.ENDING or state.failure is None:
        return event.failure
    evidence = event.report.evidence
    told = evidence is not None and evidence.decisive and event.failure.kind is not FailureKind.EXITED
    return replace(event.failure, permanent=False) if told else state.failure


def signal_denied(state: State, policy: Policy, now: float) -> Decision:
    """It is not ours to end: let go of it and say so."""
    refused = "It belongs to another user, so it was left running: stop it where it was started."
    said = Log(WARNING, f"⚠️ [LLAMA] {refused}")
    failure = None if state.status is Status.STOPPING else state.failure or failure_of(FailureKind.HUNG)
    forgotten: list[Effect] = [said, Forget(), CloseRun(Exit(), failure)]
    if failure is None:
        after, effects = ended(replace(state, note=refused))
    else:
        after, effects = failed(state, failure, policy, now)
    return after, [*forgotten, *effects]


def cause_checked(state: State, gone: bool, now: float) -> Decision:
    if not gone:
        return replace(state, cause_at=now + CAUSE_INTERVAL), []
    title = state.failure.title if state.failure else "The failure"
    note = f"The cause of “{title}” is gone."
    after, effects = begin(replace(state, retries=0, rearms=state.rearms + 1), note)
    return after, [Log(INFO, f"♻️ [LLAMA] {note}"), *effects]
