"""Crashes that people have muted: told to nobody until there are too many a day."""

from __future__ import annotations

import pytest

from supervisor_app.core.changes import RunClosed, RunOpened
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.fleet.crash_groups import crashes_of
from supervisor_app.fleet.crash_marks import BadMarkError, mute, unmute
from tests.integration.building import IDENTITY, OUT_OF_MEMORY

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 86400.0
ARGV = ("llama-server", "-m", "m.gguf")


def die(world, failure=OUT_OF_MEMORY, status="crashed"):
    """A process begins, dies a second later, and the next one is stable."""
    at = world.clock.now
    opened = RunOpened(identity=IDENTITY, adopted=False, retry=0, started_at=at, argv=ARGV)
    closed = RunClosed(at=at + 1, exit=Exit(code=1), failure=failure)
    world.see(status, wait=1, events=(opened, closed), failure=failure)
    world.look()


def recover(world):
    world.see("ready", wait=1)
    world.look(wait=61)


@pytest.fixture
def muted(world, staff):
    """A server that has died once and whose crashes are muted until more than two a day."""
    die(world)
    recover(world)
    assert world.hook.events == ["crashed", "recovered"]
    mute(crashes_of(world.server)[0], world.server, "2", staff)
    world.hook.posts.clear()
    return world


def test_neither_the_crash_nor_the_recovery_is_told_up_to_the_number(muted):
    die(muted)
    recover(muted)
    assert muted.hook.events == []


def test_the_one_that_is_too_many_is_told_also_within_an_incident_that_was_silent(muted):
    die(muted)
    assert muted.hook.events == []
    die(muted)
    recover(muted)
    assert muted.hook.events == ["crashed", "recovered"]


def test_the_state_after_a_muted_crash_tells_nothing_either(muted):
    die(muted)
    muted.see("crashed", wait=1, detail="Retry 2 of 5.")
    muted.look()
    assert muted.hook.events == []


def test_a_day_later_the_count_begins_anew(muted):
    die(muted)
    recover(muted)
    muted.clock.now += DAY
    die(muted)
    assert muted.hook.events == []


def test_another_cause_is_told(muted):
    die(muted, failure_of(FailureKind.HUNG, "it missed 3 health checks in a row"))
    assert muted.hook.events == ["hung"]


def test_giving_up_is_told_all_the_same(muted):
    die(muted, status="error")
    assert muted.hook.events == ["given_up"]


def test_a_cause_that_is_not_muted_any_more_is_told(muted, staff):
    unmute(crashes_of(muted.server)[0], muted.server, staff)
    die(muted)
    assert muted.hook.events == ["crashed"]


@pytest.mark.parametrize("above", ["0", "-1", "1.5", "", "99999999999999999999", "٣"])
def test_a_number_that_makes_no_sense_is_refused(above, muted, staff):
    with pytest.raises(BadMarkError, match="say one from 1 to 10000"):
        mute(crashes_of(muted.server)[0], muted.server, above, staff)
