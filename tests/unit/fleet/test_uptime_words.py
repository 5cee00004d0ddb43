"""Uptime and slices in words."""

from __future__ import annotations

import pytest

from supervisor_app.common.words import share
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.uptime import Slice, Tally
from supervisor_app.fleet.uptime_words import sentence, told

NOON = 1_764_244_800.0  # 27 Nov 2025, 12:00 UTC
READY = SpanState.READY


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (1.0, "100 %"),
        (0.999999, "99.99 %"),
        (0.99975, "99.97 %"),
        (0.5, "50 %"),
        (0.0, "0 %"),
        (1 / 3, "33.33 %"),
    ],
)
def test_a_share_is_never_more_than_it_is(part, said):
    assert share(part) == said


@pytest.mark.parametrize(
    ("tally", "said"),
    [
        (Tally(), "It was not to be ready in this time."),
        (Tally(seconds={READY: 50}), "No downtime, 100 %"),
        (Tally(seconds={READY: 99}, down=1.04, begun=1), "1 downtime, 1 s, 98.96 %"),
        (Tally(seconds={READY: 2_599_220}, down=780, begun=2), "2 downtimes, 13 m together, 99.97 %"),
    ],
)
def test_downtimes_are_told_in_a_sentence(tally, said):
    assert sentence(tally) == said


def a_slice(state, hours=0.5, begin=NOON, **fields):
    return Slice(began=begin, ended=begin + 3600 * hours, state=state, **fields)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (a_slice(None), "Nothing known 12:00–12:30 UTC"),
        (a_slice(READY, seconds=1800), "Ready 12:00–12:30 UTC"),
        (
            a_slice(SpanState.CRASHED, seconds=120, reason="Out of memory", tally=Tally(down=120)),
            "Crashed 12:00–12:30 UTC, 2 m; Out of memory",
        ),
        (
            a_slice(SpanState.STARTING, seconds=3, tally=Tally(down=3)),
            "Starting after a failure 12:00–12:30 UTC, 3 s",
        ),
        (a_slice(SpanState.STOPPED, 20, seconds=60), "Stopped 27 Nov 12:00 – 28 Nov 08:00 UTC, 1 m"),
        (a_slice(READY, 24, NOON - 12 * 3600), "Ready 27 Nov"),
        (a_slice(READY, 7 * 24, NOON - 12 * 3600), "Ready 27 Nov – 3 Dec"),
    ],
)
def test_a_slice_is_told_in_a_sentence(part, said):
    assert told(part) == said
