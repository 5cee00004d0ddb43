"""What the gateway is told about a server, and whether waiting for it would help."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.facts import ServerFacts

RUNS = {"wanted": True}
STOPPED = {"wanted": False}
ASLEEP = {"wanted": False, "wakes": True}


@pytest.mark.parametrize(
    "status", [Status.INITIAL, Status.STARTING, Status.READY, Status.CRASHED, Status.STOPPING]
)
@pytest.mark.parametrize("fields", [RUNS, ASLEEP], ids=["runs", "asleep"])
def test_a_server_that_runs_or_wakes_is_worth_waiting_for(status, fields):
    assert not ServerFacts(name="default", status=status, **fields).hopeless


@pytest.mark.parametrize("fields", [RUNS, STOPPED, ASLEEP], ids=["runs", "stopped", "asleep"])
def test_one_that_was_given_up_is_not(fields):
    assert ServerFacts(name="default", status=Status.ERROR, **fields).hopeless


@pytest.mark.parametrize("status", [Status.INITIAL, Status.STARTING, Status.CRASHED, Status.STOPPING])
def test_one_that_somebody_stopped_is_not(status):
    assert ServerFacts(name="default", status=status, **STOPPED).hopeless


def test_one_that_is_about_to_be_stopped_still_answers():
    facts = ServerFacts(name="default", status=Status.READY, **STOPPED)
    assert facts.ready
    assert not facts.hopeless


def test_only_one_that_was_stopped_for_idleness_sleeps():
    assert [ServerFacts(name="default", **fields).asleep for fields in (RUNS, STOPPED, ASLEEP)] == [
        False,
        False,
        True,
    ]
    assert not ServerFacts(name="default", wanted=True, wakes=True).asleep


def test_the_key_of_a_server_is_not_in_its_words():
    assert "hunter2" not in repr(ServerFacts(name="default", api_key="hunter2"))
