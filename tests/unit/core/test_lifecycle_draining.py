"""A planned end waits for the requests in flight, and no longer than it is given."""

from __future__ import annotations

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.lifecycle.draining import GATE_SECONDS, LOOK_SECONDS
from supervisor_app.core.sightings import Health
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import Model, Status
from supervisor_app.core.testing import make_spec, stranger
from supervisor_app.core.wording import sentence
from tests.unit.core.deciding import ME, Server

POLICY = Policy(restart=RestartPolicy(drain_seconds=20))
DRAINS = (Status.STOPPING, Phase.DRAINING)
ENDS = (Status.STOPPING, Phase.ENDING)
SERVES = (Status.READY, Phase.SERVING)
STOP, RESTART, CHANGE = lifecycle.Stop(), lifecycle.Restart(), lifecycle.ConfigChanged()


def serving(policy=POLICY):
    return Server(policy).ready()


def draining(wish=STOP, policy=POLICY):
    return serving(policy).send(wish)


def seen(server, count):
    """Let the next look find so many requests."""
    server.to_next_deadline()
    while not server.has(lifecycle.CheckRequests):
        server.to_next_deadline()
    return server.send(lifecycle.RequestsSeen(server.state.attempt, count))


def said(server):
    return sentence(server.state, server.policy, make_spec())


@pytest.mark.parametrize("wish", [STOP, RESTART, CHANGE])
def test_a_planned_end_signals_nobody_before_the_requests_are_done(wish):
    server = draining(wish)
    assert server.where == DRAINS
    assert server.state.is_drained
    assert not server.has(lifecycle.Terminate)
    seen(server, 2)
    assert server.where == DRAINS
    seen(server, 0)
    assert server.where == ENDS
    assert server.has(lifecycle.Terminate)
    assert not server.state.is_drained


def test_nobody_is_asked_before_gateways_have_heard():
    server = draining()
    assert not server.after(GATE_SECONDS - 0.01).has(lifecycle.CheckRequests)
    assert server.after(0.01).has(lifecycle.CheckRequests)
    server.send(lifecycle.RequestsSeen(server.state.attempt, 1))
    assert not server.after(LOOK_SECONDS - 0.01).has(lifecycle.CheckRequests)
    assert server.after(0.01).has(lifecycle.CheckRequests)


def test_people_read_how_many_requests_there_are_and_how_long_they_have():
    server = draining()
    assert said(server) == "Draining: requests in flight are finished first."
    assert "Draining: 2 requests in flight, at most 20 s more." in said(seen(server, 2))
    server = seen(draining(lifecycle.Restart("A test.")), 1)
    assert (
        said(server)
        == "A test. Draining: 1 request in flight, at most 20 s more. It starts again after that."
    )


def test_requests_that_take_too_long_are_cut_off():
    server = seen(draining(), 2).after(20)
    assert server.where == ENDS
    assert server.has(lifecycle.Terminate)
    assert "2 requests still in flight after 20 s" in server.logs()[0]


def test_a_server_whose_requests_nobody_has_counted_ends_in_time_too():
    assert draining().after(20).where == ENDS


@pytest.mark.parametrize("wish", [lifecycle.Stop(at_once=True), lifecycle.Restart(at_once=True)])
def test_a_wish_may_not_wait(wish):
    assert serving().send(wish).where == ENDS
    assert draining().send(wish).where == ENDS
    assert draining(RESTART).send(wish).where == ENDS


def test_without_time_for_requests_the_end_comes_at_once():
    assert draining(policy=Policy(restart=RestartPolicy(drain_seconds=0))).where == ENDS


def test_a_server_that_is_not_ready_has_no_requests():
    assert Server(POLICY).spawned().send(STOP).where == ENDS


def test_a_server_that_has_fallen_silent_is_not_waited_for():
    server = serving().healthy(Health.SILENT)
    assert server.send(STOP).where == ENDS


def test_a_server_that_is_silent_while_it_computes_is_waited_for():
    server = serving()
    server.send(lifecycle.HealthChecked(server.state.attempt, Health.SILENT, computing=True))
    assert server.send(STOP).where == DRAINS


def test_a_server_that_hangs_while_it_drains_ends():
    server = draining()
    for _ in range(server.policy.health.max_misses):
        server.healthy(Health.SILENT)
    assert server.where == ENDS
    assert "Hung" in server.logs()[0] or "missed" in server.logs()[0]
    server.dies()
    assert server.where == (Status.INITIAL, Phase.IDLE)


