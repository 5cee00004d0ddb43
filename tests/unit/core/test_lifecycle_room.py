"""Room in memory, as a server's lifecycle asks for it, waits for it and gives it back."""

from __future__ import annotations

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.loaded import Loaded, RoomOutcome
from supervisor_app.core.placement.world import Standing
from supervisor_app.core.room.tenants import standing_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.spec import LaunchSpec, RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import exited, make_spec, stranger
from supervisor_app.core.wording import sentence
from tests.unit.core.deciding import ME, MODEL, Server

POLICY = Policy(room=True)
WHY = "`big` needs 22.4 GiB on GPU 0. Free are 9.1 GiB."
LEFT = "Not loaded: made room for `coder`. The next request loads it."
TOO_BIG = failure_of(FailureKind.DOES_NOT_FIT, WHY.rstrip("."))
OUT_OF_MEMORY = failure_of(FailureKind.GPU_OUT_OF_MEMORY, "cudaMalloc failed")


class Tenant(Server):
    def __init__(self, policy: Policy = POLICY) -> None:
        super().__init__(policy)

    def asks(self, *, preload: bool = False) -> Tenant:
        self.send(lifecycle.Start(preload=preload))
        self.send(lifecycle.Inspected(self.state.attempt, None))
        return self

    def given(self, remark: str = "", *made_room: str) -> Tenant:
        self.send(lifecycle.RoomGiven(self.state.attempt, remark, made_room))
        return self

    def awaits(self, why: str = WHY) -> Tenant:
        self.send(lifecycle.RoomAwaited(self.state.attempt, why))
        return self

    def serves(self, *, preload: bool = False) -> Tenant:
        self.asks(preload=preload).given().send(lifecycle.Spawned(self.state.attempt, ME))
        self.healthy().send(lifecycle.ModelsRead(self.state.attempt, (MODEL,)))
        return self

    def unloads(self) -> Tenant:
        self.send(lifecycle.Unload(self.state.attempt, "Room is made for `coder`.", LEFT))
        return self

    def goes(self) -> Tenant:
        self.send(lifecycle.Exited(self.state.attempt, Exit(code=0), exited()))
        return self

    @property
    def detail(self) -> str:
        spec: LaunchSpec = make_spec()
        return sentence(self.state, self.policy, spec)


def loaded_of(server):
    return next(effect.loaded for effect in server.effects if isinstance(effect, lifecycle.MarkReady))


# --- A start -------------------------------------------------------------------------------------------


def test_without_making_room_a_start_spawns_at_once():
    server = Tenant(Policy()).asks()
    assert server.effects == [lifecycle.Spawn(server.state.attempt)]


def test_a_start_asks_for_room_once_nobody_listens_on_its_port():
    server = Tenant().asks()
    assert server.effects == [lifecycle.AskRoom(server.state.attempt)]
    assert server.where == (Status.STARTING, Phase.AWAITING_ROOM)
    assert server.state.deadline is None
    assert server.detail == "Looking whether it may load now."


def test_a_process_that_is_there_already_is_taken_over_without_room():
    server = Tenant()
    server.send(lifecycle.Start())
    server.send(lifecycle.Inspected(server.state.attempt, stranger(llama=True)))
    assert server.has(lifecycle.Adopt)
    assert not server.has(lifecycle.AskRoom)


def test_room_that_is_given_at_once_is_used_at_once():
    server = Tenant().asks().given("It is not known how much it needs.")
    assert server.has(lifecycle.Spawn)
    assert server.logs() == ["🤔 [LLAMA] It is not known how much it needs."]


def test_a_server_waiting_for_room_says_for_what_and_the_console_says_so_once():
    server = Tenant().asks().awaits()
    assert server.detail == WHY
    assert server.logs() == [f"⏳ [LLAMA] {WHY}"]
    server.awaits("Free are 10 GiB.")
    assert server.detail == "Free are 10 GiB."
    assert server.logs() == []


@pytest.mark.parametrize("seconds", [0, 1])
def test_room_that_comes_soon_is_used_without_another_look_at_the_port(seconds):
    server = Tenant().asks().awaits().after(seconds).given()
    assert server.effects == [lifecycle.Spawn(server.state.attempt)]
    assert not server.state.awaits


def test_a_server_looks_again_who_listens_after_a_long_wait_and_asks_for_no_more_room():
    server = Tenant().asks().awaits().after(2).given()
    assert server.effects == [lifecycle.InspectPort(server.state.attempt)]
    server.send(lifecycle.Inspected(server.state.attempt, None))
    assert server.effects == [lifecycle.Spawn(server.state.attempt)]


def test_a_spawn_that_is_postponed_keeps_its_room():
    server = Tenant().asks().given()
    attempt = server.state.attempt
    server.send(lifecycle.Postponed(attempt, lifecycle.Spawn(attempt), "no descriptor is left", 0.0)).after(1)
    server.send(lifecycle.Inspected(attempt, None))
    assert server.has(lifecycle.Spawn)


