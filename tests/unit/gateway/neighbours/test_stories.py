"""Whatever visitors and workers do, and several processes in haste: they keep to what one worker would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.servers.losses import TOGETHER_SECONDS
from supervisor_app.gateway.servers.turns import FIRST
from supervisor_app.gateway.workers import neighbours as module
from supervisor_app.gateway.workers.neighbours import LOOK_SECONDS
from tests.unit.gateway.boards import boards
from tests.unit.gateway.neighbours.workers import Worker, since
from tests.unit.gateway.timers import Timers

ROOT = Path(__file__).parents[4]


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
