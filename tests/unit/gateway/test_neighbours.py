"""The gates of several workers before one server: together they keep to what one of them would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.gateway import SWEEP_SECONDS
from supervisor_app.gateway.servers.backend import DOUBT_SECONDS, Backend
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.gate import QueueFullError
from supervisor_app.gateway.servers.losses import TOGETHER_SECONDS
from supervisor_app.gateway.servers.turns import FIRST, NEWCOMER
from supervisor_app.gateway.workers import neighbours as module
from supervisor_app.gateway.workers.board import STALE_SECONDS
from supervisor_app.gateway.workers.neighbours import LOOK_SECONDS, LOST_SECONDS, neighbours_of
from tests.unit.gateway.boards import boards
from tests.unit.gateway.timers import Timers

ROOT = Path(__file__).parents[3]
FACTS = ServerFacts(name="default", version=1, status=Status.READY, pid=11, run=3)
since = count(1)


class Visitor:
    """Of one worker. As others do, it finds out at its turn whether it has to be alone."""

    insists = False
    key = None
    turn = NEWCOMER

    def __init__(self, worker, *, solo=False, becomes_solo=False, needs_slot=True, owner=0):
        self.owner = owner
        self.was_displaced = False
        self.worker = worker
        self.arrival = self.since = next(since)
        self.solo = solo
        self.needs_slot = needs_slot
        self.wakes = self.counts_as_use = True
        self._becomes_solo = becomes_solo
        self.model = ""
        self.times = 0

    def admitted(self):
        self.solo = self.solo or self._becomes_solo
        if self.solo and not self.worker.gate.is_alone(self):
            self.worker.gate.return_to_queue(self)
        else:
            self.times += 1

    def displaced(self):
        self.was_displaced = True

    def server_ended(self): ...

    def server_changed(self): ...


class Worker(Backend):
    """What one of the workers has of the server."""

    def __init__(self, board, **facts):
        super().__init__(replace(FACTS, **facts), Limits(), partial(neighbours_of, board=board))
        self.board = board
        self.open_if_ready()

    def comes(self, **visitor):
        """Somebody, who goes in or waits."""
        visitor = Visitor(self, **visitor)
        visitor.times += self.gate.enter(visitor)
        return visitor


@pytest.fixture
def timers(monkeypatch):
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    return timers


@pytest.fixture
def workers(timers, tmp_path):
    """Two, before a server with two slots."""
    with boards(tmp_path) as found:
        workers = [Worker(board) for board in found]
        for worker in workers:
            worker.learn_slots(2)
        yield workers
        for worker in workers:
            worker.close()


@pytest.fixture
def a(workers):
    return workers[0]


@pytest.fixture
def b(workers):
    return workers[1]


@pytest.fixture
def look(timers):
    """All who wait look again."""
    return lambda: timers.advance(LOOK_SECONDS * 1.5)


# --- How many, and in which order ----------------------------------------------------------------------


def test_no_more_are_inside_than_it_has_slots(a, b, look):
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


def test_its_load_is_that_of_all_together(a, b):
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


def test_one_that_was_only_stopped_counts_again_when_it_goes_on(a, b, timers, look):
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


# --- Whatever happens ----------------------------------------------------------------------------------

ACTS = st.tuples(
    st.sampled_from(["comes", "suspect", "leaves", "crash", "doubt", "resize"]),
    st.integers(0, 2),
    st.integers(0, 30),
)


class Story:
    """Three workers, all who came, and what must hold whatever they did."""

    def __init__(self, workers, timers):
        self.workers = workers
        self.timers = timers
        self.capacity = 0
        self.here = []

    def act(self, what, number, how):
        worker = self.workers[number]
        if what in ("comes", "suspect"):
            self.here.append(worker.comes(solo=what == "suspect"))
        elif what == "leaves" and self.here:
            leaving = self.here.pop(how % len(self.here))
            leaving.worker.gate.leave(leaving)
        elif what == "crash":
            self.crash(number)
        elif what == "doubt":
            worker.doubt()
        elif what == "resize" and not any(each.gate.inside for each in self.workers):
            self.capacity = how % 4
            for each in self.workers:
                each.learn_slots(self.capacity)
        self.check()

    def crash(self, first):
        """All are lost; the workers notice one after the other."""
        inside = [list(worker.gate.inside) for worker in self.workers]
        everyone = [visitor for visitors in inside for visitor in visitors]
        for number in (first, (first + 1) % 3, (first + 2) % 3):
            worker = self.workers[number]
            for visitor in inside[number]:
                assert worker.losses.add(worker.facts, "reset").alone is (len(everyone) == 1)
                worker.doubt()
                worker.gate.return_to_queue(visitor)
        self.timers.advance(TOGETHER_SECONDS * 1.2)

    def check(self):
        inside = [visitor for worker in self.workers for visitor in worker.gate.inside]
        assert len(inside) == 1 or not any(visitor.solo for visitor in inside)
        assert len(inside) <= (self.capacity or len(inside))

    def end(self):
        """All gates are open: nobody waits for nothing, and from now on they go in their order.

        A request that was inside before a crash keeps that before those whose gate was closed meanwhile.
        """
        self.timers.advance(TOGETHER_SECONDS * 1.2)
        before = set(self.here)
        while self.here:
            self.check()
            inside = {visitor for worker in self.workers for visitor in worker.gate.inside}
            waiting = [visitor.since for visitor in self.here if visitor not in inside]
            assert inside
            oldest = min(waiting, default=next(since))
            assert all(new.turn == FIRST or new.since < oldest for new in inside - before)
            before = inside
            leaving = min(inside, key=lambda visitor: visitor.since)
            self.here.remove(leaving)
            leaving.worker.gate.leave(leaving)
            self.timers.advance(LOOK_SECONDS * 4)


@settings(deadline=None, max_examples=150)
@given(st.lists(ACTS, max_size=40))
def test_whatever_happens_limit_solitude_and_order_hold_and_nobody_waits_for_nothing(acts):
    timers = Timers()
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setattr(asyncio, "get_running_loop", lambda: timers)
        with boards(Path(directory), 3) as found:
            story = Story([Worker(board) for board in found], timers)
            for act in acts:
                story.act(*act)
            story.end()
            for worker in story.workers:
                worker.close()


HASTE = """
# What each sees is old by the time it goes by it, unless nobody else could change it meanwhile.
import asyncio, os, sys, time
from itertools import count
from pathlib import Path
from supervisor_app.gateway.workers.board import Board
from supervisor_app.gateway.servers.gate import Gate
from supervisor_app.gateway.workers.neighbours import Neighbours, neighbours_of