def test_a_server_that_can_never_fit_is_in_error_at_once_and_uses_up_no_retry():
    server = Tenant().asks()
    server.send(lifecycle.RoomRefused(server.state.attempt, TOO_BIG))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert lifecycle.CountRoom(RoomOutcome.REFUSED) in server.effects
    assert server.state.retries == 0
    assert server.state.deaths == ()
    assert server.detail == (
        f"Does not fit into memory: {WHY} It starts by itself once that is mended, or press Start."
    )


def test_a_refused_server_asks_again_once_the_world_has_changed():
    server = Tenant().asks()
    server.send(lifecycle.RoomRefused(server.state.attempt, TOO_BIG)).to_next_deadline()
    assert server.effects == [lifecycle.CheckCause(server.state.attempt, TOO_BIG)]
    server.send(lifecycle.CauseChecked(server.state.attempt, gone=True))
    server.send(lifecycle.Inspected(server.state.attempt, None))
    assert server.has(lifecycle.AskRoom)
    assert server.state.wished


def test_a_server_nobody_has_asked_for_rests_where_there_is_no_room():
    server = Tenant().asks(preload=True)
    server.send(lifecycle.NotLoaded(server.state.attempt, LEFT))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.detail == LEFT
    assert server.state.deadline is None


def test_a_server_that_rests_asks_again_once_there_is_room_as_nobody_s_wish():
    server = Tenant().asks(preload=True)
    server.send(lifecycle.NotLoaded(server.state.attempt, LEFT))
    server.send(lifecycle.RoomBack(server.state.attempt))
    assert server.detail.startswith("There is room for it now.")
    server.send(lifecycle.Inspected(server.state.attempt, None))
    assert server.where == (Status.STARTING, Phase.AWAITING_ROOM)
    assert not server.state.wished


def test_a_server_that_rests_says_the_newest_reason_and_the_console_only_the_first():
    server = Tenant().asks(preload=True)
    server.send(lifecycle.NotLoaded(server.state.attempt, LEFT))
    assert server.logs() == [f"💤 [LLAMA] {LEFT}"]
    server.send(lifecycle.NotLoaded(server.state.attempt, "Not loaded: others."))
    assert server.detail == "Not loaded: others."
    assert server.logs() == []


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "made room"])
def test_room_is_no_reason_to_begin_for_a_server_that_was_stopped_or_made_room(stopped):
    server = Tenant()
    if stopped:
        server.asks(preload=True)
        server.send(lifecycle.NotLoaded(server.state.attempt, LEFT)).send(lifecycle.Stop())
    else:
        server.serves().unloads().goes()
    server.send(lifecycle.RoomBack(server.state.attempt))
    assert server.where == (Status.INITIAL, Phase.IDLE)


def test_a_server_that_was_asked_for_meanwhile_does_not_rest():
    server = Tenant().asks(preload=True)
    server.send(lifecycle.Start(generation=2))
    assert server.effects == [lifecycle.AskRoom(server.state.attempt)]
    server.send(lifecycle.NotLoaded(server.state.attempt, LEFT))
    assert server.where == (Status.STARTING, Phase.AWAITING_ROOM)


@pytest.mark.parametrize("answer", [lifecycle.RoomGiven, lambda at: lifecycle.RoomAwaited(at, WHY)])
def test_an_answer_to_an_earlier_question_counts_for_nothing(answer):
    server = Tenant().asks()
    before = server.state.attempt
    server.send(lifecycle.Stop()).send(lifecycle.Start())
    where = server.where
    assert server.send(answer(before)).where == where
    assert server.effects == []


def test_a_stop_ends_the_wait_for_room():
    server = Tenant().asks().awaits()
    assert server.send(lifecycle.Stop()).where == (Status.INITIAL, Phase.IDLE)
    assert not server.state.unloaded


# --- Others need its room ------------------------------------------------------------------------------


def test_a_server_that_makes_room_ends_and_rests_until_somebody_asks():
    server = Tenant().serves().unloads()
    assert server.has(lifecycle.Terminate)
    assert lifecycle.CountRoom(RoomOutcome.EVICTED) in server.effects
    assert server.where == (Status.STOPPING, Phase.ENDING)
    assert server.detail == "Room is made for `coder`. Asked to end; SIGKILL follows after 5 s."
    server.goes()
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.detail == LEFT
    assert server.state.deadline is None
    closed = next(effect for effect in server.effects if isinstance(effect, lifecycle.CloseRun))
    assert (closed.failure, closed.note) == (None, "Room is made for `coder`.")


