"""Looks that we could not take and time in which we did not run are held against no server."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.sightings import Canary, Health
from supervisor_app.core.spec import HealthPolicy
from supervisor_app.core.status import Status
from supervisor_app.core.testing import make_spec, stranger
from supervisor_app.core.watch.watchdog import Activity
from supervisor_app.core.wording import sentence, warnings
from tests.unit.core.deciding import CORRUPT, POLICY, Server

WHY = "llamaproxy has no file descriptor left"


def postponed(server: Server, effect: lifecycle.Attempted) -> Server:
    return server.send(lifecycle.Postponed(server.state.attempt, effect, WHY, server.now))


def effect_of(server: Server, kind: type) -> Any:
    return next(effect for effect in server.effects if isinstance(effect, kind))


def test_a_check_that_could_not_be_made_is_no_miss_however_often():
    server = Server().ready()
    for _ in range(100):
        server.after(1.0)
        postponed(server, lifecycle.CheckHealth(server.state.attempt))
    assert server.state.status is Status.READY
    assert server.state.misses == 0


def test_a_postponed_effect_is_tried_again_a_second_later():
    server = Server().ready()
    check, look = (
        lifecycle.CheckHealth(server.state.attempt),
        lifecycle.CheckActivity(server.state.attempt, busy=True),
    )
    postponed(postponed(server, check), look)
    assert server.after(0.5).effects == []
    assert server.after(0.5).effects == [check, look]
    assert server.state.postponed == ()


def test_a_hindrance_is_told_once_and_when_it_is_over():
    server = Server().ready()
    postponed(server, lifecycle.CheckHealth(server.state.attempt))
    assert "no file descriptor" in server.logs()[0]
    assert "no fault of the server" in server.logs()[0]
    assert WHY[11:] in warnings(server.state, POLICY)[0]
    server.after(1.0)
    assert postponed(server, lifecycle.CheckHealth(server.state.attempt)).logs() == []
    server.after(1.0).healthy()
    while server.state.free_at is not None:
        server.to_next_deadline().healthy()
    assert warnings(server.state, POLICY) == ()


@pytest.fixture
def spec():
    return make_spec()


def test_a_hindrance_during_a_start_is_told_in_the_servers_sentence(spec):
    server = Server().send(lifecycle.Start())
    postponed(server, lifecycle.InspectPort(server.state.attempt))
    assert "file descriptor left: llamaproxy looks again" in sentence(server.state, POLICY, spec)


def test_a_spawn_that_could_not_be_made_burns_no_retry_and_asks_for_the_port_again():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None))
    for _ in range(20):
        postponed(server, effect_of(server, lifecycle.Spawn))
        assert server.where == (Status.STARTING, Phase.INSPECTING)
        server.after(1.0)
        assert server.effects == [lifecycle.InspectPort(1)]
        server.send(lifecycle.Inspected(1, None))
    assert server.state.retries == 0
    assert server.state.failure is None


def test_an_adoption_that_could_not_be_made_is_made_later():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, stranger(llama=True)))
    adopt = effect_of(server, lifecycle.Adopt)
    assert postponed(server, adopt).where == (Status.STARTING, Phase.SPAWNING)
    assert server.after(1.0).effects == [adopt]


def test_a_stopped_server_does_not_wait_for_a_spawn_that_cannot_be():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None))
    spawn = effect_of(server, lifecycle.Spawn)
    server.send(lifecycle.Stop())
    assert server.state.status is Status.STOPPING
    assert postponed(server, spawn).where == (Status.INITIAL, Phase.IDLE)


def test_a_start_that_cannot_be_looked_at_is_not_silent():
    """60 s without an answer end a start: not those in which nobody could ask."""
    server = Server().spawned()
    while server.now < 300:
        postponed(server.after(1.0), lifecycle.CheckHealth(server.state.attempt))
    assert server.where == (Status.STARTING, Phase.WAITING)
    while server.state.status is Status.STARTING and server.now < 500:
        server.to_next_deadline()
        server.healthy(Health.REFUSED)
    assert server.state.status is Status.CRASHED, "then it is looked at again, and silent"


def test_a_signal_that_could_not_be_sent_is_sent_later_and_its_grace_begins_then():
    server = Server().ready().send(lifecycle.Stop())
    terminate = effect_of(server, lifecycle.Terminate)
    for _ in range(20):
        postponed(server, terminate)
        assert not server.after(1.0).has(lifecycle.Kill)
        assert server.effects == [terminate]


def test_a_postponed_effect_that_is_too_late_is_dropped():
    server = Server().ready()
    check = lifecycle.CheckHealth(server.state.attempt)
    server.send(lifecycle.Stop())
    before = server.state
    assert postponed(server, check).state == before
    assert server.effects == []


def test_postponed_effects_are_dropped_when_the_process_is_ended():
    server = Server().ready()
    postponed(server, lifecycle.CheckHealth(server.state.attempt)).send(lifecycle.Stop())
    assert server.state.postponed == ()
    assert server.state.again_at is None


def test_a_cause_that_could_not_be_looked_at_is_looked_at_later():
    server = Server().spawned().dies(CORRUPT).to_next_deadline()
    check = effect_of(server, lifecycle.CheckCause)
    postponed(server, check)
    assert server.state.status is Status.ERROR
    assert server.after(1.0).effects == [check]


# We did not run


def paused(server: Server, seconds: float) -> Server:
    """Stopped with the server for so long; the runner says so before anything else."""
    server.now += seconds
    return server.send(lifecycle.Unobserved(seconds))


def test_silence_while_we_did_not_run_is_no_silence():
    server = Server().spawned().healthy(Health.REFUSED)
    paused(server, 3600).after(0.25)
    assert server.where == (Status.STARTING, Phase.WAITING)


def test_loading_may_take_as_long_as_before():
    server = Server().spawned().healthy(Health.LOADING)
    paused(server, 3600).after(0.25).healthy(Health.LOADING)
    assert server.where == (Status.STARTING, Phase.WAITING)


def test_a_check_that_began_before_is_asked_again():
    server = Server().ready().healthy(Health.SILENT).healthy(Health.SILENT).after(1.0)
    asked_at = server.now
    paused(server, 45)
    server.send(lifecycle.HealthChecked(server.state.attempt, Health.SILENT, asked_at=asked_at))
    assert server.state.status is Status.READY
    assert server.state.misses == 0
    assert server.after(0).has(lifecycle.CheckHealth)


def test_a_check_that_began_after_the_pause_counts():
    server = Server().ready()
    paused(server, 45)
    for _ in range(3):
        server.send(lifecycle.HealthChecked(server.state.attempt, Health.SILENT, asked_at=server.now))
    assert server.state.status is Status.CRASHED


def test_an_answer_counts_whenever_it_was_asked_for():
    server = Server().ready().healthy(Health.SILENT)
    paused(server, 45)
    server.send(lifecycle.HealthChecked(server.state.attempt, Health.OK, asked_at=0))
    assert server.state.probe_at == server.now + 1


def test_work_that_did_not_move_meanwhile_is_not_stuck():
    server = Server().ready().after(5)
    look = Activity(busy=True, mark=1)
    server.send(lifecycle.ActivitySeen(server.state.attempt, look))
    paused(server, 3600).send(lifecycle.ActivitySeen(server.state.attempt, look))
    assert server.state.status is Status.READY


def test_the_grace_of_a_stop_does_not_run_while_we_do_not():
    server = Server().ready().send(lifecycle.Stop())
    paused(server, 60)
    assert not server.after(0).has(lifecycle.Kill)
    assert server.after(5).has(lifecycle.Kill)


def test_time_over_the_memory_limit_does_not_run_while_we_do_not():
    server = Server(Policy(health=HealthPolicy(max_memory_mb=1))).ready()
    server.send(lifecycle.ActivitySeen(server.state.attempt, Activity(memory=1)))
    over = Activity(memory=2 * 2**20, busy=True)
    server.send(lifecycle.ActivitySeen(server.state.attempt, over))
    paused(server, 3600).send(lifecycle.ActivitySeen(server.state.attempt, over))
    assert server.state.status is Status.READY


def test_a_canary_that_was_silent_meanwhile_is_asked_again():
    server = Server(Policy(health=HealthPolicy(canary_minutes=1))).ready()
    paused(server, 3600)
    server.send(lifecycle.CanarySeen(server.state.attempt, Canary.SILENT, asked_at=0))
    assert server.state.watch.silent_canaries == 0
    assert server.after(0).has(lifecycle.CheckActivity)


def test_a_late_answer_to_a_server_that_is_ending_changes_nothing():
    server = Server().ready()
    paused(server, 45).send(lifecycle.Stop())
    before = server.state
    server.send(lifecycle.HealthChecked(server.state.attempt, Health.SILENT, asked_at=0))
    assert server.state == before
