"""Time in which we did not look, and looks that we could not take, count for nothing.

Our own lack (descriptors, threads, memory) is no miss, burns no retry, kills nothing and ends nothing: what
could not be done is done again a second later, and every deadline that judges the server moves on.
"""

from __future__ import annotations

from supervisor_app.common.records import replace
from supervisor_app.core.lifecycle.effects import (
    INFO,
    WARNING,
    Adopt,
    CheckActivity,
    CheckCause,
    CheckHealth,
    CheckRequests,
    Effect,
    InspectPort,
    Kill,
    Log,
    ReadModels,
    ReadModelsAgain,
    SaveContext,
    SendCanary,
    Spawn,
    Terminate,
)
from supervisor_app.core.lifecycle.events import CanarySeen, HealthChecked, Postponed
from supervisor_app.core.lifecycle.state import Decision, Phase, State
from supervisor_app.core.sightings import Canary, Health

AGAIN_SECONDS = 1.0
FREE_SECONDS = 10.0
"""Time without anything to postpone after which we count as free: looks differ in what they need."""
PHASES_OF: dict[type[Effect], frozenset[Phase]] = {
    InspectPort: frozenset({Phase.INSPECTING}),
    Spawn: frozenset({Phase.SPAWNING}),
    Adopt: frozenset({Phase.SPAWNING}),
    CheckHealth: frozenset({Phase.WAITING, Phase.SERVING, Phase.DRAINING}),
    ReadModels: frozenset({Phase.READING_MODELS}),
    ReadModelsAgain: frozenset({Phase.SERVING}),
    CheckActivity: frozenset({Phase.SERVING}),
    CheckRequests: frozenset({Phase.DRAINING}),
    SendCanary: frozenset({Phase.SERVING}),
    SaveContext: frozenset({Phase.ENDING}),
    Terminate: frozenset({Phase.ENDING}),
    Kill: frozenset({Phase.ENDING}),
    CheckCause: frozenset({Phase.IDLE}),
}
"""Phases in which a postponed effect still makes sense."""


def moved_on(state: State, seconds: float) -> State:
    """Move each deadline that judges the server by so many seconds. Deadlines that begin something stay."""

    def later(time: float | None) -> float | None:
        return None if time is None else time + seconds

    watch = state.watch
    return replace(
        state,
        silent_at=later(state.silent_at),
        load_until_at=later(state.load_until_at),
        stable_at=later(state.stable_at),
        drain_until_at=later(state.drain_until_at),
        save_until_at=later(state.save_until_at),
        kill_at=later(state.kill_at),
        over_since=later(state.over_since),
        watch=replace(
            watch,
            moved_at=watch.moved_at + seconds,
            seen_at=watch.seen_at + seconds,
            quiet_since=watch.quiet_since + seconds,
        ),
    )


def postpone(state: State, event: Postponed, now: float) -> Decision:
    if state.phase not in PHASES_OF[type(event.effect)]:
        return state, []
    said = []
    if state.hindered != event.why:
        told = f"{event.why}. That is no fault of the server: trying again every second."
        said = [Log(WARNING, f"⚠️ [LLAMA] {told[0].upper()}{told[1:]}")]
    effect: Effect = event.effect
    if isinstance(effect, Spawn):  # who has taken the port meanwhile?
        state, effect = replace(state, phase=Phase.INSPECTING), InspectPort(effect.attempt)
    waiting = replace(
        moved_on(state, now - event.since + AGAIN_SECONDS),
        postponed=(*state.postponed, effect),
        again_at=now + AGAIN_SECONDS if state.again_at is None else state.again_at,
        hindered=event.why,
        free_at=now + FREE_SECONDS,
    )
    return waiting, [*said]


def again(state: State) -> Decision:
    """The effect that was postponed."""
    return replace(state, postponed=(), again_at=None), list(state.postponed)


def relieved(state: State) -> Decision:
    said = Log(INFO, "✅ [LLAMA] llamaproxy can look at it again")
    return replace(state, hindered="", free_at=None), [said]


def void(state: State, event: HealthChecked | CanarySeen) -> bool:
    """Excuse a silence of the time in which we did not run: perhaps our question was never sent."""
    if state.phase not in PHASES_OF[CheckHealth if isinstance(event, HealthChecked) else SendCanary]:
        return False
    silent = (
        event.health is Health.SILENT if isinstance(event, HealthChecked) else event.canary is Canary.SILENT
    )
    return silent and event.asked_at < state.resumed_at


def asked_again(state: State, event: HealthChecked | CanarySeen, now: float) -> Decision:
    """The answer counts for nothing; the question is asked again."""
    if isinstance(event, CanarySeen):
        return replace(state, activity_at=now), []
    return replace(state, probe_at=now), []
