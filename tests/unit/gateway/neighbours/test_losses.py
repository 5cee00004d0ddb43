"""Losses of one server at several workers, and workers that are gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.gateway.plane.gateway import SWEEP_SECONDS
from supervisor_app.gateway.servers.losses import TOGETHER_SECONDS
from supervisor_app.gateway.workers.board import STALE_SECONDS
from supervisor_app.gateway.workers.neighbours import LOST_SECONDS

# --- Losses --------------------------------------------------------------------------------------------


def test_the_only_request_of_all_workers_was_alone(a, b):
    a.comes()
    assert a.losses.add(a.facts, "reset").alone


def test_two_workers_that_lose_one_each_have_both_lost_one_of_two(a, b):
    guilty, innocent = a.comes(), b.comes()
    first = a.losses.add(a.facts, "reset")
    a.doubt()
    a.gate.return_to_queue(guilty)
    second = b.losses.add(b.facts, "reset")
    b.gate.leave(innocent)
    assert (first.alone, second.alone) == (False, False)


def test_a_request_without_a_slot_at_another_worker_counts_as_in_flight(a, b):
    b.comes(needs_slot=False)
    a.comes()
    assert not a.losses.add(a.facts, "reset").alone


def test_a_suspect_waits_for_those_without_a_slot_of_another_worker_until_it_insists(a, b, look):
    b.comes(needs_slot=False)
    suspect = a.comes(solo=True)
    look()
    assert suspect.times == 0
    suspect.insists = True
    look()
    assert (suspect.times, a.losses.add(a.facts, "reset").alone) == (1, False)


def test_none_without_a_slot_joins_a_suspect_at_another_worker(a, b, look):
    suspect = a.comes(solo=True)
    slotless = b.comes(needs_slot=False)
    look()
    assert (suspect.times, slotless.times) == (1, 0)
    a.gate.leave(suspect)
    look()
    assert slotless.times == 1


def test_a_request_without_a_slot_that_has_left_does_not_count(a, b):
    b.gate.leave(b.comes(needs_slot=False))
    a.comes(solo=True)
    assert a.losses.add(a.facts, "reset").alone


def test_a_request_sent_to_a_server_that_another_has_killed_was_not_alone(a, b, timers):
    guilty = a.comes(solo=True)
    assert a.losses.add(a.facts, "reset").alone
    a.doubt()
    a.gate.return_to_queue(guilty)
    timers.advance(LOST_SECONDS * 2)
    b.comes(solo=True)
    assert not b.losses.add(b.facts, "reset").alone


def test_for_a_moment_after_a_loss_nobody_is_sent_there(a, b, timers, look):
    guilty = a.comes()
    a.losses.add(a.facts, "reset")
    a.doubt()
    a.gate.return_to_queue(guilty)
    other = b.comes()
    look()
    assert other.times == 0
    timers.advance(LOST_SECONDS * 2)
    assert other.times == 1


def test_another_process_and_another_time_are_another_matter(a, b, timers):
    innocent = b.comes()
    a.comes()
    assert not a.losses.add(a.facts, "reset").alone
    b.gate.leave(innocent)
    timers.advance(TOGETHER_SECONDS / 2)
    assert not a.losses.add(a.facts, "reset").alone
    timers.advance(TOGETHER_SECONDS)
    assert a.losses.add(a.facts, "reset").alone
    timers.advance(LOST_SECONDS * 2)
    b.comes()
    assert not a.losses.add(replace(a.facts, pid=12), "reset").alone


# --- Who is gone ---------------------------------------------------------------------------------------


def sweep(worker, timers):
    worker.board.sweep(timers.time())
    worker.sweep()


@pytest.mark.parametrize("solo", [False, True])
def test_a_killed_worker_with_requests_holds_up_no_other_for_long(a, b, timers, solo):
    b.comes(solo=solo)
    b.comes()
    b.comes()
    for timer in timers.pending:
        timer.cancel()  # those of one that is killed
    waiting = a.comes()
    for _ in range(int(STALE_SECONDS / SWEEP_SECONDS) + 1):
        assert waiting.times == 0
        timers.advance(SWEEP_SECONDS)
        sweep(a, timers)
    assert waiting.times == 1


def test_a_worker_that_was_only_stopped_counts_again_when_it_goes_on(a, b, timers, look):
    b.comes()
    b.comes()
    timers.advance(STALE_SECONDS + 0.1)
    sweep(a, timers)
    sweep(b, timers)
    assert a.comes().times == 0


def test_requests_of_a_worker_without_the_server_count_no_more(a, b, look):
    b.comes()
    b.comes()
    waiting = a.comes()
    b.close()
    look()
    assert waiting.times == 1
    assert not b.losses.add(b.facts, "reset").alone  # by its own count


@pytest.mark.parametrize("column", [0, 1])
def test_while_somebody_has_the_lock_one_waits_and_comes_later(workers, look, column):
    workers[1 - column].board.lock()
    visitor = workers[column].comes()
    assert visitor.times == 0
    workers[1 - column].board.unlock()
    look()
    assert visitor.times == 1
