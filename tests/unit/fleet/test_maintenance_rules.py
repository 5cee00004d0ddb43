"""Planned work over pieces of a server's time."""

from __future__ import annotations

import pytest

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.maintenance_rules import joined, planned
from supervisor_app.fleet.span_rules import Piece
from supervisor_app.fleet.uptime import Bar, slices_of

READY, CRASHED = SpanState.READY, SpanState.CRASHED


def told(pieces):
    return [(piece.state.value, piece.began, piece.ended) for piece in pieces]


def ready(began, ended=None):
    return Piece(state=READY, began=began, ended=ended)


def down(began, ended=None):
    return Piece(state=CRASHED, began=began, ended=ended, down=True, reason="Out of memory")


def test_times_that_touch_are_one():
    assert joined([(5, None), (1, 3), (3, 4)]) == [(1, 4), (5, float("inf"))]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], [("ready", 0, 100)]),
        ([(200, 300)], [("ready", 0, 100)]),
        ([(100, 300)], [("ready", 0, 100)]),
        ([(20, 30)], [("ready", 0, 20), ("maintenance", 20, 30), ("ready", 30, 100)]),
        ([(0, 200)], [("maintenance", 0, 100)]),
        (
            [(20, 30), (40, None)],
            [("ready", 0, 20), ("maintenance", 20, 30), ("ready", 30, 40), ("maintenance", 40, 100)],
        ),
    ],
)
def test_a_piece_is_cut_by_planned_work(times, expected):
    assert told(planned([ready(0, 100)], times)) == expected


def test_a_piece_that_goes_on_does_so_in_maintenance_or_after_it():
    assert told(planned([ready(0)], [(50, None)])) == [("ready", 0, 50), ("maintenance", 50, None)]
    assert told(planned([ready(0)], [(50, 90)])) == [
        ("ready", 0, 50),
        ("maintenance", 50, 90),
        ("ready", 90, None),
    ]


@pytest.mark.parametrize(("at", "state"), [(20, "maintenance"), (10, "crashed"), (30, "crashed")])
def test_a_moment_is_planned_if_it_is_within(at, state):
    assert told(planned([down(at, at)], [(11, 30)])) == [(state, at, at)]


def test_a_crash_within_planned_work_is_no_downtime_and_what_is_left_of_it_is_one():
    pieces = planned([ready(0, 40), down(40, 80), ready(80)], [(30, 70)])
    (part,) = slices_of(pieces, [0, 100], 100)
    tally = Bar(slices=(part,)).tally
    assert (tally.ready, tally.down, tally.downtimes) == (50, 10, 1)
    assert tally.seconds[SpanState.MAINTENANCE] == 40