@pytest.mark.parametrize(
    ("wish", "after"),
    [(STOP, (Status.INITIAL, Phase.IDLE)), (RESTART, (Status.STARTING, Phase.INSPECTING))],
)
def test_a_death_while_it_drains_is_told_and_the_wish_is_done(wish, after):
    server = draining(wish).dies(signal=11)
    assert server.where == after
    closed = next(effect for effect in server.effects if isinstance(effect, lifecycle.CloseRun))
    assert closed.failure is not None


def test_an_end_that_was_asked_for_is_no_failure():
    server = seen(draining(), 0).dies(code=0)
    closed = next(effect for effect in server.effects if isinstance(effect, lifecycle.CloseRun))
    assert closed.failure is None


# A second wish


def test_a_start_lets_a_server_serve_on_that_was_to_stop():
    server = seen(draining(), 1).send(lifecycle.Start(generation=3))
    assert server.where == SERVES
    assert server.state.drain_until_at is None
    assert server.state.look_at is None
    assert server.state.models_at is None
    assert server.after(1).has(lifecycle.CheckHealth)
    assert not server.send(lifecycle.RequestsSeen(server.state.attempt, 0)).effects
    assert server.where == SERVES


def test_a_router_that_serves_on_is_asked_for_its_models_again():
    server = Server(POLICY).spawned().healthy()
    router = Model(id="m", name="m", status="loaded")
    server.send(lifecycle.ModelsRead(server.state.attempt, (router,))).send(STOP)
    assert server.state.models_at is None
    assert server.send(lifecycle.Start()).state.models_at is not None


def test_a_start_after_a_change_is_a_new_process():
    server = draining().send(CHANGE).send(lifecycle.Start())
    assert server.where == DRAINS
    assert seen(server, 0).dies(code=0).where == (Status.STARTING, Phase.INSPECTING)


def test_a_start_changes_nothing_of_a_restart():
    server = draining(RESTART).send(lifecycle.Start())
    assert server.where == DRAINS
    assert server.state.start_next


def test_a_restart_of_a_server_that_is_to_stop_has_the_time_that_is_left():
    server = seen(draining(), 1).after(5).send(RESTART)
    until = server.state.drain_until_at
    assert server.state.start_next
    assert until == draining().state.drain_until_at


def test_a_stop_of_a_server_that_is_to_restart_lets_it_rest():
    server = seen(draining(RESTART).send(STOP), 0).dies(code=0)
    assert server.where == (Status.INITIAL, Phase.IDLE)


def test_a_change_in_the_middle_of_a_restart_is_taken_by_the_next_process():
    server = draining(RESTART).send(CHANGE)
    assert server.where == DRAINS
    assert server.state.start_next


# Under the next supervisor


def resumed(wish, *, has_served=True):
    """Take over a process with a wish that comes before it is known."""
    server = Server(POLICY)
    server.send(lifecycle.Resume(stranger(llama=True), adopted=False, retries=0, has_served=has_served))
    server.send(wish)
    assert server.state.is_drained == (has_served and not wish.at_once)
    return server.send(lifecycle.Spawned(server.state.attempt, ME, resumed=True))


@pytest.mark.parametrize("wish", [STOP, RESTART])
def test_a_process_that_was_taken_over_finishes_its_requests(wish):
    assert resumed(wish).where == DRAINS


@pytest.mark.parametrize("wish", [lifecycle.Stop(at_once=True), lifecycle.Restart(at_once=True)])
def test_a_process_that_was_taken_over_ends_at_once_where_that_is_wished(wish):
    assert resumed(wish).where == ENDS


def test_a_process_that_was_taken_over_and_never_served_has_nothing_to_finish():
    assert resumed(STOP, has_served=False).where == ENDS


def test_a_process_that_was_taken_over_and_drains_is_followed_by_another_one_if_it_is_started():
    assert resumed(STOP).send(lifecycle.Start()).state.start_next


# Time in which nobody looked


def test_time_in_which_nobody_looked_is_not_taken_from_the_requests():
    server = draining()
    before = server.state.drain_until_at
    server.now += 60
    server.send(lifecycle.Unobserved(60))
    assert server.state.drain_until_at == before + 60


def test_a_look_for_which_something_was_short_is_taken_again():
    server = draining().after(GATE_SECONDS)
    look = next(effect for effect in server.effects if isinstance(effect, lifecycle.CheckRequests))
    server.send(lifecycle.Postponed(server.state.attempt, look, "no descriptors", server.now))
    assert server.after(1).has(lifecycle.CheckRequests)
