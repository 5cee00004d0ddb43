"""The limits of keys over several workers: they let in what one of them would."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.access.keys import Denied, Limiter
from supervisor_app.gateway.workers import board as module
from supervisor_app.gateway.workers.board import STALE_SECONDS
from supervisor_app.gateway.workers.shared_limits import KEPT_SECONDS, SharedLimiter
from tests.unit.gateway.boards import BEGIN, boards
from tests.unit.gateway.test_keys import denied, policy


@pytest.fixture
def two(tmp_path):
    with boards(tmp_path) as found:
        yield [SharedLimiter(board) for board in found]


def test_all_together_let_in_what_a_minute_allows(two):
    a, b = two
    mine = policy(requests_per_minute=3)
    for limiter in (a, b, a):
        limiter.admit(mine, BEGIN)
    for limiter in two:
        assert denied(limiter.admit, mine, BEGIN).retry_after == 20
    b.admit(mine, BEGIN + 20)
    denied(a.admit, mine, BEGIN + 20)


def test_tokens_of_one_are_debt_for_all(two):
    a, b = two
    mine = policy(tokens_per_minute=60)
    a.admit(mine, BEGIN)
    a.charge(mine, 70, BEGIN)
    assert denied(b.admit, mine, BEGIN).retry_after == 11
    b.admit(mine, BEGIN + 11)


def test_no_more_run_at_once_than_a_key_may_have(two):
    a, b = two
    mine = policy(max_concurrent=2)
    a.admit(mine, BEGIN)
    b.admit(mine, BEGIN)
    for limiter in two:
        assert "2 requests at once" in denied(limiter.admit, mine, BEGIN).message
    a.release(mine)
    b.admit(mine, BEGIN)
    denied(a.admit, mine, BEGIN)


def test_each_key_has_its_own(two):
    a, b = two
    a.admit(policy(max_concurrent=1), BEGIN)
    b.admit(policy(id=2, max_concurrent=1), BEGIN)


def test_a_key_without_limits_takes_no_room(two):
    a, _ = two
    a.admit(policy(), BEGIN)
    a.charge(policy(), 10**9, BEGIN)
    a.release(policy())
    board = a.board
    assert not any(board.numbers[row] for row in board.keys.rows)


def test_requests_at_other_workers_count_soon_when_a_limit_is_new(two):
    a, b = two
    limited = policy(max_concurrent=1)
    a.admit(policy(), BEGIN)
    b.admit(limited, BEGIN)
    a.forget_others({1})
    b.release(limited)
    denied(b.admit, limited, BEGIN)


def test_requests_of_a_killed_worker_count_no_more_after_a_while(two):
    a, b = two
    mine = policy(max_concurrent=1)
    b.admit(mine, BEGIN)
    denied(a.admit, mine, BEGIN)
    a.board.sweep(BEGIN + STALE_SECONDS + 0.1)
    a.admit(mine, BEGIN)


def test_requests_of_a_stopped_worker_count_again_when_it_goes_on(two):
    a, b = two
    mine = policy(max_concurrent=1)
    b.admit(mine, BEGIN)
    a.board.sweep(BEGIN + STALE_SECONDS + 0.1)
    b.forget_others({1})
    denied(a.admit, mine, BEGIN)


def test_a_key_that_is_gone_is_forgotten_when_nothing_runs_and_its_minute_is_over(two):
    a, b = two
    gone = policy(requests_per_minute=1)
    b.admit(gone, BEGIN)

    def is_known(now, *ids):
        for limiter in (b, a):  # in which something runs: it says first that it lives
            limiter.board.sweep(now)
        a.forget_others(ids)
        return any(a.board.numbers[row] for row in a.board.keys.rows)

    late = BEGIN + KEPT_SECONDS * 1.1
    assert is_known(late)
    b.release(gone)
    assert is_known(BEGIN + KEPT_SECONDS * 0.9)
    assert is_known(late, 1)
    assert not is_known(late)
    other = policy(id=2, max_concurrent=1)
    b.admit(other, late)  # it has the row of the one that is gone
    b.release(gone)
    denied(a.admit, other, late)


def test_when_there_is_no_room_for_a_key_each_counts_for_itself_and_it_is_told_once(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(module, "MAX_KEYS", 1)
    with boards(tmp_path) as found:
        a, b = (SharedLimiter(board) for board in found)
        a.admit(policy(requests_per_minute=1), BEGIN)
        for number in (2, 3):
            other = policy(id=number, requests_per_minute=1)
            a.admit(other, BEGIN)
            denied(a.admit, other, BEGIN)
            a.release(other)
        b.admit(policy(id=2, requests_per_minute=1), BEGIN)
    assert len(caplog.messages) == 2  # one for each worker
    assert "each worker counts" in caplog.messages[0]


def test_a_worker_that_was_stopped_with_the_lock_keeps_no_request_out(two):
    a, b = two
    mine = policy(requests_per_minute=1)
    a.board.lock()
    b.admit(mine, BEGIN)
    denied(b.admit, mine, BEGIN)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "admit", "release", "charge", "wait"]),
        st.integers(0, 2),
        st.integers(1, 40),
    ),
    max_size=60,
)
LIMITS = st.fixed_dictionaries(
    {
        "requests_per_minute": st.integers(0, 6),
        "tokens_per_minute": st.sampled_from([0, 30, 60]),
        "max_concurrent": st.integers(0, 3),
    }
)


@settings(deadline=None)
@given(LIMITS, ACTS)
def test_whatever_happens_several_say_what_one_would(limits, acts):
    one, mine, now, running = Limiter(), policy(**limits), BEGIN, []
    with TemporaryDirectory() as directory, boards(Path(directory), 3) as found:
        limiters = [SharedLimiter(board) for board in found]
        for what, number, amount in acts:
            if what == "wait":
                now += amount / 4
            elif what == "admit":
                answers = [answer_of(each, mine, now) for each in (one, limiters[number])]
                assert answers[0] == answers[1]
                running += [number] if answers[0] is None else []
            elif running:
                limiter = limiters[running.pop()]
                for each in (one, limiter):
                    each.charge(mine, amount, now) if what == "charge" else None
                    each.release(mine)


def answer_of(limiter, mine, now):
    """What it refuses with; None: it does not."""
    try:
        limiter.admit(mine, now)
    except Denied as refusal:
        return refusal.message
    return None
