"""Planned work: told to nobody while it lasts, and what is still down afterwards is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from supervisor_app.alerts import incidents
from supervisor_app.alerts.models import Incident
from supervisor_app.fleet.models import Maintenance

pytestmark = pytest.mark.django_db(transaction=True)


def maintain(world, seconds=None, *, server=True):
    now = datetime.fromtimestamp(world.clock.now, UTC)
    until = None if seconds is None else now + timedelta(seconds=seconds)
    return Maintenance.objects.create(server=world.server if server else None, begun_at=now, until=until)


@pytest.mark.parametrize("of_server", [True, False], ids=["its own", "that of all"])
def test_a_crash_and_its_end_within_maintenance_are_told_to_nobody(world, of_server):
    maintain(world, server=of_server)
    world.see("crashed", wait=1)
    world.see("error", wait=1)
    world.see("ready", wait=1)
    world.look(wait=61)
    assert world.hook.events == []
    assert Incident.objects.get().closed_at is not None


def test_a_server_that_is_still_down_afterwards_is_told_then(world):
    maintain(world, 100)
    world.see("crashed", wait=1)
    world.see("error", wait=1)
    incidents.tell_overdue(world.clock.now)
    world.look(wait=1)
    assert world.hook.events == []
    world.clock.now += 100
    incidents.tell_overdue(world.clock.now)
    incidents.tell_overdue(world.clock.now)
    world.look(wait=1)
    assert world.hook.events == ["given_up"]


def test_a_server_that_was_told_to_be_down_is_told_to_be_up(world):
    world.see("crashed", wait=1)
    world.look()
    maintain(world)
    world.see("ready", wait=1)
    world.look(wait=61)
    assert world.hook.events == ["crashed", "recovered"]


def test_after_its_end_crashes_are_told_again(world):
    maintain(world, 10)
    world.clock.now += 11
    world.see("crashed", wait=1)
    world.look()
    assert world.hook.events == ["crashed"]
