"""Owners of requests take turns at a gate, in one process and over several workers."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.servers.gate import Gate, QueueFullError
from tests.unit.gateway.boards import boards
from tests.unit.gateway.neighbours.workers import Worker
from tests.unit.gateway.test_gate import Visitor

MANY, FEW = 1, 2
"""Two owners."""


def queue(number, owner, gate):
    visitors = [Visitor(owner=owner) for _ in range(number)]
    for visitor in visitors:
        assert not gate.enter(visitor)
    return visitors


@pytest.fixture
def gate():
    """With one place, which is taken."""
    gate = Gate(capacity=1, max_waiting=8)
    gate.is_open = True
    assert gate.enter(Visitor(owner=MANY))
    return gate


def served(gate):
    """All that wait, in the order in which they are let in, by owner."""
    order = []
    while gate.waiting:
        (inside,) = gate.inside
        gate.leave(inside)
        (inside,) = gate.inside
        order.append(inside.owner)
    return order


def test_a_request_after_many_of_another_owner_is_second(gate):
    queue(5, MANY, gate)
    queue(2, FEW, gate)
    assert served(gate) == [MANY, FEW, MANY, FEW, MANY, MANY, MANY]


def test_an_owner_that_asks_again_and_again_gets_every_other_turn(gate):
    queue(5, MANY, gate)
    order = []
    queue(1, FEW, gate)
    for _ in range(6):
        (inside,) = gate.inside
        gate.leave(inside)
        (inside,) = gate.inside
        order.append(inside.owner)
        if inside.owner == FEW:
            queue(1, FEW, gate)
    assert order == [MANY, FEW, MANY, FEW, MANY, FEW]


def test_requests_of_one_owner_go_in_order_of_arrival(gate):
    older = Visitor(owner=MANY)
    younger = queue(2, MANY, gate)
    assert not gate.enter(older)  # it waited for another server before
    assert gate.waiting == [older, *younger]


def test_a_request_that_was_inside_before_a_crash_goes_first(gate):
    (inside,) = gate.inside
    queue(2, FEW, gate)
    gate.return_to_queue(inside)
    assert gate.waiting[0] is inside


def test_requests_that_come_back_from_inside_keep_their_order(gate):
    older, younger = queue(1, FEW, gate)[0], Visitor(owner=FEW)
    gate.capacity = 3
    gate.let_in()
    assert gate.enter(younger)
    gate.is_open = False
    gate.return_to_queue(older)
    gate.return_to_queue(younger)
    assert gate.waiting == [older, younger]


def test_the_newest_of_the_greediest_owner_gives_way_in_a_full_queue(gate):
    waiting = queue(8, MANY, gate)
    queue(1, FEW, gate)
    assert [visitor.was_displaced for visitor in waiting] == [False] * 7 + [True]
    assert len(gate.waiting) == 8


def test_nobody_gives_way_once_all_owners_have_the_same_share(gate):
    queue(8, MANY, gate)
    queue(4, FEW, gate)
    with pytest.raises(QueueFullError):
        gate.enter(Visitor(owner=FEW))
    with pytest.raises(QueueFullError):
        gate.enter(Visitor(owner=MANY))
    queue(1, 3, gate)


def test_a_queue_that_was_empty_begins_anew(gate):
    queue(3, FEW, gate)
    served(gate)
    queue(1, FEW, gate)
    queue(1, MANY, gate)
    assert served(gate) == [FEW, MANY]


@pytest.fixture
def workers(timers, tmp_path):
    """Two, before a server with one slot, which is taken."""
    with boards(tmp_path) as found:
        workers = [Worker(board, max_queue=8) for board in found]
        for worker in workers:
            worker.learn_slots(1)
        yield workers
        for worker in workers:
            worker.close()


def test_owners_take_turns_over_all_workers(workers, timers):
    one, other = workers
    first = one.comes(owner=MANY)
    many = [one.comes(owner=MANY) for _ in range(4)]
    few = [other.comes(owner=FEW) for _ in range(2)]
    order, inside = [], first
    while inside is not None:
        inside.worker.gate.leave(inside)
        timers.advance(0.1)
        inside = next((each for worker in workers for each in worker.gate.inside), None)
        if inside is not None:
            order.append(inside)
    assert order == [many[0], few[0], many[1], few[1], many[2], many[3]]


def test_the_owner_of_most_requests_gives_way_also_at_another_worker(workers, timers):
    one, other = workers
    one.comes(owner=MANY)
    many = [one.comes(owner=MANY) for _ in range(8)]
    few = other.comes(owner=FEW)
    assert few in other.gate.waiting
    one.sweep()
    timers.advance(0.1)
    assert [visitor.was_displaced for visitor in many] == [False] * 7 + [True]
    with pytest.raises(QueueFullError):
        one.comes(owner=MANY)


def test_a_worker_that_has_closed_gives_no_way(workers, timers):
    one, other = workers
    one.comes(owner=MANY)
    for _ in range(8):
        one.comes(owner=MANY)
    other.comes(owner=FEW)
    one.sweep()
    one.close()
    timers.advance(0.1)
    assert len(one.gate.waiting) == 8
