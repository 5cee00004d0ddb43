"""What the gateway is told about a server, and whether waiting for it would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.listing import Listing
from supervisor_app.gateway.servers.facts import NEWS_SECONDS, End, ServerFacts

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
def test_a_server_in_error_is_hopeless(fields):
    assert ServerFacts(name="default", status=Status.ERROR, **fields).hopeless


@pytest.mark.parametrize(
    ("chosen", "failure", "hopeless"),
    [(True, "port_taken", False), (False, "port_taken", True), (True, "model_missing", True)],
)
def test_a_server_that_gets_another_port_is_worth_waiting_for(chosen, failure, hopeless):
    facts = ServerFacts(name="default", status=Status.ERROR, port_is_chosen=chosen, failure=failure)
    assert facts.hopeless is hopeless


@pytest.mark.parametrize("model", ["", "default", "qwen", "/m/qwen.gguf", "gpt-4"])
def test_a_server_with_one_model_uses_that_whatever_it_is_asked_for(model):
    names = ("default", "qwen", "/m/qwen.gguf")
    assert ServerFacts(name="default", models=names, offered=("qwen",)).id_of(model) == "qwen"
    assert ServerFacts(name="default").id_of(model) == "default"


@pytest.mark.parametrize(("model", "used"), [("qwen", "qwen"), ("q", "qwen"), ("gpt-4", ""), ("", "")])
def test_a_router_uses_the_model_that_has_the_name(model, used):
    listing = Listing(data=({"id": "qwen", "aliases": ["q"]}, {"id": "gemma"}), is_router=True)
    router = ServerFacts(name="default", is_router=True).with_listing(listing)
    assert router.id_of(model) == used


@pytest.mark.parametrize("status", [Status.INITIAL, Status.STARTING, Status.CRASHED, Status.STOPPING])
def test_a_server_that_somebody_stopped_is_hopeless(status):
    assert ServerFacts(name="default", status=status, **STOPPED).hopeless


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"status": Status.ERROR}, True),
        ({"status": Status.ERROR, "retry_at": 99.0}, True),
        ({"status": Status.ERROR, "retry_at": 101.0}, False),
        ({"status": Status.INITIAL, **STOPPED}, True),
        ({"status": Status.STOPPING, **STOPPED}, False),
        ({"status": Status.CRASHED}, False),
    ],
    ids=["given up", "tried for the last time", "tried again later", "stopped", "stops", "down"],
)
def test_a_server_needs_a_person_where_nothing_happens_by_itself(fields, needs):
    assert ServerFacts(name="default", **fields).needs_a_person(now=100.0) is needs


def test_a_server_that_is_about_to_be_stopped_still_answers():
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


def test_a_server_that_made_room_sleeps_unless_somebody_stopped_it():
    assert ServerFacts(name="default", unloaded=True).asleep
    assert not ServerFacts(name="default", unloaded=True, wanted=False).asleep


def test_only_a_server_that_is_down_for_it_does_not_fit():
    said = {"failure": "does_not_fit"}
    assert ServerFacts(name="default", status=Status.ERROR, **said).does_not_fit
    assert not ServerFacts(name="default", status=Status.STARTING, **said).does_not_fit
    assert not ServerFacts(name="default", status=Status.ERROR, failure="model_missing").does_not_fit


@pytest.mark.parametrize(
    ("status", "pid", "spared"),
    [
        (Status.READY, 11, True),
        (Status.STARTING, None, True),  # the next supervisor looks for it,
        (Status.STARTING, 11, True),  # and has found it
        (Status.STARTING, 12, False),
        (Status.STOPPING, 11, False),
        (Status.CRASHED, 11, False),  # it hangs, and is being ended
        (Status.CRASHED, None, False),
        (Status.INITIAL, None, False),
        (Status.ERROR, None, False),
    ],
)
def test_a_process_may_live_on_while_the_next_supervisor_takes_it_over(status, pid, spared):
    assert ServerFacts(name="default", status=status, pid=pid).spares(11) is spared


@pytest.mark.parametrize(("pid", "spared"), [(11, True), (None, True), (12, False)])
def test_a_process_that_drains_lives_on_for_now(pid, spared):
    facts = ServerFacts(name="default", status=Status.STOPPING, draining=True, wanted=False, pid=pid)
    assert facts.spares(11) is spared
    assert facts.hopeless
    assert facts.why_hopeless == "It was stopped."


# --- What was heard and what is saved ------------------------------------------------------------------


NOW = 100.0
"""Monotonic seconds."""
HEARD = ServerFacts(
    name="default",
    version=5,
    heard_at=NOW - NEWS_SECONDS + 0.1,
    status=Status.CRASHED,
    detail="Retry 1 of 5 after 1 s.",
    url="http://gpu-1:8134",
    ends={11: End(blameless=False, sentence="It crashed.")},
)


@pytest.mark.parametrize("version", [5, 6])
def test_saved_facts_count_once_they_are_as_new_as_the_news(version):
    saved = ServerFacts(name="default", version=version, status=Status.READY, pid=12, run=4)
    assert saved.with_news_of(HEARD, NOW) is saved


def test_news_counts_until_it_is_saved():
    saved = ServerFacts(
        name="default", version=4, status=Status.READY, pid=11, run=3, hold_seconds=7, max_queue=9
    )
    known = saved.with_news_of(HEARD, NOW)
    assert (known.version, known.status, known.detail) == (HEARD.version, HEARD.status, HEARD.detail)
    assert known.with_news_of(known, NOW) == known
    assert (known.pid, known.run) == (None, None)
    assert (known.hold_seconds, known.max_queue) == (7, 9)  # of which a supervisor says nothing


def test_news_that_no_row_confirms_is_forgotten():
    saved = ServerFacts(name="default", version=4, status=Status.READY, pid=11)
    assert saved.with_news_of(replace(HEARD, version=10**15), NOW) != saved
    assert saved.with_news_of(replace(HEARD, version=10**15), NOW + 0.1) is saved


def test_where_a_server_is_and_its_key_are_known_by_its_row_alone():
    there = Endpoint(address="10.0.0.7", port=8134, uid=None)
    saved = ServerFacts(name="default", version=4, url="http://here:1", api_key="hunter2")
    heard = replace(HEARD, url="http://there:2", endpoint=there, api_key="", adopted=True)
    known = saved.with_news_of(heard, NOW)
    assert (known.url, known.endpoint, known.api_key, known.adopted) == (
        "http://here:1",
        None,
        "hunter2",
        False,
    )


def test_an_end_that_was_heard_is_not_forgotten_before_it_is_saved():
    older = {3: End(blameless=True)}
    saved = ServerFacts(name="default", version=4, pid=11, ends=older)
    assert saved.with_news_of(HEARD, NOW).ends == {**older, **HEARD.ends}


@pytest.mark.parametrize(("pid", "run"), [(12, 4), (11, None)])
def test_the_number_of_a_run_is_that_of_its_process(pid, run):
    heard = replace(HEARD, status=Status.READY, pid=12)
    saved = ServerFacts(name="default", version=4, pid=pid, run=4)
    assert saved.with_news_of(heard, NOW).run == run


def test_the_key_of_a_server_is_not_in_its_words():
    assert "hunter2" not in repr(ServerFacts(name="default", api_key="hunter2"))
