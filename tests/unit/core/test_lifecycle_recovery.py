"""How a server starts, and how it comes back after a start that failed, a crash or an error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy, State
from supervisor_app.core.lifecycle.tries import spread
from supervisor_app.core.sightings import Exit, Health
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import exited, make_spec, stranger
from supervisor_app.core.wording import sentence
from tests.unit.core.deciding import CORRUPT, ME, MODEL, POLICY, Server

# Starting


def test_start_asks_first_who_listens_on_the_port():
    server = Server().send(lifecycle.Start())
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert lifecycle.InspectPort(1) in server.effects


def test_a_free_port_means_spawn():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None))
    assert server.effects == [lifecycle.Spawn(1)]


def test_a_llama_server_on_the_port_is_taken_over_whoever_started_it():
    holder = stranger(llama=True)
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, holder))
    assert lifecycle.Adopt(1, holder) in server.effects
    assert not server.has(lifecycle.Spawn)


def test_a_process_of_a_user_whom_nobody_trusts_is_an_error_that_says_what_to_do():
    holder = replace(stranger(llama=False), foreign_user="bob, uid 1001")
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, holder))
    failure = server.state.failure
    assert failure.kind is FailureKind.PORT_TAKEN
    assert "of the user bob, uid 1001, who could read all requests" in failure.detail
    assert "llama_server_users" in failure.hint


def test_a_foreign_program_on_the_port_is_an_error_that_names_it_and_burns_no_retry():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, stranger(llama=False)))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert "pid 999 (python -m http.server)" in server.state.failure.detail
    assert server.state.retries == 0


def test_ready_needs_200_from_our_own_process_and_the_models():
    server = Server().spawned().healthy()
    assert server.where == (Status.STARTING, Phase.READING_MODELS)
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    assert server.where == (Status.READY, Phase.SERVING)
    assert server.logs() == ["📦 Loaded 1 model", "✅ [LLAMA] Service ready with 1 model"]


def test_200_from_somebody_else_is_not_ours():
    server = Server().spawned().healthy(ours=False)
    assert server.where == (Status.STARTING, Phase.WAITING)


def test_checks_while_starting_begin_fast_and_slow_down():
    server = Server().spawned()
    waits = []
    for _ in range(60):
        waits.append(server.state.probe_at - server.now)
        server.now = server.state.probe_at
        server.send(lifecycle.Tick()).healthy(Health.REFUSED)
    assert waits[0] == pytest.approx(0.01)
    assert waits[-1] == pytest.approx(1.0)
    assert waits == pytest.approx(sorted(waits))


def test_only_one_check_is_under_way():
    server = Server().spawned().to_next_deadline()
    assert server.has(lifecycle.CheckHealth)
    server.after(1.0)
    assert not server.has(lifecycle.CheckHealth)


def test_models_that_cannot_be_read_are_a_warning_and_an_empty_list():
    server = Server().spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (), ("Its models could not be read.",)))
    assert server.state.status is Status.READY
    assert server.state.models == ()
    assert server.state.warnings == ("Its models could not be read.",)
    assert any(
        isinstance(effect, lifecycle.Log) and effect.level == lifecycle.WARNING for effect in server.effects
    )


def test_a_minute_of_silence_is_never_ready():
    server = Server().spawned().after(60.0)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.NEVER_READY
    assert server.has(lifecycle.Terminate)


def test_loading_is_progress_and_extends_the_wait():
    server = Server().spawned()
    for _ in range(20):
        server.after(30.0).healthy(Health.LOADING)
        assert server.state.status is Status.STARTING
    assert server.state.loading


def test_loading_for_ever_is_never_ready():
    server = Server().spawned().healthy(Health.LOADING)
    while server.now < 601:
        server.after(50.0).healthy(Health.LOADING)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert "still loading after 10 m" in server.state.failure.detail


def test_a_permanent_failure_while_starting_is_an_error_at_once():
    server = Server().spawned().dies(CORRUPT)
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert server.state.retries == 0
    assert lifecycle.CloseRun(Exit(code=1), CORRUPT) in server.effects


def test_a_spawn_that_fails_is_treated_like_a_death():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None))
    server.send(lifecycle.SpawnFailed(1, failure_of(FailureKind.BINARY_MISSING)))
    assert server.state.status is Status.ERROR


# Crash and recovery


def test_a_crash_is_followed_by_backoff_and_a_new_try():
    server = Server().ready().dies(signal=9)
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert server.logs()[0] == "Process exited with code null signal 9"
    assert server.logs()[-1] == "🔄 Retry 1/5 in 1000ms"
    server.to_next_deadline()
    assert server.now == pytest.approx(1.0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)


def test_a_retry_is_later_where_many_others_wait_for_theirs_and_says_so():
    crowded = replace(POLICY, spread=7.2)
    server = Server(crowded).ready().dies()
    assert server.state.retry_at - server.now == pytest.approx(8.2)
    assert server.logs()[-1] == "🔄 Retry 1/5 in 8200ms"
    said = sentence(server.state, crowded, make_spec())
    assert said.endswith("Others went down, too: it waits 7 s longer, so that not all start at once.")
    assert server.to_next_deadline().state.spread == 0


@pytest.mark.parametrize(
    ("waiting", "chance", "seconds"), [(0, 1, 0), (4, 1, 0), (5, 1, 0.1), (149, 1, 14.5), (149, 0, 0)]
)
def test_a_retry_is_spread_by_chance_over_as_long_as_the_others_take_to_start(waiting, chance, seconds):
    assert spread(waiting, chance) == pytest.approx(seconds)


def test_the_backoff_is_the_originals_until_the_server_is_given_up():
    server = Server()
    server.spawned()
    waits = []
    for _ in range(5):
        server.dies()
        waits.append(server.state.retry_at - server.now)
        server.to_next_deadline()
        server.send(lifecycle.Inspected(server.state.attempt, None))
        server.send(lifecycle.Spawned(server.state.attempt, ME))
    assert waits == pytest.approx([1, 2, 4, 8, 16])
    server.dies()
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert server.state.retries == 5
    assert "Gave up after 5 retries" in server.logs()[-1]


def test_a_failure_after_ready_is_never_permanent():
    server = Server().ready().dies(CORRUPT)
    assert server.state.status is Status.CRASHED


def test_retries_count_from_0_again_after_a_minute_of_ready():
    server = Server().ready().dies().to_next_deadline()
    server.send(lifecycle.Inspected(server.state.attempt, None)).send(
        lifecycle.Spawned(server.state.attempt, ME)
    )
    server.healthy().send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    assert server.state.retries == 1
    for _ in range(59):
        server.after(1.0).healthy()
    assert server.state.retries == 1
    server.after(1.0)
    assert server.state.retries == 0


def test_merely_alive_does_not_reset_the_retries():
    server = Server(state=State(retries=3))
    server.state = replace(server.state, status=Status.CRASHED, phase=Phase.BACKOFF, retry_at=0.0)
    server.after(0).send(lifecycle.Inspected(1, None)).send(lifecycle.Spawned(1, ME))
    for _ in range(100):
        server.after(5.0).healthy(Health.LOADING)
    assert server.state.retries == 3


def test_no_retries_means_no_retries():
    server = Server(Policy(restart=RestartPolicy(max_retries=0))).ready().dies()
    assert server.where == (Status.ERROR, Phase.IDLE)


# Error, and out of it


def test_a_server_in_error_starts_once_the_cause_is_gone():
    server = Server().spawned().dies(CORRUPT).to_next_deadline()
    assert server.effects == [lifecycle.CheckCause(server.state.attempt, CORRUPT)]
    server.send(lifecycle.CauseChecked(server.state.attempt, gone=False))
    assert server.state.status is Status.ERROR
    server.to_next_deadline().send(lifecycle.CauseChecked(server.state.attempt, gone=True))
    assert server.state.status is Status.STARTING
    assert "is gone" in server.state.note


def test_a_cause_that_is_gone_again_and_again_starts_the_server_less_often():
    """A file that somebody writes all the time must not push the history out."""
    server = Server().spawned().dies(CORRUPT)
    waits = []
    for _ in range(8):
        waits.append(server.state.cause_at - server.now)
        server.to_next_deadline().send(lifecycle.CauseChecked(server.state.attempt, gone=True))
        server.send(lifecycle.Inspected(server.state.attempt, None)).send(
            lifecycle.Spawned(server.state.attempt, ME)
        )
        server.dies(CORRUPT)
    assert waits == pytest.approx([2, 2, 2, 4, 8, 16, 30, 30])
    server.send(lifecycle.Start()).send(lifecycle.Inspected(server.state.attempt, None))
    server.send(lifecycle.Spawned(server.state.attempt, ME)).dies(CORRUPT)
    assert server.state.cause_at - server.now == pytest.approx(2)


def test_error_after_the_last_retry_waits_for_a_person():
    server = Server(Policy(restart=RestartPolicy(max_retries=0))).ready().dies()
    assert server.state.deadline is None
    assert server.send(lifecycle.Start()).state.status is Status.STARTING


# Robustness


def test_an_answer_to_an_older_attempt_is_ignored():
    server = Server().ready()
    before = server.state
    assert server.send(lifecycle.Exited(0, Exit(code=1), exited())).state == before


def test_an_answer_that_does_not_fit_the_phase_is_ignored():
    server = Server().ready()
    before = server.state
    assert server.send(lifecycle.Inspected(1, None)).state == before


def test_a_tick_too_early_changes_nothing():
    server = Server(Policy(health=HealthPolicy(interval_ms=1000))).ready()
    before = server.state
    assert server.after(0.5).state == before
