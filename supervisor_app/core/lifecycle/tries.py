"""Tries, one after another: how a start begins, what follows a failure, when it is given up."""

from __future__ import annotations

from supervisor_app.common.records import replace
from supervisor_app.common.words import counted, span
from supervisor_app.core.lifecycle.effects import ERROR, INFO, InspectPort, Log
from supervisor_app.core.lifecycle.state import Decision, Phase, Policy, State
from supervisor_app.core.status import Failure, FailureKind, Status

CAUSE_INTERVAL = 2.0
"""Seconds between two looks at whether the cause of a permanent failure is gone."""
MAX_DEATHS = 50
"""Deaths of which the pids are remembered."""
NO_PID = 0
AT_ONCE = 4
"""Number of other servers that may wait for their next try without a longer pause for this one."""
SPREAD_SECONDS = 0.1
"""Longest growth of a pause for each more of them.

Loading a small model takes about so many seconds of a core. 150 servers that die together begin to come
back within 15 s.
"""
OUT_OF_MEMORY = frozenset({FailureKind.OUT_OF_MEMORY, FailureKind.OOM_KILLED, FailureKind.GPU_OUT_OF_MEMORY})
MORE_ROOM = "It needs more than was thought, so more room is made for it."
KILLED = "A request that killed it is in quarantine."


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
        wished=state.wished,
        more_room=state.more_room,
        note=note,
    )
    return begun, [Log(INFO, "🚀 [LLAMA] Starting Llama service..."), InspectPort(attempt)]


def spread(waiting: int, chance: float) -> float:
    """Return the seconds by which a pause grows where so many other servers wait for their next try, too.

    `chance`: from 0 to 1. Servers that died together are not to start together.
    """
    return chance * SPREAD_SECONDS * max(0, waiting - AT_ONCE)


def failed(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """Plan the next try after the end of a process, or give up."""
    pid = state.identity.pid if state.identity is not None else NO_PID
    state = replace(state, deaths=(*state.deaths, pid)[-MAX_DEATHS:], failure=failure)
    if policy.beside:
        return give_up(state), [Log(ERROR, f"❌ [LLAMA] The process beside it: {failure.sentence}")]
    if policy.room and failure.kind in OUT_OF_MEMORY and not state.more_room:
        return with_more_room(state, failure, policy, now)
    if failure.permanent and not state.was_ready:
        look_at = now + cause_interval(state.rearms, policy)
        return give_up(state, look_at), [Log(ERROR, f"❌ [LLAMA] {failure.sentence}. {failure.hint}")]
    if failure.kind is FailureKind.DOWNLOAD_FAILED:
        return until_fetched(state, failure, policy, now)
    limit = policy.restart.max_retries
    if state.retries >= limit and policy.restart.retry_forever:
        return slowly(state, policy, now)
    if state.retries >= limit:
        text = (
            f"❌ [LLAMA] {failure.sentence}. Gave up after {limit} retries; start it by hand. {failure.hint}"
        )
        return give_up(state), [Log(ERROR, text)]
    retry = state.retries + 1
    delay = policy.restart.backoff(retry) + policy.spread
    return waiting(replace(state, retries=retry, spread=policy.spread), now + delay), [
        Log(ERROR, f"❌ [LLAMA] {failure.sentence} (retry {retry}/{limit})"),
        Log(INFO, f"🔄 Retry {retry}/{limit} in {round(delay * 1000)}ms"),
    ]


def waiting(state: State, retry_at: float) -> State:
    """Return the state without a process whose next try comes at `retry_at`."""
    return State(
        status=Status.CRASHED,
        phase=Phase.BACKOFF,
        attempt=state.attempt + 1,
        retries=state.retries,
        deaths=state.deaths,
        failure=state.failure,
        rearms=state.rearms,
        wished=state.wished,
        more_room=state.more_room,
        spread=state.spread,
        retry_at=retry_at,
    )


def with_more_room(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """Try once more without using up a retry: its footprint was wrong, and is corrected."""
    pause = policy.restart.backoff(1)
    trying = waiting(replace(state, more_room=True, wished=True), now + pause)
    return trying, [
        Log(ERROR, f"❌ [LLAMA] {failure.sentence}"),
        Log(INFO, f"♻️ [LLAMA] {MORE_ROOM} It is tried again in {span(pause)}."),
    ]


def until_fetched(state: State, failure: Failure, policy: Policy, now: float) -> Decision:
    """The network is away: that uses up no retry, however long it takes."""
    rearms = state.rearms + 1
    pause = policy.restart.backoff(rearms)
    said = Log(ERROR, f"❌ [LLAMA] {failure.sentence}. It is tried again in {span(pause)}")
    return waiting(replace(state, rearms=rearms), now + pause), [said]


def slowly(state: State, policy: Policy, now: float) -> Decision:
    """The retries are used up, and it is to go on all the same."""
    limit, pause = policy.restart.max_retries, policy.restart.slow_backoff
    why = state.failure.sentence if state.failure is not None else "It went down"
    return waiting(replace(state, retries=limit + 1, rearms=0), now + pause), [
        Log(ERROR, f"❌ [LLAMA] {why}. Its {limit} retries are used up"),
        Log(INFO, f"🔄 It is tried again every {span(pause)} (retry_forever)"),
    ]


def give_up(state: State, cause_at: float | None = None) -> State:
    """Plan no further try, unless a look at the cause, from `cause_at` on, finds it gone."""
    return State(
        status=Status.ERROR,
        attempt=state.attempt + 1,
        retries=state.retries,
        deaths=state.deaths,
        failure=state.failure,
        rearms=state.rearms,
        wished=state.wished,
        more_room=state.more_room,
        cause_at=cause_at,
    )


def cause_interval(rearms: int, policy: Policy) -> float:
    """Seconds until the first look: whatever changes all the time must not start the server all the time."""
    return max(CAUSE_INTERVAL, policy.restart.backoff(rearms) if rearms else 0.0)


def cause_checked(state: State, gone: bool, now: float) -> Decision:
    if not gone:
        return replace(state, cause_at=now + CAUSE_INTERVAL), []
    title = state.failure.title if state.failure else "The failure"
    note = f"The cause of “{title}” is gone."
    after, effects = begin(replace(state, retries=0, rearms=state.rearms + 1), note)
    return after, [Log(INFO, f"♻️ [LLAMA] {note}"), *effects]


def explained(state: State, pids: frozenset[int], policy: Policy, now: float) -> Decision:
    """Give back the retries that these processes used up: they died of a request, not by themselves."""
    given_up = state.status is Status.ERROR and state.failure is not None and not state.failure.permanent
    # The death that made it give up, or go on slowly, is counted by no retry.
    used_up = state.retries + (1 if given_up else 0)
    found = sum(pid in pids for pid in state.deaths[len(state.deaths) - used_up :]) if used_up else 0
    if not found:
        return state, []
    deaths = tuple(pid for pid in state.deaths if pid not in pids)
    known = replace(state, retries=max(0, used_up - found), deaths=deaths)
    times = counted(found, "time")
    said = Log(INFO, f"♻️ [LLAMA] {KILLED} It died {times} of it, which uses up no retry.")
    if given_up:
        after, effects = begin(known, KILLED)
        return after, [said, *effects]
    if known.phase is Phase.BACKOFF and known.retry_at is not None:
        soon = now + policy.restart.backoff(known.retries) + known.spread
        known = replace(known, note=KILLED, retry_at=min(known.retry_at, soon))
    return known, [said]
