"""Hosts that vanish with their supervisor: who opens the incident, and who is told what of it."""

from __future__ import annotations

import time

import pytest
from django.db.models.functions import Now

from supervisor_app.alerts import incidents
from supervisor_app.alerts.lost_hosts import CONFIRM_SECONDS, LostHosts
from supervisor_app.alerts.models import Delivery, Incident
from supervisor_app.fleet.models import NodeLease, ServerState
from tests.integration.alerting import make_channel
from tests.integration.building import long_ago, make_server, make_state

pytestmark = pytest.mark.django_db


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def look(clock):
    """Another host's supervisor looks, so many seconds after its last look."""
    hosts = LostHosts(clock)

    def look(wait=0.0):
        clock.now += wait
        hosts.look(time.time())

    return look


@pytest.fixture
def lost():
    """Node `gpu-2` with the servers a and b, which were ready, c, which was stopped, and d, which has no room."""
    make_channel()
    for name in "abcd":
        server = make_server(name, node="gpu-2", desired_running=name != "c")
        make_state(server, "ready" if name in "ab" else "initial", seen_at=long_ago(), detail="Serving.")
    return NodeLease.objects.create(node="gpu-2", holder="1 1 boot/1 there", token="t", renewed_at=long_ago())


def told():
    return [(each.event, each.alert["title"]) for each in Delivery.objects.order_by("pk")]


def test_a_host_that_stays_lost_opens_an_incident_for_each_server_and_tells_a_channel_once(lost, look):
    look()
    assert not Incident.objects.exists()
    look(CONFIRM_SECONDS)
    look(CONFIRM_SECONDS)
    assert list(Incident.objects.values_list("server__name", flat=True).order_by("server__name")) == [
        "a",
        "b",
    ]
    assert set(Incident.objects.values_list("failure_kind", flat=True)) == {"host_lost"}
    assert told() == [("crashed", "a went down")]
    text = Delivery.objects.get().alert["text"]
    assert "Host lost: no supervisor reports from gpu-2 any more; the same holds for b." in text
    assert "when it was ready: Serving." in text


def test_leases_that_all_ran_out_while_the_database_was_away_are_no_lost_hosts(lost, look):
    look()
    NodeLease.objects.update(renewed_at=Now())
    look(CONFIRM_SECONDS)
    NodeLease.objects.update(renewed_at=long_ago())
    look()
    look(CONFIRM_SECONDS / 2)
    assert not Incident.objects.exists()


def test_a_host_that_is_back_with_its_servers_ends_the_incident_although_no_state_changes(lost, look):
    look()
    look(CONFIRM_SECONDS)
    NodeLease.objects.update(renewed_at=Now())
    ServerState.objects.update(seen_at=Now())
    look()
    assert Incident.objects.open().exclude(closes_at=None).count() == 2
    assert incidents.close_settled(time.time() + 3600) == 2
    assert told() == [("crashed", "a went down"), ("recovered", "a is up again")]


def test_a_server_that_was_stopped_meanwhile_ends_its_incident_in_silence(lost, look):
    look()
    look(CONFIRM_SECONDS)
    NodeLease.objects.update(renewed_at=Now())
    ServerState.objects.update(seen_at=Now(), status="initial", started_at=None)
    for server in (each.server for each in Incident.objects.all()):
        server.desired_running = False
        server.save()
    look()
    assert set(Incident.objects.values_list("ending", flat=True)) == {"stopped"}
    assert told() == [("crashed", "a went down")]


def test_a_server_that_was_down_already_keeps_its_incident(lost, look):
    row = Incident.objects.create(
        server=ServerState.objects.get(server__name="a").server, opened_at=long_ago(), worst="crashed"
    )
    look()
    look(CONFIRM_SECONDS)
    assert Incident.objects.get(server__name="a") == row
    assert told() == [("crashed", "b went down")]


def test_a_node_whose_supervisor_went_in_good_order_is_not_lost(lost, look):
    lost.delete()
    look()
    look(CONFIRM_SECONDS)
    assert not Incident.objects.exists()
