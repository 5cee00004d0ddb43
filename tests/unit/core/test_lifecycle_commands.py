"""A server is stopped, restarted, configured anew and taken over, and whose process it is decides how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle as life
from supervisor_app.core.lifecycle import Phase
from supervisor_app.core.sightings import Exit, Health, Identity
from supervisor_app.core.status import Status
from supervisor_app.core.testing import exited, stranger
from tests.unit.core.deciding import CORRUPT, ME, MODEL, Server

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
    assert life.Adopt(1, holder, adopted=False, recorded=True) in server.effects
    server.send(life.Spawned(1, ME, resumed=True))
    assert not server.has(life.OpenRun)
    assert server.state.retries == 2
    assert not server.state.adopted


def test_a_process_that_was_not_written_down_gets_its_run():
    holder = stranger(llama=True)
    server = Server().send(life.Resume(holder, adopted=False, retries=2, recorded=False))
    assert life.Adopt(1, holder, adopted=False, recorded=False) in server.effects
    server.send(life.Spawned(1, ME))
    assert life.OpenRun(ME, False, 2) in server.effects


def test_resume_is_only_for_the_very_beginning():
    server = Server().ready()
    before = server.state
    assert server.send(life.Resume(stranger(llama=True), adopted=True, retries=0)).state == before


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
