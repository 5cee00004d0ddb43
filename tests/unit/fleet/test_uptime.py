"""Bars and figures out of spans."""

from __future__ import annotations

import pytest

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.span_rules import Piece
from supervisor_app.fleet.uptime import DAY_SECONDS, Bar, Tally, Window, silent_from, slices_of, together

READY, CRASHED, STARTING = SpanState.READY, SpanState.CRASHED, SpanState.STARTING
STOPPED, UNLOADED, UNKNOWN = SpanState.STOPPED, SpanState.UNLOADED, SpanState.UNKNOWN
NOON = 20_000 * DAY_SECONDS + 12 * 3600 + 600


def pieces(*told) -> list[Piece]:
    """(state, began, down) each; the next one ends it."""
    ends = [began for _, began, _ in told[1:]] + [None]
    return [
        Piece(state=state, began=began, ended=ended, down=down, reason="Exited" if down else "", run=3)
        for (state, began, down), ended in zip(told, ends, strict=True)
    ]


def test_a_window_ends_with_the_slice_of_now():
    edges = Window.DAY.edges(NOON)
    assert len(edges) == 49
    assert edges[-2] <= NOON < edges[-1]
    assert edges[-1] - edges[0] == DAY_SECONDS
    for window in (Window.MONTH, Window.YEAR):
        edges = window.edges(NOON)
        assert all(edge % DAY_SECONDS == 0 for edge in edges)
        assert edges[-1] - edges[0] == window.step * window.count
        assert edges[-1] > NOON >= edges[-1] - DAY_SECONDS


def test_a_slice_shows_the_worst_however_short():
    told = pieces((READY, 0, False), (CRASHED, 100, True), (STARTING, 101, True), (READY, 102, False))
    first, second = slices_of(told, [0, 1800, 3600], 3600)
    assert (first.state, first.seconds, first.reason, first.run) == (CRASHED, 1, "Exited", 3)
    assert (second.state, second.down) == (READY, False)
    assert first.tally.begun == 1
    assert first.tally.down == 2, "the start after a crash is downtime, too"


def test_before_a_server_was_there_and_after_now_nothing_is_known():
    before, now, later = slices_of(pieces((READY, 150, False)), [0, 100, 200, 300], 180)
    assert before.state is None
    assert later.state is None
    assert now.tally.ready == 30


def test_a_downtime_over_several_slices_counts_once():
    told = pieces((READY, 0, False), (CRASHED, 50, True), (READY, 250, False))
    bar = Bar(slices=tuple(slices_of(told, [0, 100, 200, 300], 300)))
    assert (bar.tally.downtimes, bar.tally.down) == (1, 200)
    assert bar.uptime == pytest.approx(1 / 3)
    assert bar.tally.mttr == 200
    assert bar.tally.mtbf == 100


def test_a_downtime_that_began_before_counts():
    told = pieces((CRASHED, -50, True), (READY, 20, False))
    assert slices_of(told, [0, 100], 100)[0].tally.downtimes == 1


def test_stopped_unloaded_and_unknown_are_neither_up_nor_down():
    for state in (STOPPED, UNLOADED, UNKNOWN, STARTING, SpanState.MAINTENANCE):
        tally = slices_of(pieces((READY, 0, False), (state, 10, False)), [0, 100], 100)[0].tally
        assert (tally.uptime, tally.downtimes, tally.mtbf, tally.mttr) == (1.0, 0, None, None)
    assert Tally().uptime is None


def test_a_crash_at_one_moment_is_seen():
    told = [Piece(state=CRASHED, began=10, ended=10, down=True), Piece(state=READY, began=10)]
    part = slices_of(told, [0, 100], 100)[0]
    assert part.state is CRASHED
    assert part.tally.downtimes == 1


def test_a_clock_that_was_ahead_counts_nothing_twice():
    told = pieces((READY, 0, False), (CRASHED, 500, True))
    parts = slices_of(told, [0, 100, 600], 100)
    assert [part.tally.down for part in parts] == [0, 0]


def test_several_slices_as_one_show_the_worst_of_all():
    told = pieces((READY, 0, False), (CRASHED, 150, True), (READY, 160, False), (CRASHED, 190, True))
    whole = together(slices_of(told, [0, 100, 200, 300], 300))
    assert (whole.began, whole.ended, whole.state, whole.run) == (0, 300, CRASHED, 3)
    assert whole.seconds == whole.tally.down == 120
    assert whole.tally.begun == 2
    assert together(slices_of([], [0, 1, 2], 2)).state is None


def test_where_nobody_reports_the_rest_is_unknown():
    told = silent_from(pieces((READY, 0, False)), 40)
    assert [(piece.state, piece.began, piece.ended) for piece in told] == [
        (READY, 0, 40),
        (UNKNOWN, 40, None),
    ]
    assert silent_from(pieces((READY, 50, False)), 40)[0].ended == 50
    assert silent_from([], 40) == []
    assert silent_from(pieces((READY, 0, False)), None)[0].ended is None


def test_pieces_that_overlap_are_in_their_own_slices_alone():
    told = [Piece(state=READY, began=0, ended=900), Piece(state=CRASHED, began=10, ended=20, down=True)]
    first, second = slices_of(told, [0, 100, 200], 200)
    assert (first.state, second.state) == (CRASHED, READY)
