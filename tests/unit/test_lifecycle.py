"""What one server does when something happens to it. Pure: no clock, no process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle as life
from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.lifecycle import Phase, Policy, State, decide
from supervisor_app.core.ports import Canary, Exit, Health, Identity
from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.core.status import FailureKind, Model, Status
from supervisor_app.core.testing import exited, stranger
from supervisor_app.core.watchdog import Activity
from supervisor_app.core.wording import warnings

POLICY = Policy()
ME = Identity(pid=42, start=1, boot_id="b")
MODEL = Model(id="m", name="m")
CORRUPT = failure_of(FailureKind.MODEL_CORRUPT, "invalid magic characters")


class Server:
    """Drives `decide` and remembers the effects of the last step."""

    def __init__(self, policy: Policy = POLICY, state: State | None = None) -> None:
        self.policy, self.state, self.now = policy, state or State(), 0.0
        self.effects: list[life.Effect] = []

    def send(self, event: life.Event) -> Server:
        self.state, self.effects = decide(self.state, event, self.policy, self.now)
        return self

    def after(self, seconds: float) -> Server:
        self.now += seconds
        return self.send(life.Tick())

    def to_next_deadline(self) -> Server:
        assert self.state.deadline is not None
        return self.after(self.state.deadline - self.now)

    def spawned(self) -> Server:
        self.send(life.Start()).send(life.Inspected(self.state.attempt, None))
        return self.send(life.Spawned(self.state.attempt, ME))

    def healthy(self, health: Health = Health.OK, *, ours: bool = True) -> Server:
        return self.send(life.HealthChecked(self.state.attempt, health, ours))

    def ready(self) -> Server:
        self.spawned().healthy()
        return self.send(life.ModelsRead(self.state.attempt, (MODEL,)))

    def dies(self, failure=None, **exit) -> Server:
        return self.send(life.Exited(self.state.attempt, Exit(**(exit or {"code": 1})), failure or exited()))

    def has(self, kind: type) -> bool:
        return any(isinstance(effect, kind) for effect in self.effects)

    def logs(self) -> list[str]:
        return [effect.text for effect in self.effects if isinstance(effect, life.Log)]

    @property
    def where(self) -> tuple[Status, Phase]:
        return self.state.status, self.state.phase


# Starting


def test_start_asks_first_who_listens_on_the_port():
    server = Server().send(life.Start())
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert life.InspectPort(1) in server.effects


def test_a_free_port_means_spawn():
    server = Server().send(life.Start()).send(life.Inspected(1, None))
    assert server.effects == [life.Spawn(1)]


def test_a_llama_server_on_the_port_is_taken_over_whoever_started_it():
    holder = stranger(llama=True)
    server = Server().send(life.Start()).send(life.Inspected(1, holder))
    assert life.Adopt(1, holder) in server.effects
    assert not server.has(life.Spawn)


def test_a_foreign_program_on_the_port_is_an_error_that_names_it_and_burns_no_retry():
    server = Server().send(life.Start()).send(life.Inspected(1, stranger(llama=False)))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert "pid 999 (python -m http.server)" in server.state.failure.detail
    assert server.state.retries == 0


def test_ready_needs_200_from_our_own_process_and_the_models():
    server = Server().spawned().healthy()
    assert server.where == (Status.STARTING, Phase.READING_MODELS)
    server.send(life.ModelsRead(server.state.attempt, (MODEL,)))
    assert server.where == (Status.READY, Phase.SERVING)
    assert server.logs() == ["📦 Loaded 1 model", "✅ [LLAMA] Service ready with 1 model"]


def test_200_from_somebody_else_is_not_ours():
    server = Server().spawned().healthy(ours=False)
    assert server.where == (Status.STARTING, Phase.WAITING)


def test_checks_while_starting_begin_fast_and_slow_down():
    server = Server().spawned()
    waits = []
    for _ in range(12):
        waits.append(server.state.probe_at - server.now)
        server.now = server.state.probe_at
        server.send(life.Tick()).healthy(Health.REFUSED)
    assert waits[0] == pytest.approx(0.025)
    assert waits[-1] == pytest.approx(0.25)
    assert waits == sorted(waits)


def test_only_one_check_is_under_way():
    server = Server().spawned().to_next_deadline()
    assert server.has(life.CheckHealth)
    server.after(1.0)
    assert not server.has(life.CheckHealth)


def test_models_that_cannot_be_read_are_a_warning_and_an_empty_list():
    server = Server().spawned().healthy()
    server.send(life.ModelsRead(server.state.attempt, (), ("Its models could not be read.",)))
    assert server.state.status is Status.READY
    assert server.state.models == ()
    assert server.state.warnings == ("Its models could not be read.",)
    assert any(isinstance(effect, life.Log) and effect.level == life.WARNING for effect in server.effects)


def test_a_minute_of_silence_is_never_ready():
    server = Server().spawned().after(60.0)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.NEVER_READY
    assert server.has(life.Terminate)


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
    assert "still loading after 600 s" in server.state.failure.detail


def test_a_permanent_failure_while_starting_is_an_error_at_once():
    server = Server().spawned().dies(CORRUPT)
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert server.state.retries == 0
    assert life.CloseRun(Exit(code=1), CORRUPT) in server.effects


def test_a_spawn_that_fails_is_treated_like_a_death():
    server = Server().send(life.Start()).send(life.Inspected(1, None))
    server.send(life.SpawnFailed(1, failure_of(FailureKind.BINARY_MISSING)))
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


def test_the_backoff_is_the_originals_and_then_it_gives_up():
    server = Server()
    server.spawned()
    waits = []
    for _ in range(5):
        server.dies()
        waits.append(server.state.retry_at - server.now)
        server.to_next_deadline()
        server.send(life.Inspected(server.state.attempt, None))
        server.send(life.Spawned(server.state.attempt, ME))
    assert waits == pytest.approx([1, 2, 4, 8, 16])
    server.dies()
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert server.state.retries == 5
    assert "Gave up after 5 retries" in server.logs()[-1]


def test_what_failed_after_ready_is_never_permanent():
    server = Server().ready().dies(CORRUPT)
    assert server.state.status is Status.CRASHED


def test_retries_count_from_0_again_after_a_minute_of_ready():
    server = Server().ready().dies().to_next_deadline()
    server.send(life.Inspected(server.state.attempt, None)).send(life.Spawned(server.state.attempt, ME))
    server.healthy().send(life.ModelsRead(server.state.attempt, (MODEL,)))
    assert server.state.retries == 1
    for _ in range(59):
        server.after(1.0).healthy()
    assert server.state.retries == 1
    server.after(1.0)
    assert server.state.retries == 0


def test_merely_alive_does_not_reset_the_retries():
    server = Server(state=State(retries=3))
    server.state = replace(server.state, status=Status.CRASHED, phase=Phase.BACKOFF, retry_at=0.0)
    server.after(0).send(life.Inspected(1, None)).send(life.Spawned(1, ME))
    for _ in range(100):
        server.after(5.0).healthy(Health.LOADING)
    assert server.state.retries == 3


def test_no_retries_means_no_retries():
    server = Server(Policy(restart=RestartPolicy(max_retries=0))).ready().dies()
    assert server.where == (Status.ERROR, Phase.IDLE)


# Liveness


def test_three_missed_checks_in_a_row_are_hung():
    server = Server().ready()
    server.healthy(Health.SILENT).healthy(Health.SILENT)
    assert server.state.status is Status.READY
    server.healthy(Health.REFUSED)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.HUNG
    assert server.has(life.Terminate)


@pytest.mark.parametrize("health", [Health.OK, Health.LOADING])
def test_one_answer_forgives_missed_checks(health):
    server = Server().ready().healthy(Health.SILENT).healthy(Health.SILENT).healthy(health)
    assert server.state.misses == 0
    assert server.healthy(Health.SILENT).state.status is Status.READY


def test_a_hung_server_that_ignores_sigterm_is_killed_after_the_grace():
    server = Server().ready()
    for _ in range(3):
        server.healthy(Health.SILENT)
    server.after(5.0)
    assert server.has(life.Kill)
    server.dies(signal=9)
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert server.state.failure.kind is FailureKind.HUNG, "it died of hanging, not of our signal"


# Stopping


def test_stop_sends_sigterm_once_and_ends_in_initial():
    server = Server().ready().send(life.Stop())
    assert server.where == (Status.STOPPING, Phase.ENDING)
    assert server.effects == [life.Terminate(1)]
    assert server.send(life.Stop()).effects == []
    server.dies(code=0)
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert life.CloseRun(Exit(code=0), None) in server.effects


def test_stop_escalates_to_sigkill_after_the_grace():
    server = Server().ready().send(life.Stop()).after(4.9)
    assert not server.has(life.Kill)
    assert server.after(0.1).has(life.Kill)


def test_stop_while_spawning_waits_for_the_process_and_ends_it():
    server = Server().send(life.Start()).send(life.Inspected(1, None)).send(life.Stop())
    assert server.where == (Status.STOPPING, Phase.SPAWNING)
    server.send(life.Spawned(1, ME))
    assert server.has(life.Terminate)
    assert server.has(life.OpenRun)


def test_stop_while_spawning_fails_is_stopped():
    server = Server().send(life.Start()).send(life.Inspected(1, None)).send(life.Stop())
    server.send(life.SpawnFailed(1, exited()))
    assert server.state.status is Status.INITIAL


@pytest.mark.parametrize("prepare", ["inspecting", "backoff", "error"])
def test_stop_without_a_process_is_immediate(prepare):
    server = Server().send(life.Start())
    if prepare == "backoff":
        server = Server().ready().dies()
    if prepare == "error":
        server = Server().spawned().dies(CORRUPT)
    assert server.send(life.Stop()).where == (Status.INITIAL, Phase.IDLE)


def test_stop_of_a_stopped_server_is_nothing():
    server = Server()
    before = server.state
    assert server.send(life.Stop()).state == before


def test_a_late_answer_does_not_wake_a_stopped_server():
    server = Server().send(life.Start()).send(life.Stop()).send(life.Inspected(1, None))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.effects == []


def test_start_while_stopping_starts_again_afterwards():
    server = Server().ready().send(life.Stop()).send(life.Start()).dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)


def test_start_while_a_hung_one_is_ended_starts_without_backoff():
    server = Server().ready()
    for _ in range(3):
        server.healthy(Health.SILENT)
    server.send(life.Start()).dies(signal=15)
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.retries == 0


@pytest.mark.parametrize("where", ["starting", "ready"])
def test_start_of_a_running_server_is_nothing(where):
    server = Server().spawned() if where == "starting" else Server().ready()
    before = server.state
    assert server.send(life.Start()).state == before


# Restart and configuration


def test_restart_ends_the_process_and_begins_anew_with_no_retries():
    server = Server().ready().send(life.Restart())
    assert server.where == (Status.STOPPING, Phase.ENDING)
    server.dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)


def test_restart_while_spawning_waits_for_the_process():
    server = Server().send(life.Start()).send(life.Inspected(1, None)).send(life.Restart())
    assert server.where == (Status.STOPPING, Phase.SPAWNING)
    server.send(life.Spawned(1, ME)).dies(code=0)
    assert server.state.status is Status.STARTING


def test_restart_of_a_stopped_server_starts_it():
    assert Server().send(life.Restart()).state.status is Status.STARTING


def test_a_changed_config_restarts_once_and_says_so():
    server = Server().ready().send(life.ConfigChanged()).send(life.ConfigChanged())
    assert server.state.note == "The configuration changed."
    server.dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.note == "The configuration changed."


def test_a_changed_config_tries_again_after_error():
    server = Server().spawned().dies(CORRUPT).send(life.ConfigChanged())
    assert server.state.status is Status.STARTING


def test_a_changed_config_leaves_a_stopped_server_stopped():
    assert Server().send(life.ConfigChanged()).state.status is Status.INITIAL


# Error, and out of it


def test_error_looks_whether_its_cause_is_gone_and_starts_then():
    server = Server().spawned().dies(CORRUPT).to_next_deadline()
    assert server.effects == [life.CheckCause(server.state.attempt, CORRUPT)]
    server.send(life.CauseChecked(server.state.attempt, gone=False))
    assert server.state.status is Status.ERROR
    server.to_next_deadline().send(life.CauseChecked(server.state.attempt, gone=True))
    assert server.state.status is Status.STARTING
    assert "is gone" in server.state.note


def test_error_after_the_last_retry_waits_for_a_person():
    server = Server(Policy(restart=RestartPolicy(max_retries=0))).ready().dies()
    assert server.state.deadline is None
    assert server.send(life.Start()).state.status is Status.STARTING


# Adoption


def adopted(identity: Identity | None = ME) -> Server:
    server = Server().send(life.Start()).send(life.Inspected(1, stranger(llama=True)))
    return server.send(life.Spawned(1, identity, adopted=True))


def test_an_adopted_server_is_checked_at_once():
    server = adopted()
    assert server.state.probe_at == server.now
    assert life.OpenRun(ME, adopted=True, retry=0) in server.effects


def test_when_an_adopted_server_dies_we_spawn_our_own():
    server = adopted().healthy().send(life.ModelsRead(1, (MODEL,))).dies().to_next_deadline()
    server.send(life.Inspected(server.state.attempt, None))
    assert server.effects == [life.Spawn(server.state.attempt)]


def test_our_own_end_spares_a_server_that_we_did_not_start():
    server = adopted().send(life.Stop(spare_adopted=True))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.has(life.Forget)
    assert not server.has(life.Terminate)


def test_our_own_end_spares_one_that_was_just_being_taken_over():
    server = Server().send(life.Start()).send(life.Inspected(1, stranger(llama=True)))
    server.send(life.Stop(spare_adopted=True)).send(life.Spawned(1, ME, adopted=True))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.has(life.Forget)


def test_our_own_end_stops_what_we_started():
    assert Server().ready().send(life.Stop(spare_adopted=True)).has(life.Terminate)


def test_a_users_stop_ends_an_adopted_server_too():
    assert adopted().send(life.Stop()).has(life.Terminate)


def test_a_server_of_another_user_is_left_running_with_a_word():
    server = adopted(None).send(life.Stop()).send(life.SignalDenied(1))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert "another user" in server.state.note
    assert server.has(life.Forget)
    assert server.has(life.CloseRun)


def test_a_hung_server_of_another_user_goes_into_backoff():
    server = adopted(None).after(60.0).send(life.SignalDenied(1))
    assert server.where == (Status.CRASHED, Phase.BACKOFF)


def test_a_process_of_the_last_supervisor_goes_on_with_its_retries_and_its_run():
    holder = stranger(llama=True)
    server = Server().send(life.Resume(holder, adopted=False, retries=2))
    assert life.Adopt(1, holder, adopted=False, resumed=True) in server.effects
    server.send(life.Spawned(1, ME, resumed=True))
    assert not server.has(life.OpenRun)
    assert server.state.retries == 2
    assert not server.state.adopted


def test_a_process_that_was_not_written_down_gets_its_run():
    holder = stranger(llama=True)
    server = Server().send(life.Resume(holder, adopted=False, retries=2, recorded=False))
    assert life.Adopt(1, holder, adopted=False, resumed=False) in server.effects
    server.send(life.Spawned(1, ME))
    assert life.OpenRun(ME, False, 2) in server.effects


def test_resume_is_only_for_the_very_beginning():
    server = Server().ready()
    before = server.state
    assert server.send(life.Resume(stranger(llama=True), adopted=True, retries=0)).state == before


# Robustness


def test_an_answer_to_an_older_attempt_is_ignored():
    server = Server().ready()
    before = server.state
    assert server.send(life.Exited(0, Exit(code=1), exited())).state == before


def test_an_answer_that_does_not_fit_the_phase_is_ignored():
    server = Server().ready()
    before = server.state
    assert server.send(life.Inspected(1, None)).state == before


def test_a_tick_too_early_changes_nothing():
    server = Server(Policy(health=HealthPolicy(interval_ms=1000))).ready()
    before = server.state
    assert server.after(0.5).state == before


# Hung is not healthy


def working(server: Server, mark: object, **more) -> Server:
    return server.send(life.ActivitySeen(server.state.attempt, Activity(busy=True, mark=mark, **more)))


def test_work_that_does_not_move_is_hung_whatever_health_says():
    server = Server().ready()
    while server.state.status is Status.READY and server.now < 1000:
        server.after(2.0).healthy()
        working(server, "stuck")
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.HUNG
    assert "/health says ok" in server.state.failure.detail
    assert 180 <= server.now <= 190
    assert server.has(life.Terminate)


def test_it_is_looked_at_while_it_serves_and_not_while_it_ends():
    server = Server().ready().after(5.0)
    assert life.CheckActivity(server.state.attempt, busy=False) in server.effects
    working(server, 1).after(2.0)
    assert life.CheckActivity(server.state.attempt, busy=True) in server.effects
    server.send(life.Stop())
    assert server.state.activity_at is None


def test_the_watchdog_can_be_switched_off():
    server = Server(Policy(health=HealthPolicy(stall_seconds=0))).ready().after(5.0)
    assert life.CheckActivity(server.state.attempt, busy=False, ask=False) in server.effects
    for _ in range(100):
        working(server, "stuck")
    assert server.state.status is Status.READY


# One token after long idleness

CANARY = Policy(health=HealthPolicy(canary_minutes=10))


def idle(server: Server, seconds: float, **activity) -> Server:
    """Looked at for so long, or until it is asked for a token."""
    end = server.now + seconds
    while server.state.phase is Phase.SERVING and server.now < end:
        server.after(5.0).send(life.ActivitySeen(server.state.attempt, Activity(**activity)))
        if server.has(life.SendCanary):
            break
    return server


def canary(server: Server, canary: Canary) -> Server:
    return server.send(life.CanarySeen(server.state.attempt, canary))


def silent(server: Server) -> Server:
    """So is the canary, for as long as it may take; then the server is looked at."""
    server.after(180.0)
    canary(server, Canary.SILENT).after(0)
    assert life.CheckActivity(server.state.attempt, busy=False) in server.effects
    return server


def test_an_idle_server_is_asked_for_a_token_and_not_looked_at_meanwhile():
    server = idle(Server(CANARY).ready(), 3600)
    assert server.effects == [life.SendCanary(server.state.attempt)]
    assert server.now == pytest.approx(600)
    server.after(3600)
    assert not server.has(life.CheckActivity)


def test_a_canary_alone_is_reason_to_ask_its_slots():
    server = Server(Policy(health=HealthPolicy(stall_seconds=0, canary_minutes=1))).ready().after(5.0)
    assert life.CheckActivity(server.state.attempt, busy=False, ask=True) in server.effects


def test_a_token_is_asked_for_again_after_the_next_idle_minutes():
    server = idle(Server(CANARY).ready(), 3600)
    canary(server, Canary.FINE)
    assert server.effects == []
    assert idle(server, 3600).has(life.SendCanary)
    assert server.now == pytest.approx(1200, abs=5)


def test_one_silent_canary_is_a_warning_and_the_next_follows_at_once():
    server = silent(idle(Server(CANARY).ready(), 3600))
    assert server.state.status is Status.READY
    server.send(life.ActivitySeen(server.state.attempt, Activity()))
    assert server.has(life.SendCanary)
    canary(server, Canary.FINE)
    assert server.state.status is Status.READY


def test_two_silent_canaries_in_a_row_are_hung():
    server = idle(Server(CANARY).ready(), 3600)
    for _ in range(2):
        silent(server).send(life.ActivitySeen(server.state.attempt, Activity()))
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.has(life.Terminate)
    failure = failure_of(FailureKind.HUNG, "/health says ok, but it gave no token within 180 s, twice")
    assert server.state.failure == failure
    server.dies(signal=9)
    assert life.CloseRun(Exit(signal=9), failure) in server.effects
    assert server.where == (Status.CRASHED, Phase.BACKOFF)


def test_a_silent_canary_is_told():
    server = idle(Server(CANARY).ready(), 3600)
    assert canary(server, Canary.SILENT).logs() == ["⚠️ [LLAMA] It is idle, but gave no token within 180 s"]


@pytest.mark.parametrize("activity", [{"busy": True, "mark": 1}, {"answered": False}, {"signs": True}])
def test_a_canary_that_had_to_wait_for_work_says_nothing(activity):
    server = idle(Server(CANARY).ready(), 3600)
    for _ in range(5):
        silent(server).send(life.ActivitySeen(server.state.attempt, Activity(**activity)))
        assert not server.has(life.SendCanary)
        idle(server, 3600)
    assert server.state.status is Status.READY


def test_a_server_that_completes_no_text_is_asked_once_in_its_life():
    server = idle(Server(CANARY).ready(), 3600)
    canary(server, Canary.UNSUPPORTED)
    assert server.logs()
    assert not idle(server, 36_000).has(life.SendCanary)
    server.send(life.Restart()).dies(code=0)
    server.send(life.Inspected(server.state.attempt, None)).send(life.Spawned(server.state.attempt, ME))
    server.healthy().send(life.ModelsRead(server.state.attempt, (MODEL,)))
    assert idle(server, 3600).has(life.SendCanary)


def test_a_canary_that_was_switched_off_meanwhile_ends_nothing():
    server = idle(Server(CANARY).ready(), 3600)
    silent(server).send(life.ActivitySeen(server.state.attempt, Activity()))
    server.policy = POLICY
    silent(server).send(life.ActivitySeen(server.state.attempt, Activity()))
    assert server.state.status is Status.READY


def test_a_server_that_is_restarted_for_its_memory_is_not_asked_for_a_token():
    server = Server(Policy(health=HealthPolicy(canary_minutes=10, max_memory_mb=1))).ready()
    idle(server, 590, memory=2**20).after(60)
    server.send(life.ActivitySeen(server.state.attempt, Activity(memory=2**21)))
    assert server.state.status is Status.STOPPING
    assert not server.has(life.SendCanary)


# After a supervisor that was killed


def test_a_server_in_backoff_goes_on_with_its_retries():
    server = Server().send(life.Continue(given_up=False, retries=3, failure=exited()))
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.retries == 3


@pytest.mark.parametrize(("failure", "watched"), [(CORRUPT, True), (exited(), False), (None, False)])
def test_a_server_that_was_given_up_stays_given_up(failure, watched):
    server = Server().send(life.Continue(given_up=True, retries=5, failure=failure))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert (server.state.deadline is not None) is watched


def test_continue_is_only_for_the_very_beginning():
    server = Server().ready()
    before = server.state
    assert server.send(life.Continue(given_up=False, retries=1, failure=None)).state == before


def test_a_process_of_ours_that_nobody_wrote_down_is_ours():
    holder = replace(stranger(llama=True), ours=True)
    server = Server().send(life.Start()).send(life.Inspected(1, holder))
    assert life.Adopt(1, holder, adopted=False) in server.effects


# A limit for its memory

GIB = 2**30
LIMITED = Policy(health=HealthPolicy(max_memory_mb=5 * 1024))


def uses(server: Server, gib: float, **more) -> Server:
    """The next look: so much memory."""
    server.after(5.0)
    return server.send(life.ActivitySeen(server.state.attempt, Activity(memory=int(gib * GIB), **more)))


def told(server: Server) -> tuple[str, ...]:
    return warnings(server.state, LIMITED)


def test_an_idle_server_over_its_memory_limit_is_restarted_and_that_is_no_crash():
    server = uses(uses(Server(LIMITED).ready(), 2.0), 5.5)
    assert server.where == (Status.STOPPING, Phase.ENDING)
    assert server.has(life.Terminate)
    server.dies(code=0)
    note = "It used 5.5 GiB, over its limit of 5.0 GiB."
    assert life.CloseRun(Exit(code=0), None, note) in server.effects
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert (server.state.retries, server.state.failure, server.state.note) == (0, None, note)


def test_what_it_is_doing_may_be_finished_first_and_people_are_told():
    server = uses(uses(Server(LIMITED).ready(), 2.0), 5.5, busy=True, mark=1)
    assert server.state.status is Status.READY
    assert told(server) == ("It uses 5.5 GiB, over its limit of 5.0 GiB: it restarts once idle.",)
    assert server.state.activity_at == server.now + 2.0
    uses(server, 5.6, answered=False)
    assert server.state.status is Status.READY
    assert not any(isinstance(effect, life.Log) for effect in server.effects), "told once"
    uses(server, 5.6)
    assert server.state.status is Status.STOPPING


def test_after_a_minute_it_is_restarted_although_it_works():
    server = uses(Server(LIMITED).ready(), 2.0)
    mark = 0
    while server.state.status is Status.READY and server.now < 1000:
        mark += 1
        uses(server, 5.5, busy=True, mark=mark)
    assert server.state.status is Status.STOPPING
    assert 65 <= server.now <= 80


def test_memory_that_shrinks_again_is_forgiven():
    server = uses(uses(Server(LIMITED).ready(), 2.0), 5.5, busy=True, mark=1)
    uses(server, 4.0, busy=True, mark=2)
    assert server.state.over_since is None
    assert told(server) == ()


def test_a_server_that_needs_as_much_from_its_start_is_not_restarted_for_ever():
    server = Server(LIMITED).ready()
    for _ in range(30):
        uses(server, 6.0)
    assert server.state.status is Status.READY
    assert told(server) == (
        "It used 6.0 GiB from its start, over its limit of 5.0 GiB: raise max_memory_mb, or choose a smaller"
        " context (-c) or model.",
    )


def test_what_it_used_when_it_became_ready_counts_as_its_start():
    server = Server(LIMITED).spawned().healthy()
    server.send(life.ModelsRead(server.state.attempt, (MODEL,), memory=2 * GIB))
    assert server.state.memory == 2 * GIB
    uses(server, 6.0)
    assert server.state.status is Status.STOPPING


def test_nine_tenths_of_the_limit_are_a_warning():
    assert told(uses(Server(LIMITED).ready(), 4.4)) == ()
    assert told(uses(Server(LIMITED).ready(), 4.6)) == ("It uses 4.6 GiB; over 5.0 GiB it is restarted.",)


def test_memory_that_cannot_be_read_is_no_memory_that_fits():
    server = uses(Server(LIMITED).ready(), 0.0)
    assert not server.state.fits


def test_without_a_limit_memory_is_only_looked_at():
    server = uses(Server().ready(), 500.0)
    assert server.state.status is Status.READY
    assert warnings(server.state, server.policy) == ()


def test_a_limit_alone_is_reason_to_ask_its_slots():
    policy = Policy(health=HealthPolicy(stall_seconds=0, max_memory_mb=1))
    server = Server(policy).ready().after(5.0)
    assert life.CheckActivity(server.state.attempt, busy=False, ask=True) in server.effects


def test_a_ready_server_that_says_it_loads_is_a_warning_until_it_does_not():
    server = Server().ready().after(1.0)
    server.send(life.HealthChecked(server.state.attempt, Health.LOADING))
    assert "loads its model" in warnings(server.state, server.policy)[0]
    server.after(1.0).healthy()
    assert warnings(server.state, server.policy) == ()


def test_a_server_that_does_not_serve_has_no_warnings():
    server = Server().spawned().healthy()
    server.send(life.ModelsRead(server.state.attempt, (), ("Something.",)))
    assert warnings(server.state, server.policy) == ("Something.",)
    server.send(life.Stop())
    assert warnings(server.state, server.policy) == ()
