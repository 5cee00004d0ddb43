"""Looks that come again and again come on a common beat, and none comes late."""

from __future__ import annotations

import pytest

from supervisor_app.core.beat import BEAT_SECONDS, beat_after


def test_looks_that_ended_at_different_moments_come_again_at_the_same():
    assert {beat_after(7.0 + late, 1.0) for late in (0.0, 0.001, 0.03, 0.124)} == {8.0}


def test_a_look_that_takes_no_time_keeps_its_pace():
    moment = 123_456.125
    assert beat_after(moment, 1.0) == moment + 1.0


@pytest.mark.parametrize("pause", [1.0, 1.3, 5.0])
@pytest.mark.parametrize("now", [0.0, 0.1, 7.77, 1_234_567.89])
def test_no_look_comes_later_than_it_is_to_nor_much_sooner(now, pause):
    due = beat_after(now, pause)
    assert now + pause - BEAT_SECONDS < due <= now + pause


@pytest.mark.parametrize("pause", [0.01, 0.1, 0.5])
def test_a_short_pause_is_as_long_as_it_is_said_to_be(pause):
    assert beat_after(7.77, pause) == 7.77 + pause
