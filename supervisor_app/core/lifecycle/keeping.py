"""Conversations: saved before an end that somebody asked for, restored at the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core.context.rules import SAVE_SECONDS
from supervisor_app.core.context.words import said_of_no_use, said_of_restoring, said_of_saving, said_of_use
from supervisor_app.core.lifecycle.effects import (
    INFO,
    WARNING,
    CountContext,
    Effect,
    Log,
    SaveContext,
    Terminate,
)
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.context.saved import Kept
    from supervisor_app.core.lifecycle.events import ContextJudged, ContextSaved


def has_context(state: State, status: Status, policy: Policy) -> bool:
    """Is this a planned end of a server whose conversations are kept? One that failed keeps none."""
    planned = status is Status.STOPPING and state.phase in (Phase.SERVING, Phase.DRAINING)
    return policy.keeps_context and planned and not state.adopted


def save_first(state: State, now: float) -> Decision:
    saving = replace(state, save_until_at=now + SAVE_SECONDS)
    return saving, [SaveContext(state.attempt, SAVE_SECONDS)]


def terminate(state: State, policy: Policy, now: float) -> Decision:
    """SIGTERM now, SIGKILL after the grace."""
    ending = replace(state, save_until_at=None, kill_at=now + policy.restart.stop_grace_ms / 1000)
    return ending, [Terminate(state.attempt)]


def context_saved(state: State, event: ContextSaved, policy: Policy, now: float) -> Decision:
    """Go on with the end, unless that has already been done because the saving took too long."""
    effects = _told(event.kept, said_of_saving(event.kept), "saved")
    if state.save_until_at is None:
        return state, effects
    ending, ends = terminate(state, policy, now)
    return ending, [*effects, *ends]


def saved_too_slowly(state: State, policy: Policy, now: float) -> Decision:
    ending, ends = terminate(state, policy, now)
    return ending, [Log(WARNING, "⚠️ [LLAMA] Its conversations are not saved in time: it ends now"), *ends]


def context_restored(state: State, kept: Kept | None) -> Decision:
    """Note what has become of the conversations, now that the server is ready."""
    if kept is None:
        return state, []
    said = said_of_restoring(kept)
    return replace(state, context=said), _told(kept, said, "restored")


def context_judged(state: State, event: ContextJudged) -> Decision:
    if state.phase is not Phase.SERVING:
        return state, []
    said = said_of_use(event.used) if event.used else said_of_no_use(event.answers)
    level, sign = (INFO, "🧠") if event.used else (WARNING, "⚠️")
    counted = CountContext({"used" if event.used else "unused": 1})
    return replace(state, context=f"{state.context} {said}"), [Log(level, f"{sign} [LLAMA] {said}"), counted]


def _told(kept: Kept, said: str, outcome: str) -> list[Effect]:
    if not kept.is_news:
        return []
    counts = {outcome: len(kept.tokens), "lost": kept.lost}
    level, sign = (WARNING, "⚠️") if kept.problem else (INFO, "🧠")
    effects: list[Effect] = [Log(level, f"{sign} [LLAMA] {said}")]
    return [*effects, CountContext({name: count for name, count in counts.items() if count})]
