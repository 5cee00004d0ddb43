"""News of a server, of which nobody knows who sent it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import LlamaStatus, Status
from supervisor_app.fleet.events import status_news
from supervisor_app.gateway.edge.news import Own, adds_nothing, after_news, says_all
from supervisor_app.gateway.servers.facts import ServerFacts

HERE = Endpoint(address="127.0.0.1", port=8134, uid=0)
THERE = Endpoint(address="10.0.0.66", port=8134, uid=None)
URL = "http://localhost:8134"
READY = ServerFacts(name="default", version=5, status=Status.READY, url=URL, endpoint=HERE, pid=11)
NOW = 100.0
OWN = Own(uid=1000, realm="here")


def news(version=6, status=Status.READY, **fields):
    said = {"url": URL, "endpoint": HERE, "pid": 11, "detail": "Serving.", **fields}
    return status_news(LlamaStatus(name="default", version=version, status=status, **said))


def test_news_of_a_server_at_its_place_is_known_at_once():
    after = after_news(READY, news(draining=True), NOW, OWN)
    assert (after.version, after.detail, after.draining, after.heard_at) == (6, "Serving.", True, NOW)


def test_a_server_whose_process_has_gone_listens_nowhere():
    after = after_news(READY, news(status=Status.CRASHED, pid=None, endpoint=None), NOW, OWN)
    assert (after.status, after.pid) == (Status.CRASHED, None)


@pytest.mark.parametrize(
    "forged",
    [{"url": "http://10.0.0.66:8134"}, {"endpoint": THERE}, {"adopted": True}, {"version": 5}],
    ids=["url", "endpoint", "key", "old"],
)
def test_news_that_would_have_requests_sent_elsewhere_or_with_another_key_changes_nothing(forged):
    assert after_news(READY, news(**forged), NOW, OWN) is None


def test_where_a_new_process_listens_is_for_its_row_to_say():
    starting = ServerFacts(name="default", version=5, status=Status.STARTING, url=URL)
    assert after_news(starting, news(), NOW, OWN) is None
    loads = after_news(starting, news(status=Status.STARTING, detail="Loading the model."), NOW, OWN)
    assert (loads.detail, loads.endpoint) == ("Loading the model.", None)


def test_a_new_process_that_listens_where_the_last_one_was_proved_to_is_known_at_once():
    gone = ServerFacts(name="default", version=4, status=Status.INITIAL, url=URL)
    stopped = gone.with_news_of(replace(READY, version=3, proved=HERE), NOW)
    again = after_news(stopped, news(), NOW, OWN)
    assert (again.status, again.endpoint) == (Status.READY, HERE)
    assert after_news(stopped, news(endpoint=THERE), NOW, OWN) is None
    not_saved = gone.with_news_of(again, NOW)
    assert (not_saved.status, not_saved.endpoint, not_saved.proved) == (Status.READY, HERE, HERE)


OURS = Endpoint(address="127.0.0.1", port=8134, uid=1000, realm="here")
LOADS = ServerFacts(name="default", version=5, status=Status.STARTING, url=URL)


def test_a_first_process_of_our_own_user_at_the_address_of_its_row_is_known_at_once():
    after = after_news(LOADS, news(endpoint=OURS), NOW, OWN)
    assert (after.status, after.endpoint) == (Status.READY, OURS)
    named = replace(LOADS, url="http://10.0.0.7:8134")
    away = replace(OURS, address="10.0.0.7")
    assert after_news(named, news(endpoint=away, url=named.url), NOW, OWN).endpoint == away


@pytest.mark.parametrize(
    "other",
    [
        {"address": "10.0.0.66"},
        {"port": 8135},
        {"uid": 1001},
        {"uid": None},
        {"realm": "elsewhere"},
    ],
    ids=["address", "port", "user", "unknown user", "host"],
)
def test_a_first_process_that_could_be_another_ones_is_for_its_row_to_name(other):
    assert after_news(LOADS, news(endpoint=replace(OURS, **other)), NOW, OWN) is None


def test_a_server_that_was_found_is_for_its_row_to_name():
    found = replace(LOADS, adopted=True)
    assert after_news(found, news(endpoint=OURS, adopted=True), NOW, OWN) is None


@pytest.mark.parametrize(
    ("before", "status", "fields"),
    [
        ({"status": Status.INITIAL, "pid": None}, Status.STARTING, {}),
        ({"status": Status.STARTING}, Status.READY, {}),
        ({}, Status.READY, {"draining": True}),
        ({"draining": True}, Status.STOPPING, {}),
        ({"status": Status.STOPPING}, Status.INITIAL, {"unloaded": True}),
    ],
    ids=["starts", "is ready", "makes room", "ends for that", "has made room"],
)
def test_news_of_a_server_that_is_loaded_or_makes_room_say_all(before, status, fields):
    known = replace(READY, **before)
    assert says_all(known, after_news(known, news(status=status, **fields), NOW, OWN))


@pytest.mark.parametrize(
    ("before", "status", "fields"),
    [
        ({"status": Status.INITIAL, "wanted": False, "pid": None}, Status.STARTING, {}),
        ({}, Status.STOPPING, {}),
        ({}, Status.STOPPING, {"draining": True}),
        ({"status": Status.STOPPING}, Status.INITIAL, {}),
        ({}, Status.CRASHED, {}),
        ({}, Status.ERROR, {}),
    ],
    ids=["wished for", "stopped", "finishes first", "at rest", "crashed", "given up"],
)
def test_the_database_knows_more_of_what_people_wish_and_of_failures(before, status, fields):
    known = replace(READY, **before)
    assert not says_all(known, after_news(known, news(status=status, **fields), NOW, OWN))


@pytest.mark.parametrize(
    ("version", "known", "adds"),
    [
        (5, {}, False),
        (4, {}, False),
        (6, {}, True),
        (5, {"wanted": False}, True),
        (5, {"status": Status.CRASHED}, True),
        (5, {"status": Status.ERROR}, True),
    ],
)
def test_a_push_of_known_news_adds_nothing_while_a_server_is_well(version, known, adds):
    assert adds_nothing({"version": version}, replace(READY, **known)) is not adds
