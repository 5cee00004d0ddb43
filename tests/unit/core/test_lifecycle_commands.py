"""A server is stopped, restarted, configured anew and taken over, and whose process it is decides how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.sightings import Exit, Health, Identity
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import exited, stranger
from tests.unit.core.deciding import CORRUPT, ME, MODEL, Server

# Stopping


def test_stop_sends_sigterm_once_and_ends_in_initial():
    server = Server().ready().send(lifecycle.Stop())
    assert server.where == (Status.STOPPING, Phase.ENDING)
    assert server.effects == [lifecycle.Terminate(1)]
    assert server.send(lifecycle.Stop()).effects == []
    server.dies(code=0)
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert lifecycle.CloseRun(Exit(code=0), None) in server.effects


def test_stop_escalates_to_sigkill_after_the_grace():
    server = Server().ready().send(lifecycle.Stop()).after(4.9)
    assert not server.has(lifecycle.Kill)
    assert server.after(0.1).has(lifecycle.Kill)


def test_a_stop_while_spawning_waits_for_the_process_and_ends_it():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None)).send(lifecycle.Stop())
    assert server.where == (Status.STOPPING, Phase.SPAWNING)
    server.send(lifecycle.Spawned(1, ME))
    assert server.has(lifecycle.Terminate)
    assert server.has(lifecycle.OpenRun)


def test_stop_while_spawning_fails_is_stopped():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None)).send(lifecycle.Stop())
    server.send(lifecycle.SpawnFailed(1, exited()))
    assert server.state.status is Status.INITIAL


@pytest.mark.parametrize("prepare", ["inspecting", "backoff", "error"])
def test_stop_without_a_process_is_immediate(prepare):
    server = Server().send(lifecycle.Start())
    if prepare == "backoff":
        server = Server().ready().dies()
    if prepare == "error":
        server = Server().spawned().dies(CORRUPT)
    assert server.send(lifecycle.Stop()).where == (Status.INITIAL, Phase.IDLE)


def test_stop_of_a_stopped_server_is_nothing():
    server = Server()
    before = server.state
    assert server.send(lifecycle.Stop()).state == before


def test_a_late_answer_does_not_wake_a_stopped_server():
    server = Server().send(lifecycle.Start()).send(lifecycle.Stop()).send(lifecycle.Inspected(1, None))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.effects == []


def test_start_while_stopping_starts_again_afterwards():
    server = Server().ready().send(lifecycle.Stop()).send(lifecycle.Start()).dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)


def test_start_while_a_hung_one_is_ended_starts_without_backoff():
    server = Server().ready()
    for _ in range(3):
        server.healthy(Health.SILENT)
    server.send(lifecycle.Start()).dies(signal=15)
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.retries == 0


@pytest.mark.parametrize("where", ["starting", "ready"])
def test_start_of_a_running_server_is_nothing(where):
    server = Server().spawned() if where == "starting" else Server().ready()
    before = server.state
    assert server.send(lifecycle.Start()).state == before


# Restart and configuration


def test_restart_ends_the_process_and_begins_anew_with_no_retries():
    server = Server().ready().send(lifecycle.Restart())
    assert server.where == (Status.STOPPING, Phase.ENDING)
    server.dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)


def test_restart_while_spawning_waits_for_the_process():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, None)).send(lifecycle.Restart())
    assert server.where == (Status.STOPPING, Phase.SPAWNING)
    server.send(lifecycle.Spawned(1, ME)).dies(code=0)
    assert server.state.status is Status.STARTING


def test_restart_starts_a_stopped_server():
    assert Server().send(lifecycle.Restart()).state.status is Status.STARTING


def test_a_changed_config_restarts_once_and_says_so():
    server = Server().ready().send(lifecycle.ConfigChanged()).send(lifecycle.ConfigChanged())
    assert server.state.note == "The configuration changed."
    server.dies(code=0)
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.note == "The configuration changed."


def test_a_changed_config_tries_again_after_error():
    server = Server().spawned().dies(CORRUPT).send(lifecycle.ConfigChanged())
    assert server.state.status is Status.STARTING


def test_a_changed_config_leaves_a_stopped_server_stopped():
    assert Server().send(lifecycle.ConfigChanged()).state.status is Status.INITIAL


# Adoption


def adopted(identity: Identity | None = ME) -> Server:
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, stranger(llama=True)))
    return server.send(lifecycle.Spawned(1, identity, adopted=True))


def test_an_adopted_server_is_checked_at_once():
    server = adopted()
    assert server.state.probe_at == server.now
    assert lifecycle.OpenRun(ME, adopted=True, retry=0) in server.effects


@pytest.mark.parametrize("ours", [True, False])
def test_on_a_port_that_was_chosen_only_what_we_started_is_taken_over(ours):
    holder = replace(stranger(llama=True), ours=ours)
    server = Server(Policy(adopts=False)).send(lifecycle.Start()).send(lifecycle.Inspected(1, holder))
    assert server.has(lifecycle.Adopt) is ours
    assert (server.state.failure is None) is ours
    assert ours or server.state.failure.kind is FailureKind.PORT_TAKEN


def test_when_an_adopted_server_dies_we_spawn_our_own():
    server = adopted().healthy().send(lifecycle.ModelsRead(1, (MODEL,))).dies().to_next_deadline()
    server.send(lifecycle.Inspected(server.state.attempt, None))
    assert server.effects == [lifecycle.Spawn(server.state.attempt)]


def test_our_own_end_spares_a_server_that_we_did_not_start():
    server = adopted().send(lifecycle.Stop(spare_adopted=True))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.has(lifecycle.Forget)
    assert not server.has(lifecycle.Terminate)


def test_our_own_end_spares_one_that_was_just_being_taken_over():
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, stranger(llama=True)))
    server.send(lifecycle.Stop(spare_adopted=True)).send(lifecycle.Spawned(1, ME, adopted=True))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert server.has(lifecycle.Forget)


def test_our_own_end_stops_what_we_started():
    assert Server().ready().send(lifecycle.Stop(spare_adopted=True)).has(lifecycle.Terminate)


def test_a_users_stop_ends_an_adopted_server_too():
    assert adopted().send(lifecycle.Stop()).has(lifecycle.Terminate)


def test_a_server_of_another_user_is_left_running_with_a_word():
    server = adopted(None).send(lifecycle.Stop()).send(lifecycle.SignalDenied(1))
    assert server.where == (Status.INITIAL, Phase.IDLE)
    assert "another user" in server.state.note
    assert server.has(lifecycle.Forget)
    assert server.has(lifecycle.CloseRun)


def test_a_hung_server_of_another_user_goes_into_backoff():
    server = adopted(None).after(60.0).send(lifecycle.SignalDenied(1))
    assert server.where == (Status.CRASHED, Phase.BACKOFF)


def test_a_process_of_the_last_supervisor_goes_on_with_its_retries_and_its_run():
    holder = stranger(llama=True)
    server = Server().send(lifecycle.Resume(holder, adopted=False, retries=2))
    assert lifecycle.Adopt(1, holder, adopted=False, recorded=True) in server.effects
    server.send(lifecycle.Spawned(1, ME, resumed=True))
    assert not server.has(lifecycle.OpenRun)
    assert server.state.retries == 2
    assert not server.state.adopted


def test_a_process_that_was_not_written_down_gets_its_run():
    holder = stranger(llama=True)
    server = Server().send(lifecycle.Resume(holder, adopted=False, retries=2, recorded=False))
    assert lifecycle.Adopt(1, holder, adopted=False, recorded=False) in server.effects
    server.send(lifecycle.Spawned(1, ME))
    assert lifecycle.OpenRun(ME, False, 2) in server.effects


def test_resume_is_only_for_the_very_beginning():
    server = Server().ready()
    before = server.state
    assert server.send(lifecycle.Resume(stranger(llama=True), adopted=True, retries=0)).state == before


# After a supervisor that was killed


def test_a_server_in_backoff_goes_on_with_its_retries():
    server = Server().send(lifecycle.Continue(given_up=False, retries=3, failure=exited()))
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.retries == 3


@pytest.mark.parametrize(("failure", "watched"), [(CORRUPT, True), (exited(), False), (None, False)])
def test_a_server_that_was_given_up_stays_given_up(failure, watched):
    server = Server().send(lifecycle.Continue(given_up=True, retries=5, failure=failure))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert (server.state.deadline is not None) is watched


def test_continue_is_only_for_the_very_beginning():
    server = Server().ready()
    before = server.state
    assert server.send(lifecycle.Continue(given_up=False, retries=1, failure=None)).state == before


def test_a_process_of_ours_that_nobody_wrote_down_is_ours():
    holder = replace(stranger(llama=True), ours=True)
    server = Server().send(lifecycle.Start()).send(lifecycle.Inspected(1, holder))
    assert lifecycle.Adopt(1, holder, adopted=False) in server.effects
