"""A request that waits for its server: for how long, and what its client sees meanwhile."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.servers.facts import Load
from supervisor_app.gateway.servers.hold import Hold
from tests.unit.gateway.timers import Timers


class Waiting:
    """A hold, its time, and what it has called."""

    def __init__(self):
        self.timers = Timers()
        self.hold = Hold(self.timers)
        self.calls = []

    def begin(self, seconds=10):
        self.hold.begin(seconds, lambda: self.calls.append("too late"))

    def comment_every(self, seconds, first_in):
        self.hold.comment_every(seconds, first_in, lambda: self.calls.append("comment"))

    def after(self, seconds):
        """What it called meanwhile."""
        before = len(self.calls)
        self.timers.advance(seconds)
        return self.calls[before:]


@pytest.fixture
def waiting():
    return Waiting()


def test_a_hold_is_too_late_after_its_time(waiting):
    waiting.begin(10)
    assert waiting.after(9.9) == []
    assert waiting.after(0.2) == ["too late"]


def test_a_hold_lasts_from_its_beginning_to_its_end(waiting):
    assert not waiting.hold.waits
    waiting.begin()
    assert waiting.hold.waits
    waiting.hold.end()
    assert not waiting.hold.waits
    assert waiting.after(60) == []


def test_the_time_waited_adds_up(waiting):
    for seconds in (2, 3):
        waiting.begin()
        waiting.after(seconds)
        waiting.hold.end()
        waiting.after(100)
    waiting.hold.end()  # once more harms nothing
    assert waiting.hold.total == pytest.approx(5)


def test_a_wait_that_has_begun_begins_no_other(waiting):
    waiting.begin(10)
    waiting.after(6)
    waiting.begin(10)
    assert waiting.after(5) == ["too late"]
    waiting.hold.end()
    assert waiting.hold.total == pytest.approx(11)


def test_tries_that_reach_nobody_do_not_make_the_time_longer(waiting):
    waiting.begin(10)
    waiting.after(6)
    waiting.hold.end()
    waiting.begin(10)
    assert waiting.after(3.9) == []
    assert waiting.after(0.2) == ["too late"]


def test_after_a_try_that_did_reach_a_server_the_next_wait_is_a_new_one(waiting):
    waiting.begin(10)
    waiting.after(6)
    waiting.hold.end()
    waiting.hold.renew()
    waiting.begin(10)
    assert waiting.after(9.9) == []
    assert waiting.after(0.2) == ["too late"]


def test_comments_come_at_first_and_then_regularly_also_between_two_waits(waiting):
    waiting.begin(100)
    waiting.comment_every(10, first_in=4)
    assert waiting.after(3.9) == []
    assert waiting.after(0.2) == ["comment"]
    waiting.hold.end()
    assert waiting.after(20) == ["comment", "comment"]


def test_comments_are_sent_once_however_often_they_are_asked_for(waiting):
    waiting.comment_every(10, first_in=0)
    waiting.comment_every(10, first_in=0)
    assert waiting.after(10) == ["comment", "comment"]


def test_comments_end_when_they_are_stopped_also_by_a_comment(waiting):
    waiting.hold.stop_comments()  # there are none yet
    waiting.hold.comment_every(10, 0, waiting.hold.stop_comments)
    waiting.after(0)
    assert not waiting.timers.pending


def test_a_wait_too_short_for_the_clock_was_one(waiting):
    assert not waiting.hold.has_waited
    waiting.begin()
    waiting.hold.end()
    assert (waiting.hold.has_waited, waiting.hold.total) == (True, 0.0)


LOAD = Load(ready_at=500.0, room_seconds=3.0, load_seconds=5.0)
"""Room was asked for at 492, given at 495."""


@pytest.mark.parametrize(
    ("since", "until", "parts"),
    [
        (490, 501, (3, 5)),
        (493, 500, (2, 5)),
        (496, 500, (0, 4)),
        (500, 510, (0, 0)),
        (480, 490, (0, 0)),
        (490, 494, (2, 0)),
    ],
    ids=["all of it", "came while others ended", "came while it loaded", "came later", "before", "left"],
)
def test_of_a_load_the_parts_within_a_wait_count(since, until, parts):
    assert LOAD.within(since, until) == pytest.approx(parts)


def test_waits_for_loads_add_up_and_what_is_no_wait_counts_for_nothing(waiting):
    waiting.hold.waited_for(LOAD, 500.0)
    for _ in range(2):
        waiting.begin()
        waiting.after(6)
        waiting.hold.waited_for(LOAD, 500.0)
        waiting.hold.end()
    assert (waiting.hold.room, waiting.hold.load) == pytest.approx((2, 10))
