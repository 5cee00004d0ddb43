"""Room in memory: asked for before a process is spawned, and given back when another server needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core.lifecycle.effects import ERROR, INFO, AskRoom, CountRoom, InspectPort, Log, Spawn
from supervisor_app.core.lifecycle.ending import end
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.lifecycle.tries import begin, cause_interval, give_up
from supervisor_app.core.loaded import RoomOutcome
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle.events import (
        Drain,
        NotLoaded,
        RoomAwaited,
        RoomGiven,
        RoomRefused,
        Unload,
    )

PORT_SECONDS = 1.0
"""Age of a look at the port that will do: a start without a wait takes some milliseconds from there."""
ROOM_BACK = "There is room for it now."


def ask_for_room(state: State, now: float) -> Decision:
    return replace(state, phase=Phase.AWAITING_ROOM, asks_since=now), [AskRoom(state.attempt)]


def ask_as_wished(state: State) -> Decision:
    """Ask once more, now that somebody wants the server: others may go for it."""
    wished = replace(state, wished=True)
    return wished, [AskRoom(state.attempt)] if state.phase is Phase.AWAITING_ROOM else []


def room_given(state: State, event: RoomGiven, now: float) -> Decision:
    """Spawn; after a long wait look first who listens on the port by now."""
    said = [Log(INFO, f"🤔 [LLAMA] {event.remark}")] if event.remark else []
    looked_at = now if state.asks_since is None else state.asks_since
    state = replace(state, has_room=True, loads_since=now, made_room=event.made_room, awaits="")
    if now - looked_at > PORT_SECONDS:
        return replace(state, phase=Phase.INSPECTING), [*said, InspectPort(state.attempt)]
    return replace(state, phase=Phase.SPAWNING), [*said, Spawn(state.attempt)]


def room_awaited(state: State, event: RoomAwaited) -> Decision:
    """Wait. The numbers of a reason change all the time, so the console gets the first one alone."""
    said = [] if state.awaits else [Log(INFO, f"⏳ [LLAMA] {event.why}")]
    return replace(state, awaits=event.why), [*said]


def room_refused(state: State, event: RoomRefused, policy: Policy, now: float) -> Decision:
    """Give up before anything was tried, until the world has changed."""
    refused = give_up(replace(state, failure=event.failure), now + cause_interval(state.rearms, policy))
    said = Log(ERROR, f"❌ [LLAMA] {event.failure.sentence}. {event.failure.hint}")
    return refused, [said, CountRoom(RoomOutcome.REFUSED)]


def not_loaded(state: State, event: NotLoaded) -> Decision:
    """Rest until there is room or somebody asks for the server: there is none, and none is made for it."""
    if state.no_room:
        return replace(state, unloaded=event.why), []
    resting = State(attempt=state.attempt + 1, unloaded=event.why, no_room=True)
    return resting, [Log(INFO, f"💤 [LLAMA] {event.why}")]


def room_back(state: State) -> Decision:
    """Ask again, as nobody's wish: others come first, and nobody goes for it."""
    after, effects = begin(state, ROOM_BACK)
    return after, [Log(INFO, f"♻️ [LLAMA] {ROOM_BACK}"), *effects]


def drain(state: State, event: Drain) -> Decision:
    """Take no new requests, or take some again."""
    said = event.why or "It takes requests again: its room is not needed any more."
    return replace(state, draining=event.why), [Log(INFO, f"🧳 [LLAMA] {said}")]


def unload(state: State, event: Unload, policy: Policy, now: float) -> Decision:
    """End the process for the sake of another server; the wish that this one runs stays."""
    calm = replace(state, start_next=False, note=event.note, unloaded=event.why)
    said = Log(INFO, f"🧳 [LLAMA] {event.note}")
    after, effects = end(calm, Status.STOPPING, policy, now)
    return after, [said, CountRoom(RoomOutcome.EVICTED), *effects]
