"""An exchange alone, with all that is around it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.stages import Stage
from supervisor_app.gateway.plane.work_queue import WorkQueue
from supervisor_app.gateway.servers.facts import ServerFacts
from tests.unit.gateway.parts import NearBackend, Transport, request_head

READY = ServerFacts(name="a", version=5, status=Status.READY, url="http://localhost:1", pid=11, run=3)
QUESTION = b'{"input":"hi"}'
SIZE = len(QUESTION)
STREAM = b'{"messages":[{"role":"user","content":"hi"}],"stream":true}'
EVENT = b'data: {"choices":[{"delta":{"content":"a word of many, so that it is no short one"}}]}\n\n'


class Caller:
    """`ports.Caller`: remembers what it was told."""

    address = "192.0.2.1"

    def __init__(self):
        self.transport = Transport()
        self.held = []
        self.times_over = 0
        self.may_connect = True

    def pause_reading(self, held):
        self.held.append(held)

    def may_connect_as(self, owner):
        return self.may_connect

    def exchange_over(self):
        self.times_over += 1


class Gateway:
    """`ports.ExchangeGateway` with one server."""

    def __init__(self, loop, **facts):
        self.loop = loop
        self.limits = Limits(replay_bytes=1000, body_bytes=10_000)
        self.door = Door(["localhost"])
        self.inquest = SimpleNamespace(
            suspects_anybody=lambda: False,
            blame_key=lambda *_: None,
            suspects=SimpleNamespace(acquit=lambda _: None),
        )
        self.outside = SimpleNamespace(models_changed=self._models_changed)
        self.large_work = WorkQueue(loop)
        self.ids = map("request {}".format, count(1))
        self.arrivals = count(1)
        self.kept_bytes = self.spooled_bytes = 0
        self.takes_any_name = True
        self.presets = {}
        self.may_hear_of_models = False
        self.backend = NearBackend(replace(READY, **facts))
        self.all = (self.backend,)
        self.finishes = []
        self.changed = []

    def _models_changed(self, server):
        self.changed.append(server)

    @staticmethod
    def wall_time():
        return 1_800_000_000.0

    @staticmethod
    def must_read_on(policy, head, body):
        return False

    @staticmethod
    def isolates(facts):
        return False

    @staticmethod
    def server_lost():
        pass

    @staticmethod
    def leave_gate(backend, visitor):
        backend.gate.leave(visitor)

    def finished(self, exchange, *, recorded):
        self.finishes.append((exchange, recorded))


class Bench:
    """An exchange with all that it needs."""

    def __init__(self, timers, path="/v1/embeddings", *, length=SIZE, **facts):
        self.gateway = Gateway(timers, **facts)
        self.backend = self.gateway.backend
        self.caller = Caller()
        reply = Reply(self.caller.transport, http11=True, keep_alive=True)
        head = request_head(path)
        self.exchange = Exchange(self.gateway, self.caller, head, length, reply)

    def ask(self, body=QUESTION):
        """The whole request comes, and is let in."""
        self.exchange.let_in(None)
        self.exchange.on_body(body)
        self.exchange.on_body_end()
        return self

    def asked(self):
        """Return the listener of the connection over which the request was sent."""
        return self.backend.made().listener

    @property
    def written(self):
        return self.caller.transport.written

    @property
    def outcome(self):
        """Outcome of a request whose books are closed."""
        assert self.exchange.stage is Stage.OVER
        assert len(self.gateway.finishes) == 1
        assert self.caller.times_over == 1
        assert self.gateway.kept_bytes == 0
        assert self.backend.gate.in_flight == set()
        assert self.backend.gate.waiting == []
        return self.exchange.notes.outcome

    def newer(self, **changes):
        """A word of the supervisor."""
        self.backend.update(replace(self.backend.facts, version=self.backend.facts.version + 1, **changes))