def slow(look):
    def seen(*arguments, **more):
        found = look(*arguments, **more)
        time.sleep(0.001)
        return found
    return seen

Neighbours.has_room = slow(Neighbours.has_room)

class Visitor:
    model, solo, needs_slot, insists, since = "", False, True, False, 1.0
    turn, owner = 2**62, 0  # nobody comes first: any may go
    def __init__(self):
        self.arrival = time.monotonic()
        self.is_in = asyncio.Event()
    def admitted(self):
        self.is_in.set()

async def main(directory, column, rounds):
    board = Board(directory / "board", column, time.monotonic())
    gate = Gate(capacity=1, max_waiting=1000)
    gate.others, gate.is_open = neighbours_of(gate, "default", board), True
    async def visit():
        for number in range(rounds):
            visitor = Visitor()
            visitor.solo = number % 5 == 0
            if not gate.enter(visitor):
                await visitor.is_in.wait()
            os.close(os.open(directory / "inside", os.O_CREAT | os.O_EXCL))
            await asyncio.sleep(0.001)
            os.unlink(directory / "inside")
            gate.leave(visitor)
            board.sweep(time.monotonic())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(visit())
    board.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), 30))
"""


def test_real_processes_in_haste_never_meet_inside(tmp_path):
    module.Board.create(tmp_path / "board", 3)
    processes = [
        subprocess.Popen([sys.executable, "-c", HASTE, str(tmp_path), str(column)], cwd=ROOT)
        for column in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
