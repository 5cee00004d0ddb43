"""A planned end that waits, for a while, until the requests in flight are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.common.words import counted, span
from supervisor_app.core.lifecycle.effects import INFO, WARNING, Log
from supervisor_app.core.lifecycle.ending import end
from supervisor_app.core.lifecycle.serving import MODELS_INTERVAL
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.status import Status
from supervisor_app.core.watch.watchdog import IDLE_INTERVAL, Watch

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle.events import RequestsSeen

GATE_SECONDS = 0.05
"""Time for gateways to learn that the server takes no new requests, before it is asked whether it has any.

Without it a request that came between that question and SIGTERM would meet the server's end.
"""
LOOK_SECONDS = 0.25
"""Pause between two questions whether the requests are done."""


def leave(state: State, policy: Policy, now: float, *, at_once: bool) -> Decision:
    """End the process as somebody wishes: `at_once`, or after what it has begun."""
    if at_once or state.phase is Phase.ENDING:
        return end(state, Status.STOPPING, policy, now)
    if state.phase is Phase.DRAINING:
        return state, []
    is_silent = state.misses > 0 and not state.computing
    has_requests = state.phase is Phase.SERVING or state.has_served
    if not has_requests or is_silent or not policy.restart.drain_seconds:
        return end(state, Status.STOPPING, policy, now)
    draining = replace(
        state,
        status=Status.STOPPING,
        phase=Phase.DRAINING,
        probe_at=now + policy.health.interval_ms / 1000,
        silent_at=None,
        load_until_at=None,
        stable_at=None,
        activity_at=None,
        models_at=None,
        over_since=None,
        draining="",
        postponed=(),
        again_at=None,
        drain_until_at=now + policy.restart.drain_seconds,
        look_at=now + GATE_SECONDS,
        in_flight=None,
    )
    return draining, [Log(INFO, "🧳 [LLAMA] It finishes what it does and ends then")]


def requests_seen(state: State, event: RequestsSeen, policy: Policy, now: float) -> Decision:
    """End the process once nothing is in flight."""
    if not event.count:
        return end(state, Status.STOPPING, policy, now)
    seconds = max(0, round((state.drain_until_at or now) - now))
    return replace(state, in_flight=event.count, drain_seconds=seconds, look_at=now + LOOK_SECONDS), []


def drained_too_slowly(state: State, policy: Policy, now: float) -> Decision:
    left = counted(state.in_flight or 1, "request")
    told = f"⚠️ [LLAMA] {left} still in flight after {span(policy.restart.drain_seconds)}: it ends now"
    after, effects = end(state, Status.STOPPING, policy, now)
    return after, [Log(WARNING, told), *effects]


def serve_on(state: State, policy: Policy, now: float) -> Decision:
    """Take requests again: somebody wants the server after all, and its process has not been asked to end."""
    serving = replace(
        state,
        status=Status.READY,
        phase=Phase.SERVING,
        note="",
        drain_until_at=None,
        look_at=None,
        in_flight=None,
        stable_at=now + policy.restart.stable_after_ms / 1000,
        activity_at=now + IDLE_INTERVAL,
        models_at=now + MODELS_INTERVAL if any(model.comes_and_goes for model in state.models) else None,
        watch=Watch(moved_at=now, seen_at=now, quiet_since=now),
    )
    return serving, [Log(INFO, "♻️ [LLAMA] It was not asked to end yet: it serves on")]
