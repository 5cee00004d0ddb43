"""Conversations are saved before an end that somebody asked for, and never hold it up for long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.context.rules import SAVE_SECONDS
from supervisor_app.core.context.saved import Kept
from supervisor_app.core.lifecycle import Policy
from supervisor_app.core.sightings import Health
from supervisor_app.core.status import Status
from tests.unit.core.deciding import MODEL, Server
from tests.unit.core.deciding import POLICY as WITHOUT

POLICY = Policy(keeps_context=True, restart=WITHOUT.restart)
KEPT = Kept(tokens=(900,), bytes=9)


def ready(policy=POLICY):
    return Server(policy).ready()


@pytest.mark.parametrize(
    "asked",
    [
        lifecycle.Stop(),
        lifecycle.Restart(),
        lifecycle.ConfigChanged(),
        lifecycle.Unload(1, "Made room.", "Not loaded."),
    ],
)
def test_a_planned_end_saves_first(asked):
    server = ready().send(asked)
    assert server.state.status is Status.STOPPING
    assert server.has(lifecycle.SaveContext)
    assert not server.has(lifecycle.Terminate)


def test_a_process_ends_once_its_conversations_are_saved():
    server = ready().send(lifecycle.Stop()).send(lifecycle.ContextSaved(1, KEPT))
    assert server.has(lifecycle.Terminate)
    assert lifecycle.CountContext({"saved": 1}) in server.effects
    assert "Saved 1 of 1 conversation" in server.logs()[0]
    assert server.after(4.9).effects == []
    assert server.after(0.1).has(lifecycle.Kill)


def test_a_server_with_nothing_to_save_ends_without_a_word():
    server = ready().send(lifecycle.Stop()).send(lifecycle.ContextSaved(1, Kept()))
    assert server.effects == [lifecycle.Terminate(1)]


def test_an_end_waits_no_longer_than_the_limit_and_late_news_changes_nothing():
    server = ready().send(lifecycle.Stop()).after(SAVE_SECONDS - 0.1)
    assert not server.has(lifecycle.Terminate)
    assert server.after(0.1).has(lifecycle.Terminate)
    assert not server.send(lifecycle.ContextSaved(1, KEPT)).has(lifecycle.Terminate)


def test_trouble_is_told_and_counted_and_the_end_goes_on():
    kept = Kept(lost=2, problem="too little of the disk is free")
    server = ready().send(lifecycle.Stop()).send(lifecycle.ContextSaved(1, kept))
    assert server.logs() == ["⚠️ [LLAMA] Its conversations are not saved: too little of the disk is free."]
    assert lifecycle.CountContext({"lost": 2}) in server.effects
    assert server.has(lifecycle.Terminate)


def test_a_server_that_dies_while_it_saves_has_ended():
    assert ready().send(lifecycle.Stop()).dies(signal=9).state.status is Status.INITIAL


def test_a_hung_server_saves_nothing():
    server = ready()
    for _ in range(3):
        server.to_next_deadline().healthy(Health.SILENT)
    assert server.state.status is Status.CRASHED
    assert server.has(lifecycle.Terminate)


def test_without_the_setting_before_ready_and_when_adopted_nothing_is_saved():
    assert ready(WITHOUT).send(lifecycle.Stop()).has(lifecycle.Terminate)
    assert Server(POLICY).spawned().send(lifecycle.Stop()).has(lifecycle.Terminate)
    server = ready()
    server.state = replace(server.state, adopted=True)
    assert server.send(lifecycle.Stop()).has(lifecycle.Terminate)


def test_the_page_says_what_was_restored_and_whether_that_was_of_use():
    server = Server(POLICY).spawned().healthy().send(lifecycle.ModelsRead(1, (MODEL,), context=KEPT))
    assert server.state.context.startswith("Restored 1 of 1 conversation, 900 tokens")
    assert lifecycle.CountContext({"restored": 1}) in server.effects
    server.send(lifecycle.ContextJudged(1, 899, 1))
    assert server.state.context.endswith("That was of use: 899 tokens were not computed again.")
    assert lifecycle.CountContext({"used": 1}) in server.effects


def test_a_restore_that_did_nothing_is_a_warning_and_counted():
    server = ready().send(lifecycle.ContextJudged(1, 0, 1))
    assert server.logs()[0].startswith("⚠️ [LLAMA] It was a restore that did nothing")
    assert lifecycle.CountContext({"unused": 1}) in server.effects


def test_a_judgement_that_comes_too_late_changes_nothing():
    server = ready().send(lifecycle.Stop())
    assert server.send(lifecycle.ContextJudged(1, 0, 1)).effects == []
