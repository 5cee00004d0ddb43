"""The gates of several workers before one server: how many are inside, and in which order."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.servers.backend import DOUBT_SECONDS
from supervisor_app.gateway.servers.gate import QueueFullError
from supervisor_app.gateway.workers.neighbours import LOOK_SECONDS
from tests.unit.gateway.boards import boards
from tests.unit.gateway.neighbours.workers import Worker

# --- How many, and in which order ----------------------------------------------------------------------


def test_no_more_are_inside_a_server_than_it_has_slots(a, b, look):
    first, second = a.comes(), b.comes()
    third, fourth = a.comes(), b.comes()
    look()
    assert [visitor.times for visitor in (first, second, third, fourth)] == [1, 1, 0, 0]


def test_a_waiting_request_goes_as_soon_as_one_has_left_another_worker(a, b, look):
    a.comes()
    leaving, waiting = b.comes(), a.comes()
    b.gate.leave(leaving)
    look()
    assert waiting.times == 1


def test_requests_of_all_workers_go_in_order_of_arrival(workers, a, b, look):
    inside = [a.comes(), a.comes()]
    queue = [b.comes(), a.comes(), b.comes(), b.comes(), a.comes()]
    while queue:
        leaving = inside.pop(0)
        leaving.worker.gate.leave(leaving)
        look()
        assert [visitor.times for visitor in queue] == [1] + [0] * (len(queue) - 1)
        inside.append(queue.pop(0))


def test_nobody_overtakes_one_who_waits_at_another_worker(a, b, look):
    leaving, _ = a.comes(), a.comes()
    waiting = b.comes()
    a.gate.leave(leaving)
    newcomer = a.comes()
    look()
    assert (waiting.times, newcomer.times) == (1, 0)


def test_a_request_at_a_worker_that_doubts_its_server_holds_up_no_other(a, b, look):
    b.doubt()
    waiting, newcomer = b.comes(), a.comes()
    assert (waiting.times, newcomer.times) == (0, 1)


def test_without_a_limit_all_go_at_once(workers):
    for worker in workers:
        worker.learn_slots(0)
    assert all(worker.comes().times for _ in range(50) for worker in workers)


def test_while_nobody_waits_nobody_looks(a, b, timers):
    a.comes()
    b.comes()
    assert not timers.pending
    waiting = a.comes()
    assert len(timers.pending) == 1
    a.gate.leave(waiting)
    timers.advance(LOOK_SECONDS * 2)
    assert not timers.pending


def test_the_queue_of_all_together_is_bounded(a, b):
    a.gate.max_waiting = b.gate.max_waiting = 3
    for worker in (a, a, a, b, b):
        worker.comes()
    for worker in (a, b):
        with pytest.raises(QueueFullError):
            worker.comes()


def test_the_load_of_a_server_is_that_of_all_workers_together(a, b):
    for worker in (a, a, b):
        worker.comes()
    assert (a.load, b.load) == (1.5, 1.5)


def test_each_server_has_its_own_count(timers, tmp_path):
    with boards(tmp_path) as (board, other):
        here, there = Worker(board), Worker(other, name="another")
        here.learn_slots(1)
        there.learn_slots(1)
        assert (here.comes().times, there.comes().times) == (1, 1)
        assert (here.load, there.load) == (1, 1)


def test_a_server_for_which_there_is_no_room_is_counted_by_each_for_itself(
    timers, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("supervisor_app.gateway.workers.board.MAX_SERVERS", 1)
    with boards(tmp_path) as (board, other):
        Worker(board)
        workers = [Worker(board, name="another"), Worker(other, name="another")]
        for worker in workers:
            worker.learn_slots(1)
        assert [worker.comes().times for worker in workers] == [1, 1]
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith("each worker counts another for itself")


# --- Alone ---------------------------------------------------------------------------------------------


def test_a_suspect_waits_until_all_have_left_all_workers(a, b, look):
    first, second = a.comes(), b.comes()
    suspect, later = b.comes(solo=True), a.comes()
    for leaving in (second, first):
        assert suspect.times == 0
        leaving.worker.gate.leave(leaving)
        look()
    assert (suspect.times, later.times) == (1, 0)
    b.gate.leave(suspect)
    look()
    assert later.times == 1


def test_nobody_joins_a_suspect_at_another_worker(a, b, look):
    suspect, others = a.comes(solo=True), [b.comes(), b.comes(solo=True)]
    look()
    assert [suspect.times, *(other.times for other in others)] == [1, 0, 0]


@pytest.mark.parametrize("is_empty", [True, False], ids=["nobody else there", "somebody else there"])
def test_a_request_that_becomes_a_suspect_at_its_turn_is_alone_from_then_on(a, b, look, timers, is_empty):
    b.doubt()
    suspect = b.comes(becomes_solo=True)
    other = None if is_empty else a.comes()
    timers.advance(DOUBT_SECONDS)  # the gate opens again
    assert (suspect.times, suspect.solo) == (int(is_empty), True)
    later = a.comes()
    if other is not None:
        a.gate.leave(other)
    look()
    assert (suspect.times, later.times) == (1, 0)
