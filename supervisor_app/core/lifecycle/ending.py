"""The end of a process: asked for, seen, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.effects import (
    ERROR,
    INFO,
    WARNING,
    CloseRun,
    Effect,
    Forget,
    Log,
)
from supervisor_app.core.lifecycle.keeping import has_context, save_first, terminate
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.lifecycle.tries import begin, failed
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Failure, FailureKind, Status

if TYPE_CHECKING:
    from supervisor_app.core.lifecycle.events import Exited


def end(state: State, status: Status, policy: Policy, now: float) -> Decision:
    """Ask the process to end, once; first its conversations are saved, where they are kept."""
    if state.phase is Phase.ENDING:
        return replace(state, status=status), []
    ending = replace(
        state,
        status=status,
        phase=Phase.ENDING,
        probe_at=None,
        silent_at=None,
        load_until_at=None,
        stable_at=None,
        activity_at=None,
        models_at=None,
        over_since=None,
        draining="",
        drain_until_at=None,
        look_at=None,
        has_served=False,
        postponed=(),
        again_at=None,
    )
    return save_first(ending, now) if has_context(state, status, policy) else terminate(ending, policy, now)


def unresponsive(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """The process lives but is of no use: end it, then treat it like a crash.

    One that drains was to end in any case.
    """
    if state.phase is Phase.DRAINING:
        ending, effects = end(state, Status.STOPPING, policy, now)
    else:
        ending, effects = end(replace(state, failure=failure), Status.CRASHED, policy, now)
    return ending, [Log(ERROR, f"❌ [LLAMA] {failure.sentence}"), *effects]


def let_go(state: State) -> Decision:
    """Stop watching it and leave its run open: the next supervisor takes it over by identity."""
    said = Log(INFO, "👋 [LLAMA] It was not started here, so it is left running")
    return State(attempt=state.attempt + 1, note=state.note), [said, Forget()]


def ended(state: State) -> Decision:
    """Begin anew or rest, now that a process which was asked to stop has ended."""
    if state.start_next:
        return begin(replace(state, failure=None), state.note)
    stopped = State(attempt=state.attempt + 1, note=state.note, unloaded=state.unloaded)
    return stopped, [Log(INFO, f"💤 [LLAMA] {state.unloaded}" if state.unloaded else "🛑 [LLAMA] Stopped")]


def exited(state: State, event: Exited, policy: Policy, now: float) -> Decision:
    said = Log(INFO if state.status is Status.STOPPING else WARNING, f"Process exited with {event.exit}")
    if state.status is Status.STOPPING:
        after, effects = ended(state)
        failure = event.failure if state.phase is Phase.DRAINING else None  # nobody had asked it yet
        return after, [said, CloseRun(event.exit, failure, state.note, event.report), *effects]
    failure = why_it_ended(state, event)
    if state.start_next:
        after, effects = begin(replace(state, failure=None), state.note)
    else:
        after, effects = failed(state, failure, policy, now)
    return after, [said, CloseRun(event.exit, failure, report=event.report), *effects]


def why_it_ended(state: State, event: Exited) -> Failure:
    """Keep the silence for which we ended a process as its failure, in place of our signal.

    A process that had logged before that it was dying died of that: a core dump or a debugger's backtrace
    takes minutes.
    """
    if state.phase is not Phase.ENDING or state.failure is None:
        return event.failure
    evidence = event.report.evidence
    told = evidence is not None and evidence.decisive and event.failure.kind is not FailureKind.EXITED
    return replace(event.failure, permanent=False) if told else state.failure


def signal_denied(state: State, policy: Policy, now: float) -> Decision:
    """Detach from a process that we may not end, and log so."""
    refused = "It belongs to another user, so it was left running: stop it where it was started."
    said = Log(WARNING, f"⚠️ [LLAMA] {refused}")
    failure = None if state.status is Status.STOPPING else state.failure or failure_of(FailureKind.HUNG)
    forgotten: list[Effect] = [said, Forget(), CloseRun(Exit(), failure)]
    if failure is None:
        after, effects = ended(replace(state, note=refused))
    else:
        after, effects = failed(state, failure, policy, now)
    return after, [*forgotten, *effects]
