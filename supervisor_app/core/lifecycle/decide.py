"""`decide`: which step an event leads to from where the server stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from supervisor_app.common.records import replace
from supervisor_app.common.words import span
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.draining import drained_too_slowly, leave, requests_seen, serve_on
from supervisor_app.core.lifecycle.effects import (
    INFO,
    WARNING,
    Adopt,
    CheckActivity,
    CheckCause,
    CheckHealth,
    CheckRequests,
    Effect,
    Kill,
    Log,
    ReadModelsAgain,
    Spawn,
)
from supervisor_app.core.lifecycle.ending import ended, exited, let_go, signal_denied, unresponsive
from supervisor_app.core.lifecycle.events import (
    ActivitySeen,
    CanarySeen,
    CauseChecked,
    Command,
    ConfigChanged,
    ContextJudged,
    ContextSaved,
    Continue,
    Drain,
    Event,
    Exited,
    Explained,
    Fetching,
    Gone,
    HealthChecked,
    Inspected,
    ModelsRead,
    ModelsReadAgain,
    NotLoaded,
    PortAwaited,
    Postponed,
    RequestsSeen,
    Restart,
    Resume,
    RoomAwaited,
    RoomBack,
    RoomEvent,
    RoomGiven,
    RoomRefused,
    SignalDenied,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Tick,
    Unload,
    Unobserved,
)
from supervisor_app.core.lifecycle.hindrance import again, asked_again, moved_on, postpone, relieved, void
from supervisor_app.core.lifecycle.keeping import context_judged, context_saved, saved_too_slowly
from supervisor_app.core.lifecycle.room import (
    ask_as_wished,
    drain,
    not_loaded,
    room_awaited,
    room_back,
    room_given,
    room_refused,
    unload,
)
from supervisor_app.core.lifecycle.serving import (
    activity_seen,
    canary_seen,
    checked_while_serving,
    models_read_again,
)
from supervisor_app.core.lifecycle.starting import (
    checked_while_starting,
    fetching,
    inspected,
    models_read,
    port_awaited,
    spawned,
    why_silent,
)
from supervisor_app.core.lifecycle.state import HAS_PROCESS, Decision, Phase, Policy, State
from supervisor_app.core.lifecycle.tries import (
    CAUSE_INTERVAL,
    begin,
    cause_checked,
    explained,
    failed,
    give_up,
    slowly,
)
from supervisor_app.core.status import FailureKind, Status

if TYPE_CHECKING:
    from collections.abc import Callable


def decide(state: State, event: Event, policy: Policy, now: float) -> Decision:
    """The next state and what to do, given what happened. `now` is monotonic seconds."""
    if isinstance(event, Tick):
        return _tick(state, policy, now)
    if isinstance(event, Explained):
        return explained(state, event.pids, policy, now)
    if isinstance(event, Unobserved):
        return replace(moved_on(state, event.seconds), misses=0, resumed_at=now), []
    if isinstance(event, Command):
        return _command(state, event, policy, now)
    if event.attempt != state.attempt:
        return state, []
    if isinstance(event, Postponed):
        return _postponed(state, event, now)
    if isinstance(event, HealthChecked | CanarySeen) and void(state, event):
        return asked_again(state, event, now)
    if isinstance(event, ModelsReadAgain):
        return models_read_again(state, event, now)
    if isinstance(event, PortAwaited):
        return port_awaited(state, event, now)
    if isinstance(event, RoomEvent):
        return _room(state, event, policy, now)
    if isinstance(event, ContextSaved):
        return context_saved(state, event, policy, now)
    if isinstance(event, ContextJudged):
        return context_judged(state, event)
    return _answer(state, event, policy, now)


def _room(state: State, event: RoomEvent, policy: Policy, now: float) -> Decision:
    match event:
        case Drain() if state.phase is Phase.SERVING:
            return drain(state, event)
        case Unload() if state.phase is Phase.SERVING:
            return unload(state, event, policy, now)
        case RequestsSeen() if state.phase is Phase.DRAINING:
            return requests_seen(state, event, policy, now)
        case Gone() if state.phase is Phase.ENDING:
            return replace(state, gone=True), []
        case RoomGiven() if state.phase is Phase.AWAITING_ROOM:
            return room_given(state, event, now)
        case RoomAwaited() if state.phase is Phase.AWAITING_ROOM:
            return room_awaited(state, event)
        case RoomRefused() if state.phase is Phase.AWAITING_ROOM:
            return room_refused(state, event, policy, now)
        case NotLoaded() if state.no_room or (state.phase is Phase.AWAITING_ROOM and not state.wished):
            return not_loaded(state, event)
        case RoomBack() if state.no_room:
            return room_back(state)
        case _:
            return state, []


def _command(state: State, event: Command, policy: Policy, now: float) -> Decision:
    match event:
        case Start():
            return _start(state, event, policy, now)
        case Resume():
            return _resume(state, event)
        case Continue():
            return _continue(state, event, policy, now)
        case Restart():
            wished = replace(state, wished=True)
            return _restart(wished, event.note, policy, now, at_once=event.at_once)
        case ConfigChanged():
            if state.status in (Status.INITIAL, Status.STOPPING):
                return replace(state, is_outdated=state.phase is Phase.DRAINING), []
            return _restart(state, event.note, policy, now)
        case Stop():
            return _stop(state, event, policy, now)
        case never:
            assert_never(never)


def _answer(state: State, event: Event, policy: Policy, now: float) -> Decision:
    match event:
        case Inspected() if state.phase is Phase.INSPECTING:
            return inspected(state, event.holder, policy, now)
        case Spawned() if state.phase is Phase.SPAWNING:
            return spawned(state, event, policy, now)
        case SpawnFailed() if state.phase is Phase.SPAWNING:
            if state.status is Status.STOPPING:
                return ended(state)
            return failed(state, event.failure, policy, now)
        case Exited() if state.phase in HAS_PROCESS:
            return exited(state, event, policy, now)
        case SignalDenied() if state.phase is Phase.ENDING:
            return signal_denied(state, policy, now)
        case Fetching() if state.phase is Phase.WAITING:
            return fetching(state, event, policy, now)
        case HealthChecked() if state.phase is Phase.WAITING:
            return checked_while_starting(state, event, policy, now)
        case HealthChecked() if state.phase in (Phase.SERVING, Phase.DRAINING):
            return checked_while_serving(state, event, policy, now)
        case ModelsRead() if state.phase is Phase.READING_MODELS:
            return models_read(state, event, policy, now)
        case ActivitySeen() if state.phase is Phase.SERVING:
            return activity_seen(state, event.activity, policy, now)
        case CanarySeen() if state.phase is Phase.SERVING:
            return canary_seen(state, event.canary, policy, now)
        case CauseChecked() if state.status is Status.ERROR:
            return cause_checked(state, event.gone, now)
        case _:
            return state, []


def _start(state: State, event: Start, policy: Policy, now: float) -> Decision:
    if state.status is Status.STARTING and not (event.preload or state.wished):
        return ask_as_wished(state)
    if state.status in (Status.STARTING, Status.READY):
        return state, []
    wished = replace(state, retries=0, rearms=0, wished=not event.preload, unloaded="")
    if state.phase is Phase.DRAINING and not (state.start_next or state.is_outdated or state.has_served):
        return serve_on(wished, policy, now)
    if state.phase in (Phase.SPAWNING, Phase.DRAINING, Phase.ENDING):
        return replace(wished, start_next=True, note=event.note), []
    return begin(replace(wished, failure=None), event.note)


def _resume(state: State, event: Resume) -> Decision:
    if state.status is not Status.INITIAL:
        return state, []
    attempt = state.attempt + 1
    resumed = State(
        status=Status.STARTING,
        phase=Phase.SPAWNING,
        attempt=attempt,
        retries=event.retries,
        deaths=event.deaths,
        has_served=event.has_served,
    )
    said = Log(INFO, f"🔗 [LLAMA] {event.holder} is still ours: taking it over without a restart.")
    return resumed, [said, Adopt(attempt, event.holder, adopted=event.adopted, recorded=event.recorded)]


def _continue(state: State, event: Continue, policy: Policy, now: float) -> Decision:
    if state.status is not Status.INITIAL:
        return state, []
    remembered = replace(state, retries=event.retries, deaths=event.deaths, failure=event.failure)
    if not event.given_up:
        return begin(remembered)
    watchable = event.failure is not None and event.failure.permanent
    if policy.restart.retry_forever and not watchable:
        return slowly(remembered, policy, now)
    return give_up(remembered, now + CAUSE_INTERVAL if watchable else None), []


def _restart(state: State, note: str, policy: Policy, now: float, *, at_once: bool = False) -> Decision:
    fresh = replace(state, retries=0, rearms=0, unloaded="")
    if state.phase in HAS_PROCESS:
        return leave(replace(fresh, start_next=True, note=note), policy, now, at_once=at_once)
    if state.phase is Phase.SPAWNING:
        ending = replace(fresh, status=Status.STOPPING, start_next=True, note=note)
        return replace(ending, has_served=state.has_served and not at_once), []
    return begin(replace(fresh, failure=None), note)


def _stop(state: State, event: Stop, policy: Policy, now: float) -> Decision:
    calm = replace(state, start_next=False, note=event.note, unloaded="")
    if state.phase is Phase.SPAWNING:
        has_served = state.has_served and not event.at_once
        ending = replace(calm, status=Status.STOPPING, has_served=has_served)
        return replace(ending, spare_adopted=event.spare_adopted), []
    if state.phase in HAS_PROCESS:
        if state.adopted and event.spare_adopted:
            return let_go(calm)
        return leave(calm, policy, now, at_once=event.at_once)
    if state.status is Status.INITIAL:
        return replace(state, unloaded="", no_room=False), []
    return State(attempt=state.attempt + 1, note=event.note), []


def _postponed(state: State, event: Postponed, now: float) -> Decision:
    if state.status is Status.STOPPING and isinstance(event.effect, Spawn):
        return ended(state)
    return postpone(state, event, now)


def _tick(state: State, policy: Policy, now: float) -> Decision:
    def due(time: float | None) -> bool:
        return time is not None and now >= time

    if due(state.again_at):
        return again(state)
    if due(state.free_at):
        return relieved(state)
    if due(state.retry_at):
        return begin(state)
    if due(state.drain_until_at):
        return drained_too_slowly(state, policy, now)
    if due(state.save_until_at):
        return saved_too_slowly(state, policy, now)
    if due(state.kill_at):
        killing = Log(WARNING, "⚠️ [LLAMA] It did not end in time: SIGKILL")
        return replace(state, kill_at=None), [killing, Kill(state.attempt)]
    if due(state.cause_at) and state.failure is not None:
        return replace(state, cause_at=None), [CheckCause(state.attempt, state.failure)]
    if due(state.silent_at):
        return unresponsive(state, why_silent(state, policy), policy, now)
    if due(state.load_until_at):
        loading = f"still loading after {span(policy.health.max_load_seconds)}"
        return unresponsive(state, failure_of(FailureKind.NEVER_READY, loading), policy, now)
    if due(state.stable_at):
        state = replace(state, stable_at=None, retries=0, rearms=0, more_room=False)
    return _look(state, policy, due)


def _look(state: State, policy: Policy, due: Callable[[float | None], bool]) -> Decision:
    """Begin all looks at the server that are due."""
    effects: list[Effect] = []
    if due(state.probe_at):
        state = replace(state, probe_at=None)
        effects.append(CheckHealth(state.attempt))
    if due(state.look_at):
        state = replace(state, look_at=None)
        effects.append(CheckRequests(state.attempt))
    if due(state.models_at):
        state = replace(state, models_at=None)
        effects.append(ReadModelsAgain(state.attempt))
    if due(state.activity_at):
        state = replace(state, activity_at=None)
        health = policy.health
        ask = bool(health.stall_seconds or health.max_memory or health.canary_minutes)
        effects.append(CheckActivity(state.attempt, state.watch.busy, ask))
    return state, effects
