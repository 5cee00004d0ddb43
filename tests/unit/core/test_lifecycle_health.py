"""A server that hangs is ended, one that needs too much memory is restarted, and people are warned before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.sightings import Canary, Exit, Health
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.watch.watchdog import Activity
from supervisor_app.core.wording import warnings
from tests.unit.core.deciding import ME, MODEL, POLICY, Server

# Liveness


def test_three_missed_checks_in_a_row_are_hung():
    server = Server().ready()
    server.healthy(Health.SILENT).healthy(Health.SILENT)
    assert server.state.status is Status.READY
    server.healthy(Health.REFUSED)
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.HUNG
    assert server.has(lifecycle.Terminate)


@pytest.mark.parametrize("health", [Health.OK, Health.LOADING])
def test_a_single_answer_forgives_missed_checks(health):
    server = Server().ready().healthy(Health.SILENT).healthy(Health.SILENT).healthy(health)
    assert server.state.misses == 0
    assert server.healthy(Health.SILENT).state.status is Status.READY


def test_a_hung_server_that_ignores_sigterm_is_killed_after_the_grace():
    server = Server().ready()
    for _ in range(3):
        server.healthy(Health.SILENT)
    server.after(5.0)
    assert server.has(lifecycle.Kill)
    server.dies(signal=9)
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert server.state.failure.kind is FailureKind.HUNG, "it died of hanging, not of our signal"


# A router's models


LOADED, UNLOADED = (replace(MODEL, status=status) for status in ("loaded", "unloaded"))


def read_again(server: Server, models) -> Server:
    return server.send(lifecycle.ModelsReadAgain(server.state.attempt, models))


def test_the_model_of_a_server_with_one_is_read_once():
    server = Server().ready()
    for _ in range(60):
        server.after(1.0).healthy()
        assert not server.has(lifecycle.ReadModelsAgain)


def test_the_models_of_a_router_are_read_again_and_again():
    server = Server().spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (UNLOADED,)))
    server.after(9.0)
    assert not server.has(lifecycle.ReadModelsAgain)
    server.after(1.0)
    assert lifecycle.ReadModelsAgain(server.state.attempt) in server.effects
    server.after(60.0)
    assert not server.has(lifecycle.ReadModelsAgain), "once, until it has answered"
    read_again(server, (LOADED, MODEL))
    assert (server.state.models, server.where) == ((LOADED, MODEL), (Status.READY, Phase.SERVING))
    read_again(server.after(10.0), None)
    assert server.state.models == (LOADED, MODEL), "it did not say"
    assert lifecycle.ReadModelsAgain(server.state.attempt) in server.after(10.0).effects


def test_a_list_of_models_that_comes_after_the_end_is_ignored():
    server = Server().spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (UNLOADED,)))
    server.dies(signal=9)
    read_again(server, (LOADED,))
    assert LOADED not in server.state.models
    assert server.state.models_at is None


def test_a_router_that_is_ending_is_not_asked_for_its_models():
    server = Server().spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (UNLOADED,))).after(9.0).send(lifecycle.Stop())
    server.after(1.0)
    assert (server.state.phase, server.effects) == (Phase.ENDING, [])


# Hung is not healthy


def working(server: Server, mark: object, **more) -> Server:
    return server.send(lifecycle.ActivitySeen(server.state.attempt, Activity(busy=True, mark=mark, **more)))


def test_work_that_does_not_move_is_hung_whatever_health_says():
    server = Server().ready()
    while server.state.status is Status.READY and server.now < 1000:
        server.after(2.0).healthy()
        working(server, "stuck")
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.state.failure.kind is FailureKind.HUNG
    assert "/health says ok" in server.state.failure.detail
    assert 180 <= server.now <= 190
    assert server.has(lifecycle.Terminate)


def test_a_server_is_looked_at_while_it_serves_and_not_while_it_ends():
    server = Server().ready().after(5.0)
    assert lifecycle.CheckActivity(server.state.attempt, busy=False) in server.effects
    working(server, 1).after(2.0)
    assert lifecycle.CheckActivity(server.state.attempt, busy=True) in server.effects
    server.send(lifecycle.Stop())
    assert server.state.activity_at is None


def test_the_watchdog_can_be_switched_off():
    server = Server(Policy(health=HealthPolicy(stall_seconds=0))).ready().after(5.0)
    assert lifecycle.CheckActivity(server.state.attempt, busy=False, ask=False) in server.effects
    for _ in range(100):
        working(server, "stuck")
    assert server.state.status is Status.READY


# One token after long idleness

CANARY = Policy(health=HealthPolicy(canary_minutes=10))


def idle(server: Server, seconds: float, **activity) -> Server:
    """Looked at for so long, or until it is asked for a token."""
    end = server.now + seconds
    while server.state.phase is Phase.SERVING and server.now < end:
        server.after(5.0).send(lifecycle.ActivitySeen(server.state.attempt, Activity(**activity)))
        if server.has(lifecycle.SendCanary):
            break
    return server


def canary(server: Server, canary: Canary) -> Server:
    return server.send(lifecycle.CanarySeen(server.state.attempt, canary))


def silent(server: Server) -> Server:
    """So is the canary, for as long as it may take; then the server is looked at."""
    server.after(180.0)
    canary(server, Canary.SILENT).after(0)
    assert lifecycle.CheckActivity(server.state.attempt, busy=False) in server.effects
    return server


def test_an_idle_server_is_asked_for_a_token_and_not_looked_at_meanwhile():
    server = idle(Server(CANARY).ready(), 3600)
    assert server.effects == [lifecycle.SendCanary(server.state.attempt)]
    assert server.now == pytest.approx(600)
    server.after(3600)
    assert not server.has(lifecycle.CheckActivity)


def test_a_canary_alone_is_reason_to_ask_its_slots():
    server = Server(Policy(health=HealthPolicy(stall_seconds=0, canary_minutes=1))).ready().after(5.0)
    assert lifecycle.CheckActivity(server.state.attempt, busy=False, ask=True) in server.effects


def test_a_token_is_asked_for_again_after_the_next_idle_minutes():
    server = idle(Server(CANARY).ready(), 3600)
    canary(server, Canary.FINE)
    assert server.effects == []
    assert idle(server, 3600).has(lifecycle.SendCanary)
    assert server.now == pytest.approx(1200, abs=5)


def test_a_silent_canary_is_a_warning_and_the_next_follows_at_once():
    server = silent(idle(Server(CANARY).ready(), 3600))
    assert server.state.status is Status.READY
    server.send(lifecycle.ActivitySeen(server.state.attempt, Activity()))
    assert server.has(lifecycle.SendCanary)
    canary(server, Canary.FINE)
    assert server.state.status is Status.READY


def test_two_silent_canaries_in_a_row_are_hung():
    server = idle(Server(CANARY).ready(), 3600)
    for _ in range(2):
        silent(server).send(lifecycle.ActivitySeen(server.state.attempt, Activity()))
    assert server.where == (Status.CRASHED, Phase.ENDING)
    assert server.has(lifecycle.Terminate)
    failure = failure_of(FailureKind.HUNG, "/health says ok, but it gave no token within 3 m, twice")
    assert server.state.failure == failure
    server.dies(signal=9)
    assert lifecycle.CloseRun(Exit(signal=9), failure) in server.effects
    assert server.where == (Status.CRASHED, Phase.BACKOFF)


def test_a_silent_canary_is_told():
    server = idle(Server(CANARY).ready(), 3600)
    assert canary(server, Canary.SILENT).logs() == ["⚠️ [LLAMA] It is idle, but gave no token within 3 m"]


@pytest.mark.parametrize("activity", [{"busy": True, "mark": 1}, {"answered": False}, {"signs": True}])
def test_a_canary_that_had_to_wait_for_work_says_nothing(activity):
    server = idle(Server(CANARY).ready(), 3600)
    for _ in range(5):
        silent(server).send(lifecycle.ActivitySeen(server.state.attempt, Activity(**activity)))
        assert not server.has(lifecycle.SendCanary)
        idle(server, 3600)
    assert server.state.status is Status.READY


def test_a_server_that_completes_no_text_is_asked_once_in_its_life():
    server = idle(Server(CANARY).ready(), 3600)
    canary(server, Canary.UNSUPPORTED)
    assert server.logs()
    assert not idle(server, 36_000).has(lifecycle.SendCanary)
    server.send(lifecycle.Restart()).dies(code=0)
    server.send(lifecycle.Inspected(server.state.attempt, None)).send(
        lifecycle.Spawned(server.state.attempt, ME)
    )
    server.healthy().send(lifecycle.ModelsRead(server.state.attempt, (MODEL,)))
    assert idle(server, 3600).has(lifecycle.SendCanary)


def test_a_canary_that_was_switched_off_meanwhile_ends_nothing():
    server = idle(Server(CANARY).ready(), 3600)
    silent(server).send(lifecycle.ActivitySeen(server.state.attempt, Activity()))
    server.policy = POLICY
    silent(server).send(lifecycle.ActivitySeen(server.state.attempt, Activity()))
    assert server.state.status is Status.READY


def test_a_server_that_is_restarted_for_its_memory_is_not_asked_for_a_token():
    server = Server(Policy(health=HealthPolicy(canary_minutes=10, max_memory_mb=1))).ready()
    idle(server, 590, memory=2**20).after(60)
    server.send(lifecycle.ActivitySeen(server.state.attempt, Activity(memory=2**21)))
    assert server.state.status is Status.STOPPING
    assert not server.has(lifecycle.SendCanary)


# A limit for its memory

GIB = 2**30
LIMITED = Policy(health=HealthPolicy(max_memory_mb=5 * 1024))


def uses(server: Server, gib: float, **more) -> Server:
    """The next look: so much memory."""
    server.after(5.0)
    return server.send(lifecycle.ActivitySeen(server.state.attempt, Activity(memory=int(gib * GIB), **more)))


def told(server: Server) -> tuple[str, ...]:
    return warnings(server.state, LIMITED)


def test_an_idle_server_over_its_memory_limit_is_restarted_and_that_is_no_crash():
    server = uses(uses(Server(LIMITED).ready(), 2.0), 5.5)
    assert server.where == (Status.STOPPING, Phase.ENDING)
    assert server.has(lifecycle.Terminate)
    server.dies(code=0)
    note = "It used 5.5 GiB, over its limit of 5.0 GiB."
    assert lifecycle.CloseRun(Exit(code=0), None, note) in server.effects
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert (server.state.retries, server.state.failure, server.state.note) == (0, None, note)


def test_a_restart_for_memory_waits_until_the_server_is_idle():
    server = uses(uses(Server(LIMITED).ready(), 2.0), 5.5, busy=True, mark=1)
    assert server.state.status is Status.READY
    assert told(server) == ("It uses 5.5 GiB, over its limit of 5.0 GiB: it restarts once idle.",)
    assert server.state.activity_at == server.now + 2.0
    uses(server, 5.6, answered=False)
    assert server.state.status is Status.READY
    assert not any(isinstance(effect, lifecycle.Log) for effect in server.effects), "told once"
    uses(server, 5.6)
    assert server.state.status is Status.STOPPING


def test_a_server_that_works_is_restarted_after_a_minute_over_its_limit():
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


def test_memory_at_ready_counts_as_the_start():
    server = Server(LIMITED).spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (MODEL,), memory=2 * GIB))
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
    assert lifecycle.CheckActivity(server.state.attempt, busy=False, ask=True) in server.effects


def test_a_ready_server_that_says_it_loads_is_a_warning_until_it_does_not():
    server = Server().ready().after(1.0)
    server.send(lifecycle.HealthChecked(server.state.attempt, Health.LOADING))
    assert "loads its model" in warnings(server.state, server.policy)[0]
    server.after(1.0).healthy()
    assert warnings(server.state, server.policy) == ()


def test_a_server_that_does_not_serve_has_no_warnings():
    server = Server().spawned().healthy()
    server.send(lifecycle.ModelsRead(server.state.attempt, (), ("Something.",)))
    assert warnings(server.state, server.policy) == ("Something.",)
    server.send(lifecycle.Stop())
    assert warnings(server.state, server.policy) == ()
