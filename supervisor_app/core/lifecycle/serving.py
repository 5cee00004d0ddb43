"""A server that serves: does it answer, does its work move, does it stay within its memory?"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from supervisor_app.common.records import replace
from supervisor_app.common.words import size, span
from supervisor_app.core.beat import beat_after
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.effects import INFO, WARNING, Log, SendCanary
from supervisor_app.core.lifecycle.ending import end, unresponsive
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.sightings import Canary, Health
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.watch.watchdog import (
    BUSY_INTERVAL,
    CANARIES,
    Activity,
    WorkState,
    canary_due,
    hear,
    look,
)

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle.events import HealthChecked, ModelsReadAgain

MODELS_INTERVAL = 10.0
"""Seconds between two looks at which models a router has, and which of them are loaded."""
DRAIN_SECONDS = 60.0
"""Time for which a server over its memory limit may go on with what it is doing."""


def checked_while_serving(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
    # 503 "Loading model" after ready: it answers, so it lives (a sleeping server loads again).
    if event.health in (Health.OK, Health.LOADING):
        loading = event.health is Health.LOADING
        answered = replace(state, misses=0, loading=loading, computing=False)
        return replace(answered, probe_at=beat_after(now, policy.health.interval_ms / 1000)), []
    misses = state.misses + 1
    state = replace(state, computing=event.computing)
    if event.computing:  # whether that leads to anything is for the watchdog to judge
        misses = min(misses, policy.health.max_misses - 1)
    if misses < policy.health.max_misses:
        return replace(state, misses=misses, probe_at=now + policy.health.interval_ms / 1000), []
    hung = failure_of(FailureKind.HUNG, f"it missed {misses} health checks in a row")
    return unresponsive(replace(state, misses=misses), hung, policy, now)


def models_read_again(state: State, event: ModelsReadAgain, now: float) -> Decision:
    if state.phase is not Phase.SERVING:
        return state, []
    models = state.models if event.models is None else event.models
    return replace(state, models=models, models_at=beat_after(now, MODELS_INTERVAL)), []


def activity_seen(state: State, activity: Activity, policy: Policy, now: float) -> Decision:
    watch, verdict = look(state.watch, activity, stall_seconds=policy.health.stall_seconds, now=now)
    if verdict is WorkState.STALLED:
        stuck = f"/health says ok, but its work has not moved for {span(round(watch.stalled_for(now)))}"
        return unresponsive(replace(state, watch=watch), failure_of(FailureKind.HUNG, stuck), policy, now)
    seen = replace(
        state,
        watch=watch,
        memory=activity.memory,
        log_trouble=activity.log_trouble,
        activity_at=beat_after(now, watch.interval),
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
    silence = f"/health says ok, but it gave no token within {span(policy.health.canary_timeout)}, twice"
    return unresponsive(state, failure_of(FailureKind.HUNG, silence), policy, now)


def canary_seen(state: State, canary: Canary, policy: Policy, now: float) -> Decision:
    watch = hear(state.watch, canary, now)
    seen = replace(state, watch=watch, activity_at=now + watch.interval)
    match canary:
        case Canary.SILENT:
            # First a look whether it has got work meanwhile: then the canary had to wait, and is forgotten.
            said = f"⚠️ [LLAMA] It is idle, but gave no token within {span(policy.health.canary_timeout)}"
            return replace(seen, activity_at=now), [Log(WARNING, said)]
        case Canary.UNSUPPORTED:
            return seen, [Log(INFO, "[LLAMA] It does not complete text, so it is not asked for a token")]
        case Canary.FINE:
            return seen, []
        case never:
            assert_never(never)


def memory_seen(state: State, activity: Activity, policy: Policy, now: float) -> Decision:
    """Over its limit: let it finish what it does, then restart it. A restart mends only what has grown."""
    limit = policy.health.max_memory
    if not limit or activity.memory <= limit:
        return replace(state, fits=state.fits or activity.memory > 0, over_since=None), []
    used = f"It used {size(activity.memory)}, over its limit of {size(limit)}."
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
