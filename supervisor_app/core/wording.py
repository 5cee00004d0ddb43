"""The sentence beside the status word: why is it in this state, what happens next, when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import counted, size, span
from supervisor_app.core.lifecycle import Phase, Policy, State
from supervisor_app.core.lifecycle.tries import MORE_ROOM
from supervisor_app.core.status import UNDER_WAY, FailureKind, Status

if TYPE_CHECKING:
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import LlamaStatus, Replacement

MEMORY_WARNING = 0.9
"""Part of the memory limit from which on people are warned."""


def sentence(state: State, policy: Policy, spec: LaunchSpec) -> str:
    """Describe a state in one or two plain sentences, for people who have never seen this server."""
    said = _SENTENCES[state.status](state, policy, spec)
    if state.hindered and state.status is not Status.READY:
        said = f"{said} {hindrance(state)}"
    has_own = state.status is Status.READY or (state.status is Status.INITIAL and state.unloaded)
    return f"{state.note} {said}" if state.note and not has_own else said


def hindrance(state: State) -> str:
    """Say what keeps llamaproxy from looking after a server. No fault of the server."""
    return f"{state.hindered[0].upper()}{state.hindered[1:]}: llamaproxy looks again as soon as it can."


def idle_note(seconds: int) -> str:
    """Say why a server was stopped that nobody has used for so long."""
    return f"Nothing was asked of it for {span(seconds)}." if seconds else "Nothing was asked of it."


def idle_sentence(seconds: int) -> str:
    """Say the same beside the status, once the server has ended."""
    note = idle_note(seconds)
    return f"Stopped: {note[0].lower()}{note[1:]} The next request through the gateway starts it."


def last_error(state: State, policy: Policy) -> str | None:
    """Say what went wrong last and which retry that was; None once the server is ready again."""
    if state.failure is None:
        return None
    limit = policy.restart.max_retries
    retry = f" (retry {state.retries}/{limit})" if 0 < state.retries <= limit else ""
    return state.failure.sentence + retry


def warnings(state: State, policy: Policy, context_refusal: str = "") -> tuple[str, ...]:
    """List what is wrong with a server that serves. `context_refusal`: why its conversations are not kept."""
    if state.status is not Status.READY:
        return ()
    said = list(state.warnings)
    if context_refusal:
        said.append(context_refusal)
    if state.hindered:
        said.append(hindrance(state))
    if state.loading:
        said.append("It was ready, and now answers that it loads its model: requests wait.")
    if state.log_trouble:
        said.append(state.log_trouble)
    limit = policy.health.max_memory
    if limit and state.memory > limit and not state.fits:
        told = f"It used {size(state.memory)} from its start, over its limit of {size(limit)}"
        said.append(f"{told}: raise max_memory_mb, or choose a smaller context (-c) or model.")
    elif limit and state.memory > limit:
        said.append(f"It uses {size(state.memory)}, over its limit of {size(limit)}: it restarts once idle.")
    elif limit and state.memory > MEMORY_WARNING * limit:
        said.append(f"It uses {size(state.memory)}; over {size(limit)} it is restarted.")
    return tuple(said)


def said_of(replacement: Replacement, snapshot: LlamaStatus) -> dict[str, Any]:
    """Return the fields in which a snapshot tells of a restart without a gap: its detail, or its warnings."""
    if replacement.stage in UNDER_WAY:
        return {"detail": f"{snapshot.detail} {replacement.detail}"}
    return {"warnings": (*snapshot.warnings, replacement.detail)}


def _initial(state: State, policy: Policy, spec: LaunchSpec) -> str:
    if state.unloaded:
        return state.unloaded
    return f"Not running. Start it to serve {spec.public_url}."


def _starting(state: State, policy: Policy, spec: LaunchSpec) -> str:
    limit = policy.restart.max_retries
    retry = f"Retry {state.retries} of {limit}: " if state.retries else ""
    if state.retries > limit:
        retry = f"Its {limit} retries are used up, one more try: "
    match state.phase:
        case Phase.INSPECTING:
            said = _lowered(state.awaits) or f"looking who listens on port {spec.port}."
        case Phase.AWAITING_ROOM:
            said = _lowered(state.awaits) or "looking whether it may load now."
        case Phase.SPAWNING:
            said = "starting llama-server."
        case Phase.READING_MODELS:
            said = "it answers; reading its models."
        case _ if state.loading:
            said = "loading the model."
        case _ if state.fetched:
            said = f"downloading the model, {size(state.fetched)} so far."
        case _:
            said = "waiting for its first answer."
    return retry + said if retry else said[0].upper() + said[1:]


def _lowered(said: str) -> str:
    """Return a sentence as it stands behind another part."""
    return f"{said[:1].lower()}{said[1:]}"


def _ready(state: State, policy: Policy, spec: LaunchSpec) -> str:
    said = f"Serving {counted(len(state.models), 'model')} on {spec.public_url}."
    if state.adopted:
        said += " It was running already, so it was taken over."
    if state.computing:
        said += " It does not answer while it computes, as some builds do during a long prompt."
    elif state.misses:
        said += f" It missed {state.misses} of {policy.health.max_misses} health checks."
    return " ".join(filter(None, [said, state.draining, state.context, state.note]))


def _crashed(state: State, policy: Policy, spec: LaunchSpec) -> str:
    why = state.failure.sentence if state.failure else "It went down"
    if state.phase is Phase.ENDING:
        return f"{why}. Ending the process before the next try."
    if state.failure is not None and state.failure.kind is FailureKind.DOWNLOAD_FAILED:
        pause = span(policy.restart.backoff(state.rearms))
        return f"{why}. It is tried again every {pause} until it can be had."
    if state.more_room and not state.retries:
        return f"{why}. {MORE_ROOM} It starts again after {span(policy.restart.backoff(1))}."
    limit = policy.restart.max_retries
    if state.retries > limit:
        pause = span(policy.restart.slow_backoff)
        return f"{why}. Its {limit} retries are used up: it is tried again every {pause} (retry_forever)."
    if not state.retries:
        return f"{why}. It starts again after {span(policy.restart.backoff(0))}."
    said = f"{why}. Retry {state.retries} of {limit} after {span(policy.restart.backoff(state.retries))}."
    if (more := round(state.spread)) < 1:
        return said
    return f"{said} Others went down, too: it waits {more} s longer, so that not all start at once."


def _error(state: State, policy: Policy, spec: LaunchSpec) -> str:
    why = f"{state.failure.sentence}." if state.failure else "It could not be started."
    if state.failure is not None and state.failure.permanent:
        return f"{why} It starts by itself once that is mended, or press Start."
    return f"{why} Gave up after {state.retries} retries: press Start to try again."


def _stopping(state: State, policy: Policy, spec: LaunchSpec) -> str:
    then = " It starts again after that." if state.start_next else ""
    if state.phase is Phase.DRAINING and state.in_flight:
        requests, left = counted(state.in_flight, "request"), span(state.drain_seconds)
        return f"Draining: {requests} in flight, at most {left} more.{then}"
    if state.is_drained:
        return f"Draining: requests in flight are finished first.{then}"
    if state.phase is Phase.ENDING and state.kill_at is None:
        return f"It did not end in time and was sent SIGKILL.{then}"
    return f"Asked to end; SIGKILL follows after {span(policy.restart.stop_grace_ms / 1000)}.{then}"


_SENTENCES = {
    Status.INITIAL: _initial,
    Status.STARTING: _starting,
    Status.READY: _ready,
    Status.CRASHED: _crashed,
    Status.ERROR: _error,
    Status.STOPPING: _stopping,
}
