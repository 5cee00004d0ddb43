"""What a new state makes of the last spans."""

from __future__ import annotations

from supervisor_app.core.spans import SpanBegan, SpanState
from supervisor_app.fleet.span_rules import Piece, follow

READY, CRASHED, STARTING = SpanState.READY, SpanState.CRASHED, SpanState.STARTING
UNKNOWN = SpanState.UNKNOWN


def began(state: SpanState, at: float, **fields) -> SpanBegan:
    return SpanBegan(at=at, state=state, **fields)


def after(tail, event, *, run=None, crowded=False):
    return [
        (piece.state.value, piece.began, piece.ended) for piece in follow(tail, event, run, crowded=crowded)
    ]


def test_another_state_ends_the_last_one():
    assert after([], began(READY, 5)) == [("ready", 5, None)]
    ready = [Piece(state=READY, began=5)]
    assert after(ready, began(CRASHED, 9)) == [("ready", 5, 9), ("crashed", 9, None)]


def test_the_same_state_goes_on_and_learns_why():
    down = [Piece(state=CRASHED, began=5, down=True, reason="Exited", pk=7)]
    event = began(CRASHED, 9, down=True, reason="Out of memory")
    assert follow(down, event, 3, crowded=False) == [
        Piece(state=CRASHED, began=5, down=True, reason="Out of memory", run=3, pk=7)
    ]


def test_time_that_nobody_saw_is_unknown():
    ready = [Piece(state=READY, began=5)]
    event = began(STARTING, 90, unknown_since=30.0)
    assert after(ready, event) == [("ready", 5, 30), ("unknown", 30, 90), ("starting", 90, None)]


def test_a_last_look_outside_of_the_span_makes_no_negative_one():
    ready = [Piece(state=READY, began=50)]
    assert after(ready, began(STARTING, 90, unknown_since=30.0))[0] == ("ready", 50, 50)
    assert after(ready, began(STARTING, 90, unknown_since=99.0))[1] == ("unknown", 90, 90)


def test_unknown_time_stays_unknown():
    unknown = [Piece(state=UNKNOWN, began=5)]
    assert after(unknown, began(READY, 9, unknown_since=7.0)) == [("unknown", 5, 9), ("ready", 9, None)]


def test_a_time_before_the_last_span_makes_no_negative_one():
    ready = [Piece(state=READY, began=50)]
    assert after(ready, began(CRASHED, 20)) == [("ready", 50, 50), ("crashed", 50, None)]


def test_a_gap_is_left_as_it_is():
    ended = [Piece(state=READY, began=5, ended=9)]
    assert after(ended, began(READY, 20)) == [("ready", 5, 9), ("ready", 20, None)]


def test_a_server_that_flaps_is_down_in_few_rows():
    tail = [Piece(state=CRASHED, began=0, down=True, ended=1, pk=1), Piece(state=READY, began=1, pk=2)]
    for second in range(2, 1000, 2):
        tail = follow(tail, began(CRASHED, second, down=True), None, crowded=True)
        assert [(piece.state, piece.began, piece.pk) for piece in tail] == [(CRASHED, 0, 1)]
        tail = follow(tail, began(READY, second + 1), None, crowded=True)
        assert [piece.state for piece in tail] == [CRASHED, READY]
        tail = [tail[0], Piece(state=READY, began=tail[1].began, pk=2)]


def test_short_spans_of_a_server_that_flaps_take_the_worst_state():
    tail = [Piece(state=READY, began=0, ended=1, pk=1), Piece(state=STARTING, began=1, pk=2)]
    assert after(tail, began(CRASHED, 2, down=True), crowded=True) == [("crashed", 0, None)]
    assert after(tail, began(READY, 2), crowded=True) == [("starting", 0, 2), ("ready", 2, None)]


def test_a_long_span_is_never_merged():
    tail = [Piece(state=CRASHED, began=0, down=True, ended=1), Piece(state=READY, began=1)]
    assert len(after(tail, began(CRASHED, 100, down=True), crowded=True)) == 3
