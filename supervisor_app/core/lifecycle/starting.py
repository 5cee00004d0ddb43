"""The steps of a start, from the look at the port until the models are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.common.words import counted, span
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.draining import leave
from supervisor_app.core.lifecycle.effects import (
    INFO,
    WARNING,
    Adopt,
    Effect,
    InspectPort,
    Log,
    MarkReady,
    OpenRun,
    ReadModels,
    Spawn,
)
from supervisor_app.core.lifecycle.ending import let_go
from supervisor_app.core.lifecycle.keeping import context_restored
from supervisor_app.core.lifecycle.room import ask_for_room
from supervisor_app.core.lifecycle.serving import MODELS_INTERVAL
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.lifecycle.tries import failed
from supervisor_app.core.loaded import Loaded
from supervisor_app.core.sightings import Health, PortHolder
from supervisor_app.core.status import Failure, FailureKind, Status
from supervisor_app.core.watch.watchdog import CPU_EXTENDS, IDLE_INTERVAL, Watch

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle.events import Fetching, HealthChecked, ModelsRead, PortAwaited, Spawned

PORT_LOOK_SECONDS = 0.25
"""Pause between two looks at a port that another server still has."""


def port_awaited(state: State, event: PortAwaited, now: float) -> Decision:
    """Look again a moment later."""
    if state.phase is not Phase.INSPECTING:
        return state, []
    said = [] if state.awaits == event.why else [Log(INFO, f"⏳ [LLAMA] {event.why}")]
    again = InspectPort(state.attempt)
    return replace(state, awaits=event.why, postponed=(again,), again_at=now + PORT_LOOK_SECONDS), [*said]


def inspected(state: State, holder: PortHolder | None, policy: Policy, now: float) -> Decision:
    state = replace(state, awaits="")
    if holder is None and policy.asks and not state.has_room:
        return ask_for_room(state, now)
    if holder is None:
        loading = replace(state, phase=Phase.SPAWNING, loads_since=state.loads_since or now)
        return loading, [Spawn(state.attempt)]
    if holder.is_llama_server and not holder.server and (policy.adopts or holder.ours):
        found = Log(INFO, f"🔎 [LLAMA] Found a running llama-server: {holder}. Taking it over.")
        adopting = Adopt(state.attempt, holder, adopted=not holder.ours)
        return replace(state, phase=Phase.SPAWNING, loads_since=None), [found, adopting]
    return failed(state, port_taken(holder), policy, now)


def port_taken(holder: PortHolder) -> Failure:
    whose = f", a process of the server {holder.server}," if holder.server else ""
    taken = failure_of(FailureKind.PORT_TAKEN, holder.problem or f"{holder}{whose} listens on it")
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
            after, effects = leave(alive, policy, now, at_once=False)
        return after, [*opened, *effects]
    # Our own child needs some milliseconds before it listens; an adopted one listens already.
    first_check = now if event.adopted else now + policy.health.starting_interval(0)
    return replace(alive, probe_at=first_check, silent_at=now + policy.health.max_silence), opened


def checked_while_starting(state: State, event: HealthChecked, policy: Policy, now: float) -> Decision:
    checks = state.checks + 1
    state = replace(state, checks=checks)
    if event.health is Health.OK and event.ours:
        ready = replace(state, phase=Phase.READING_MODELS, probe_at=None, silent_at=None, load_until_at=None)
        after = counted(checks, "check")
        return ready, [Log(INFO, f"✅ Server ready after {after}"), ReadModels(state.attempt)]
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
    """The failure of a start without an answer."""
    silence = span(policy.health.max_silence)
    if state.fetched is not None and not state.loading:
        moved = f"its download stands still for {silence}" if state.fetched else f"nothing came for {silence}"
        return failure_of(FailureKind.DOWNLOAD_FAILED, moved)
    return failure_of(FailureKind.NEVER_READY, f"no answer for {silence}")


def _loaded(state: State, now: float) -> Loaded | None:
    if state.loads_since is None:
        return None
    asked = state.loads_since if state.asks_since is None else state.asks_since
    return Loaded(
        room_ms=round(1000 * (state.loads_since - asked)),
        load_ms=round(1000 * (now - state.loads_since)),
        made_room=state.made_room,
    )


def models_read(state: State, event: ModelsRead, policy: Policy, now: float) -> Decision:
    models = counted(len(event.models), "model")
    ready = replace(
        state,
        status=Status.READY,
        phase=Phase.SERVING,
        models=event.models,
        was_ready=True,
        has_served=False,
        wished=False,
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
    ready, kept = context_restored(ready, event.context)
    effects: list[Effect] = [MarkReady(_loaded(state, now))]
    effects += [Log(WARNING, f"⚠️ [LLAMA] {warning}") for warning in event.warnings]
    effects += [
        Log(INFO, f"📦 Loaded {models}"),
        Log(INFO, f"✅ [LLAMA] Service ready with {models}"),
    ]
    return ready, [*effects, *kept]