def test_a_request_wakes_an_evicted_server():
    server = Tenant().serves().unloads().goes()
    server.send(lifecycle.Start(generation=3))
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.wished
    assert not server.state.unloaded


def test_a_request_that_comes_during_an_eviction_has_the_server_start_again():
    server = Tenant().serves().unloads()
    server.send(lifecycle.Start(generation=3)).goes()
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.wished


def test_a_new_configuration_does_not_load_an_evicted_server():
    server = Tenant().serves().unloads().goes()
    assert server.send(lifecycle.ConfigChanged()).where == (Status.INITIAL, Phase.IDLE)
    assert server.detail == LEFT


@pytest.mark.parametrize("wish", [lifecycle.Stop(), lifecycle.Restart()])
def test_a_wish_that_comes_while_a_server_makes_room_wins(wish):
    server = Tenant().serves().unloads().send(wish)
    assert not server.state.unloaded


def test_only_a_server_that_serves_makes_room():
    server = Tenant().asks()
    server.unloads()
    assert server.effects == []
    assert server.where == (Status.STARTING, Phase.AWAITING_ROOM)


# --- Who asked -----------------------------------------------------------------------------------------


def test_a_new_try_after_a_crash_takes_nobody_s_place_once_the_server_was_ready():
    server = Tenant().serves()
    assert not server.state.wished
    server.dies(signal=9).to_next_deadline()
    assert not server.state.wished


def test_a_start_that_somebody_asked_for_stays_wished_over_its_retries():
    server = Tenant().asks().given()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).dies().to_next_deadline()
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.wished


# --- Out of memory -------------------------------------------------------------------------------------


def test_a_start_that_runs_out_of_memory_is_tried_once_more_with_more_room():
    server = Tenant().asks(preload=True).given()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).dies(OUT_OF_MEMORY)
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert server.state.retries == 0
    assert "more room is made for it. It starts again after 1 s." in server.detail
    assert any("more room is made" in said for said in server.logs())
    server.to_next_deadline()
    assert server.state.wished, "others go for it, whoever asked"


def test_the_second_death_for_want_of_memory_is_a_crash_like_any_other():
    server = Tenant(Policy(room=True, restart=RestartPolicy(max_retries=0))).asks()
    for _ in range(2):
        server.given().send(lifecycle.Spawned(server.state.attempt, ME)).dies(OUT_OF_MEMORY)
        if server.state.status is Status.CRASHED:
            server.to_next_deadline().send(lifecycle.Inspected(server.state.attempt, None))
    assert server.state.status is Status.ERROR


def test_a_run_that_was_stable_may_be_given_more_room_once_again():
    server = Tenant().asks().given()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).dies(OUT_OF_MEMORY).to_next_deadline()
    server.send(lifecycle.Inspected(server.state.attempt, None)).given()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,))).after(60)
    assert server.state.retries == 0
    server.dies(OUT_OF_MEMORY)
    assert server.state.retries == 0


def test_a_death_for_want_of_memory_uses_up_a_retry_without_making_room():
    server = Tenant(Policy()).asks()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).dies(OUT_OF_MEMORY)
    assert server.state.retries == 1


# --- How long it took ----------------------------------------------------------------------------------


def test_the_time_for_room_and_that_for_the_load_are_told_apart():
    server = Tenant().asks().awaits().after(2).given("", "coder")
    server.send(lifecycle.Inspected(server.state.attempt, None))
    server.send(lifecycle.Spawned(server.state.attempt, ME)).after(3).healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    loaded = loaded_of(server)
    assert loaded == Loaded(room_ms=2000, load_ms=loaded.load_ms, made_room=("coder",))
    assert loaded.load_ms >= 3000


def test_without_making_room_the_load_alone_is_measured():
    server = Tenant(Policy()).asks()
    server.send(lifecycle.Spawned(server.state.attempt, ME)).after(3).healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    assert loaded_of(server).room_ms == 0
    assert loaded_of(server).load_ms >= 3000


def test_nobody_knows_how_long_a_process_that_was_found_took_to_load():
    server = Tenant()
    server.send(lifecycle.Start())
    server.send(lifecycle.Inspected(server.state.attempt, stranger(llama=True)))
    server.send(lifecycle.Spawned(server.state.attempt, ME, adopted=True)).healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    assert loaded_of(server) is None


def test_a_process_that_has_ended_as_asked_leaves_its_room_before_its_post_mortem():
    server = Tenant().serves()
    server.send(lifecycle.Gone(server.state.attempt))
    assert standing_of(server.state) is Standing.IDLE, "a crash is no planned end"
    server.unloads()
    assert standing_of(server.state) is Standing.LEAVING
    server.send(lifecycle.Gone(server.state.attempt))
    assert standing_of(server.state) is None
    assert server.goes().where == (Status.INITIAL, Phase.IDLE)
    assert not server.state.gone
