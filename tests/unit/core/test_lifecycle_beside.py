"""Two processes of one server: what follows from where both stand."""

from __future__ import annotations

import pytest

from supervisor_app.core.lifecycle import Phase, State
from supervisor_app.core.lifecycle.beside import (
    LINGER_SECONDS,
    Move,
    may_leave,
    next_move,
)
from supervisor_app.core.status import Stage, Status

READY = State(status=Status.READY, phase=Phase.SERVING)
LOADS = State(status=Status.STARTING, phase=Phase.WAITING)
ASKS = State(status=Status.STARTING, phase=Phase.AWAITING_ROOM)
ENDS = State(status=Status.STOPPING, phase=Phase.ENDING)
RESTARTS = State(status=Status.STOPPING, phase=Phase.ENDING, start_next=True)
HANGS = State(status=Status.CRASHED, phase=Phase.ENDING)
CRASHED = State(status=Status.CRASHED, phase=Phase.BACKOFF)
FAILED = State(status=Status.ERROR, phase=Phase.IDLE)
STOPPED = State()


@pytest.mark.parametrize(
    ("main", "beside", "move"),
    [
        (READY, LOADS, Move.WAIT),
        (READY, READY, Move.SWITCH),
        (READY, FAILED, Move.FAIL),
        (READY, STOPPED, Move.FAIL),
        (READY, HANGS, Move.WAIT),
        (READY, ENDS, Move.WAIT),
        (LOADS, READY, Move.WAIT),  # a supervisor that took both over has yet to see the old one ready
        (HANGS, READY, Move.WAIT),
        (CRASHED, LOADS, Move.TAKE_OVER),
        (CRASHED, READY, Move.TAKE_OVER),
        (FAILED, LOADS, Move.TAKE_OVER),
        (CRASHED, ASKS, Move.END),
        (CRASHED, HANGS, Move.END),
        (ENDS, LOADS, Move.END),
        (RESTARTS, LOADS, Move.END),
        (STOPPED, LOADS, Move.END),
        (STOPPED, ENDS, Move.WAIT),
    ],
)
def test_moves_while_the_new_process_loads(main, beside, move):
    assert next_move(Stage.LOADING, main, beside) is move


@pytest.mark.parametrize(
    ("main", "beside", "move"),
    [
        (READY, READY, Move.WAIT),
        (READY, STOPPED, Move.FORGET),
        (READY, CRASHED, Move.FORGET),
        (CRASHED, READY, Move.WAIT),
        (RESTARTS, READY, Move.WAIT),
        (ENDS, READY, Move.END),
        (STOPPED, READY, Move.END),
    ],
)
def test_moves_while_the_old_process_finishes_what_it_does(main, beside, move):
    assert next_move(Stage.LEAVING, main, beside) is move


@pytest.mark.parametrize(
    ("beside", "requests", "seconds", "may"),
    [
        (READY, 0, LINGER_SECONDS - 0.1, False),
        (READY, 0, LINGER_SECONDS, True),
        (READY, 1, LINGER_SECONDS, False),
        (READY, 1, 600, True),
        (READY, 1, 599, False),
        (LOADS, 1, LINGER_SECONDS, True),
    ],
)
def test_an_old_process_ends_once_gateways_know_and_its_requests_are_finished(beside, requests, seconds, may):
    assert may_leave(beside, requests, seconds, 30) is may
