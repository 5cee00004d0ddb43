"""Visitors of one server at several workers of a gateway."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.turns import NEWCOMER
from supervisor_app.gateway.workers.neighbours import neighbours_of

FACTS = ServerFacts(name="default", version=1, status=Status.READY, pid=11, run=3)
since = count(1)


class Visitor:
    """A visitor of a worker. It finds out at its turn whether it has to be alone."""

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
    """A worker's view of the server."""

    def __init__(self, board, **facts):
        super().__init__(replace(FACTS, **facts), Limits(), partial(neighbours_of, board=board))
        self.board = board
        self.open_if_ready()

    def comes(self, **visitor):
        """Let a visitor come, who goes in or waits."""
        visitor = Visitor(self, **visitor)
        visitor.times += self.gate.enter(visitor)
        return visitor
