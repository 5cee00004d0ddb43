"""Visits of a request to servers, with a gateway and a request that do nothing of themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.body import RequestBody
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.visit import Visit
from tests.unit.gateway.parts import Answer, NearBackend, request_head

READY = ServerFacts(name="a", version=5, status=Status.READY, url="http://localhost:1", pid=11, run=3)
PURE, IMPURE = "/v1/embeddings", "/tools"
arrivals = count()


class Request:
    """`request.Request`: remembers each step and how it ended."""

    def __init__(self, timers, path=PURE, content=b'{"input":"hi"}', *, method="POST", owner=1):
        self.head = request_head(path, method=method)
        self.body = RequestBody(self.head, len(content))
        self.body.take_whole(content)
        self.answer = Answer(timers)
        self.arrival = next(arrivals)
        self.started = timers.time()
        self.is_public = self.is_sent_once = False
        self.suspicion = None
        self.owner = owner
        self.run_name = ""
        self.steps = []
        self.problem = self.outcome = None
        self.known = None
        """What is found of the request when it looks back."""
        self.candidates = []
        self.moved_to = None

    def candidates_now(self):
        return self.candidates

    def find_suspicion(self):
        return self.known

    def go_to_one_of(self, candidates):
        self.moved_to = candidates

    def isolate(self, facts):
        return None

    def request_for(self, authority, api_key, instead):
        return b"head with " + api_key.encode(), self.body.for_server(instead)[0], True

    def set_out(self):
        self.answer.wait().end()
        self.steps.append("set out")

    def come_back(self):
        self.steps.append("come back")

    def lose(self, run_name):
        self.run_name = run_name
        self.steps.append("lost")

    def commit(self, head, length, beginning=b""):
        self.steps.append("commit")
        return True

    def answered(self, tail):
        self.outcome = Outcome.OK

    def answer_whole(self, head, length, content):
        self.outcome = Outcome.OK

    def broken(self, problem, run_name, tail):
        self.problem, self.run_name, self.outcome = problem, run_name, Outcome.UPSTREAM_CRASHED

    def refuse(self, problem, outcome=Outcome.REFUSED):
        self.problem, self.outcome = problem, outcome


class Gateway:
    """`request.VisitGateway`, and the `Court` in it."""

    def __init__(self, loop):
        self.loop = loop
        self.limits = Limits()
        self.inquest = self
        self.blamed, self.suspected, self.quarantined = [], [], []

    @staticmethod
    def wall_time():
        return 1_800_000_000.0

    @staticmethod
    def server_lost():
        pass

    @staticmethod
    def leave_gate(backend, visitor):
        backend.gate.leave(visitor)

    def blame_key(self, backend, facts, loss):
        self.blamed.append(loss)

    def quarantine(self, backend, body_hash, key, suspicion, verdict):
        self.quarantined.append(verdict)
        return SimpleNamespace(code="quarantined")

    def suspect(self, body_hash, suspicion):
        self.suspected.append(suspicion)


def visit(gateway, request, **facts):
    """A visit that has entered, and the server that it is at."""
    backend = NearBackend(replace(READY, **facts))
    return join(gateway, request, backend), backend


def join(gateway, request, backend):
    entered = Visit(request, gateway, backend)
    entered.enter()
    return entered


def newer(backend, **changes):
    """A word of the supervisor."""
    backend.update(replace(backend.facts, version=backend.facts.version + 1, **changes))


def lose(backend):
    """The connection to the server ends without an answer."""
    backend.made().listener.on_lost("reset")
