"""A server as the gateway deals with it: when its gate is open, for how many, and what a loss means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.backend import DOUBT_SECONDS, MAX_DOUBT_SECONDS
from supervisor_app.gateway.servers.losses import TOGETHER_SECONDS
from tests.unit.gateway.backends import backend, make_backend, newer
from tests.unit.gateway.test_gate import Visitor, enter, visitors

__all__ = ["backend"]  # fixtures

NOW = 1_800_000_000.0
"""Unix seconds."""


# --- A restart without a gap ----------------------------------------------------------------------------


def test_a_new_process_has_all_places_while_the_one_before_finishes_what_it_has(timers):
    backend = make_backend(capacity=2)
    old, new = visitors(2), visitors(3)
    assert enter(backend.gate, *old) == [True, True]
    pool = backend.pool
    newer(backend, pid=12, url="http://localhost:8135")
    assert backend.gate.is_open
    assert backend.pool is not pool
    assert enter(backend.gate, *new) == [True, True, False]
    assert backend.gate.at_any_process == {*old, *new[:2]}
    backend.gate.leave(old[0])
    assert new[2].times == 0, "it was at the other process"
    backend.gate.leave(new[0])
    assert new[2].times == 1
    backend.gate.return_to_queue(old[1])
    assert backend.gate.former == set()


def test_the_same_process_keeps_its_places(backend):
    (visitor,) = visitors(1)
    enter(backend.gate, visitor)
    newer(backend, detail="Serving.")
    assert backend.gate.inside == {visitor}


# --- A planned end --------------------------------------------------------------------------------------


def test_a_server_that_drains_lets_nobody_in_and_keeps_what_it_has(backend):
    old, late = visitors(2)
    enter(backend.gate, old)
    newer(backend, status=Status.STOPPING, draining=True)
    assert enter(backend.gate, late) == [False]
    assert backend.facts.spares(11)
    newer(backend, status=Status.READY, draining=False)
    assert late.times == 1
    assert backend.gate.inside == {old, late}


# --- Its gate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status)
def test_a_gate_is_open_while_its_servers_supervisor_says_ready(timers, status):
    assert make_backend(status=status).gate.is_open is (status is Status.READY)


def test_waiting_requests_are_let_in_when_the_server_gets_ready(timers):
    backend, (visitor,) = make_backend(status=Status.STARTING), visitors(1)
    assert enter(backend.gate, visitor) == [False]
    newer(backend, status=Status.READY)
    assert visitor.times == 1


def test_a_supervisor_that_comes_back_holds_nobody_up(backend, timers):
    pool = backend.pool
    for changes in ({"pid": None}, {"pid": 11}, {"status": Status.READY}):
        newer(backend, **{"status": Status.STARTING, **changes})
        assert (backend.gate.is_open, backend.pool is pool) == (True, True)


@pytest.mark.parametrize(
    "changes",
    [{"pid": 12}, {"url": "http://localhost:9000"}, {"status": Status.CRASHED, "pid": None}],
    ids=["another process", "another address", "crashed"],
)
def test_a_start_of_anything_else_is_waited_for(backend, changes):
    newer(backend, **{"status": Status.STARTING, **changes})
    assert not backend.gate.is_open
    newer(backend, status=Status.STARTING, pid=None)
    assert not backend.gate.is_open


def test_a_supervisor_that_finds_the_process_gone_after_all_closes_the_gate(backend):
    newer(backend, status=Status.STARTING, pid=None)
    newer(backend, status=Status.CRASHED)
    assert not backend.gate.is_open


def test_a_server_that_was_found_gone_is_asked_again_a_little_later(backend, timers):
    visitor = Visitor()
    backend.doubt()
    assert enter(backend.gate, visitor) == [False]
    timers.advance(DOUBT_SECONDS * 0.9)
    assert not backend.gate.is_open
    timers.advance(DOUBT_SECONDS * 0.2)
    assert (backend.gate.is_open, visitor.times) == (True, 1)


def test_requests_that_find_a_server_gone_together_doubt_it_once(backend, timers):
    backend.doubt()
    backend.doubt()
    assert len(timers.pending) == 1
    timers.advance(DOUBT_SECONDS)
    assert backend.gate.is_open


def doubted_for(backend, timers):
    """How long its gate stays closed, in seconds."""
    backend.doubt()
    before = timers.time()
    (timer,) = timers.pending
    timers.advance(timer.when - before)
    assert backend.gate.is_open
    return timer.when - before


def test_each_doubt_is_twice_as_long_up_to_a_second_until_the_server_answers(backend, timers):
    assert [doubted_for(backend, timers) for _ in range(3)] == pytest.approx(
        [DOUBT_SECONDS, DOUBT_SECONDS * 2, DOUBT_SECONDS * 4]
    )
    for _ in range(10):
        longest = doubted_for(backend, timers)
    assert longest == pytest.approx(MAX_DOUBT_SECONDS)
    backend.trust()
    assert doubted_for(backend, timers) == pytest.approx(DOUBT_SECONDS)


def test_a_newer_word_ends_the_doubt(backend, timers):
    backend.doubt()
    newer(backend, pid=12)
    assert backend.gate.is_open
    assert not timers.pending


def test_news_of_a_crash_keeps_the_gate_closed_without_doubt(backend, timers):
    backend.doubt()
    newer(backend, status=Status.CRASHED, pid=None)
    assert not timers.pending
    assert not backend.gate.is_open


def test_a_change_of_the_configuration_does_not_end_doubt(backend, timers):
    backend.doubt()
    backend.update(replace(backend.facts, max_queue=3))
    assert not backend.gate.is_open
    assert backend.gate.max_waiting == 3
    timers.advance(DOUBT_SECONDS)
    assert backend.gate.is_open


def test_a_server_that_is_given_up_leaves_no_timer_behind(backend, timers):
    backend.doubt()
    backend.close()
    assert not timers.pending


# --- How many at once ----------------------------------------------------------------------------------


def test_a_server_takes_as_many_requests_at_once_as_it_has_slots(backend):
    guests = visitors(3)
    backend.learn_slots(2)
    assert enter(backend.gate, *guests) == [True, True, False]


def test_waiting_requests_are_let_in_when_the_server_has_more_slots(backend):
    first, second = visitors(2)
    backend.learn_slots(1)
    enter(backend.gate, first, second)
    backend.learn_slots(2)
    assert second.times == 1


def test_a_configured_capacity_wins_over_the_servers_slots(timers):
    backend = make_backend(capacity=3)
    backend.learn_slots(8)
    assert backend.gate.capacity == 3
    newer(backend, capacity=0)
    assert backend.gate.capacity == 8


def test_a_server_gets_one_request_until_it_has_named_its_slots(timers):
    backend, guests = make_backend(status=Status.STARTING), visitors(4)
    backend.await_slots()
    enter(backend.gate, *guests)
    newer(backend, status=Status.READY)
    assert [guest.times for guest in guests] == [1, 0, 0, 0]
    backend.learn_slots(3)
    assert [guest.times for guest in guests] == [1, 1, 1, 0]


def test_a_server_that_names_no_slots_has_no_limit(backend):
    guests = visitors(4)
    backend.await_slots()
    enter(backend.gate, *guests)
    backend.learn_slots(0)
    assert [guest.times for guest in guests] == [0, 1, 1, 1]  # the first need not wait at all


def test_a_configured_capacity_does_not_wait_for_the_servers_slots(timers):
    backend = make_backend(capacity=3)
    backend.await_slots()
    assert enter(backend.gate, *visitors(4)) == [True, True, True, False]


def test_the_load_of_a_server_is_measured_by_its_capacity(backend):
    enter(backend.gate, *visitors(3))
    assert backend.load == 3 / 8  # nothing is known of its slots
    backend.learn_slots(2)
    enter(backend.gate, *visitors(1))
    assert backend.load == 2  # three inside, one waits


@pytest.mark.parametrize(("took", "seconds"), [(None, 5), (0.1, 1), (2.4, 3), (90, 90)])
def test_the_time_to_ask_again_is_known_from_the_last_starts(timers, took, seconds):
    assert make_backend(start_seconds=took).retry_after(NOW) == seconds


@pytest.mark.parametrize(
    ("status", "pause", "seconds"),
    [
        (Status.CRASHED, 14, 17),
        (Status.CRASHED, -3, 3),
        (Status.CRASHED, None, 3),
        (Status.STARTING, 14, 3),  # somebody did not wait for it
    ],
)
def test_after_a_crash_the_pause_before_the_next_start_counts_too(timers, status, pause, seconds):
    retry_at = None if pause is None else NOW + pause
    assert make_backend(status=status, start_seconds=2.4, retry_at=retry_at).retry_after(NOW) == seconds


# --- Losses --------------------------------------------------------------------------------------------


def test_the_first_loss_tells_for_all_who_else_was_in_flight(backend):
    one, other = visitors(2)
    enter(backend.gate, one, other)
    first = backend.losses.add(backend.facts, "reset")
    backend.gate.leave(one)
    second = backend.losses.add(backend.facts, "reset")
    assert (first.alone, second.alone) == (False, False)
    assert (first.pid, first.run, first.reason) == (11, 3, "reset")


def test_a_loss_some_time_later_is_another_matter(backend, timers):
    one, other = visitors(2)
    enter(backend.gate, one)
    assert backend.losses.add(backend.facts, "reset").alone
    enter(backend.gate, other)
    timers.advance(TOGETHER_SECONDS + 0.1)
    assert not backend.losses.add(backend.facts, "reset").alone


def test_the_next_process_is_another_matter(backend):
    one, other = visitors(2)
    enter(backend.gate, one, other)
    backend.losses.add(backend.facts, "reset")
    backend.gate.leave(one)
    newer(backend, pid=12, run=4)
    assert backend.losses.add(backend.facts, "reset").alone


def test_a_loss_is_that_of_the_process_which_was_asked(backend):
    (visitor,) = visitors(1)
    enter(backend.gate, visitor)
    asked = backend.facts
    newer(backend, status=Status.CRASHED, pid=None, run=None)
    loss = backend.losses.add(asked, "reset")
    assert (loss.pid, loss.run, loss.alone) == (11, 3, True)


@pytest.mark.parametrize(("run", "run_name"), [(3, "3"), (None, "pid 11")])
def test_a_crash_is_named_by_the_number_of_its_run_or_else_by_the_pid(timers, run, run_name):
    backend = make_backend(run=run)
    assert backend.losses.add(backend.facts, "reset").run_name == run_name
