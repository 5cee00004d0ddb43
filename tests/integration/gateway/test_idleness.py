"""When a server was used last, in the database: who is idle, is stopped for it, and is woken."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge import idleness, writer
from supervisor_app.traffic.models import ServerUse
from tests.integration.building import at, make_server, make_state

pytestmark = pytest.mark.django_db

NOW = time.time()


@pytest.fixture
def ready():
    """Ready for an hour, and to be stopped after ten idle minutes."""
    server = make_server(idle_stop_seconds=600)
    make_state(server, "ready", ready_at=at(NOW - 3600))
    return server


def idle(overlay=None):
    return list(idleness.idle_servers(NOW, overlay or Overlay()))


def test_a_use_is_noted_and_renewed(django_assert_max_num_queries):
    make_server("a"), make_server("b"), make_server("c")
    idleness.touch_use(["a", "b", "gone"], NOW - 10)
    idleness.touch_use(["a"], NOW)
    uses = {use.server.name: round(NOW - use.last_request_at.timestamp()) for use in ServerUse.objects.all()}
    assert uses == {"a": 0, "b": 10}
    assert str(ServerUse.objects.get(server__name="a")).startswith("a: 2")


def test_a_server_that_nobody_asks_is_idle(ready):
    assert idle() == ["default"]
    idleness.touch_use(["default"], NOW - 601 - idleness.USE_SLACK_SECONDS)
    assert idle() == ["default"]
    idleness.touch_use(["default"], NOW - 599 - idleness.USE_SLACK_SECONDS)
    assert idle() == []


@pytest.mark.skipif(connection.vendor == "sqlite", reason="its clock is that of this host")
def test_gateways_whose_clocks_differ_agree_on_the_last_use(ready, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)  # a host whose clock is slow
    idleness.touch_use(["default"], time.time())
    monkeypatch.setattr(time, "time", real)
    assert abs(ServerUse.objects.get().last_request_at.timestamp() - real()) < 60
    assert idle() == []


def test_a_server_in_constant_use_is_not_idle_however_small_its_limit(ready):
    LlamaServer.objects.update(idle_stop_seconds=1)
    note_seconds = writer.USE_SECONDS + 2 * writer.FLUSH_SECONDS  # one flush was too early, the next late
    assert note_seconds < idleness.USE_SLACK_SECONDS
    idleness.touch_use(["default"], NOW - note_seconds)
    assert idle() == []


def test_a_server_is_not_idle_because_it_was_not_asked_before_it_was_ready(ready):
    idleness.touch_use(["default"], NOW - 5000)
    ready.state.ready_at = at(NOW - 60)
    ready.state.save()
    assert idle() == []


@pytest.mark.parametrize("status", ["starting", "crashed", "stopping", "initial", "error"])
def test_only_a_ready_server_is_idle(ready, status):
    ready.state.status = status
    ready.state.save()
    assert idle() == []


def test_a_server_that_does_not_say_since_when_it_is_ready_is_left_alone(ready):
    ready.state.ready_at = None
    ready.state.save()
    assert idle() == []


def test_without_a_limit_no_server_is_idle(ready):
    LlamaServer.objects.update(idle_stop_seconds=0)
    assert idle() == []


def test_the_limit_of_the_config_file_wins(ready):
    assert idle(Overlay(values={"idle_stop_seconds": 0})) == []
    assert idle(Overlay(values={"idle_stop_seconds": 7200})) == []
    LlamaServer.objects.update(idle_stop_seconds=0)
    assert idle(Overlay(values={"idle_stop_seconds": 60})) == ["default"]


def test_an_idle_server_is_stopped_and_woken(ready):
    generation = ready.generation
    assert idleness.stop_idle("default", idleness.idle_servers(NOW, Overlay())["default"])
    ready.refresh_from_db()
    assert (ready.desired_running, ready.stopped_for_idleness) == (False, True)
    assert ready.generation == generation + 1
    assert idleness.wake("default")
    ready.refresh_from_db()
    assert (ready.desired_running, ready.stopped_for_idleness) == (True, False)
    assert ready.generation == generation + 2


def test_a_server_that_was_used_meanwhile_is_not_stopped(ready):
    idleness.touch_use(["default"], NOW - 700)
    since = idleness.idle_servers(NOW, Overlay())["default"]
    idleness.touch_use(["default"], NOW)
    assert not idleness.stop_idle("default", since)
    assert LlamaServer.objects.get().desired_running


def test_a_server_that_somebody_stopped_is_not_woken(ready):
    LlamaServer.objects.all().ask_to_stop()
    assert not idleness.wake("default")
    assert not LlamaServer.objects.get().desired_running


def test_a_server_that_is_woken_twice_is_started_once(ready):
    idleness.stop_idle("default", at(NOW))
    assert [idleness.wake("default"), idleness.wake("default")] == [True, False]


def test_a_server_that_made_room_is_woken_once_until_its_supervisor_has_acted(ready):
    state = ready.state
    state.status, state.unloaded, state.generation = "initial", True, ready.generation
    state.save()
    assert [idleness.wake("default"), idleness.wake("default")] == [True, False]
    ready.refresh_from_db()
    state.generation = ready.generation
    state.save()
    assert idleness.wake("default"), "it has no room again"


def test_a_server_that_made_room_and_was_stopped_then_is_not_woken(ready):
    LlamaServer.objects.all().ask_to_stop()
    ready.refresh_from_db()
    state = ready.state
    state.status, state.unloaded, state.generation = "initial", True, ready.generation
    state.save()
    assert not idleness.wake("default")


def test_a_server_that_is_loaded_is_not_woken(ready):
    ready.state.generation = ready.generation
    ready.state.save()
    assert not idleness.wake("default")


def test_a_server_that_somebody_stopped_is_not_stopped_for_idleness(ready):
    LlamaServer.objects.all().ask_to_stop()
    assert not idleness.stop_idle("default", at(NOW))
    assert not LlamaServer.objects.get().stopped_for_idleness


@pytest.mark.parametrize("wish", ["ask_to_start", "ask_to_stop", "ask_to_restart"])
def test_a_wish_of_people_ends_that_it_is_idle(ready, wish):
    idleness.stop_idle("default", at(NOW))
    getattr(LlamaServer.objects.all(), wish)()
    assert not LlamaServer.objects.get().stopped_for_idleness
