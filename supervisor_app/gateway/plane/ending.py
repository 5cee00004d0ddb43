"""The end of a request: its answer is whole or broken off, it is refused, or its client has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.dialects import id_fields
from supervisor_app.gateway.plane.answer import Answer
from supervisor_app.gateway.plane.body import RequestBody
from supervisor_app.gateway.plane.live import LiveRequest
from supervisor_app.gateway.plane.notes import Notes
from supervisor_app.gateway.plane.stages import FOLLOWS, Stage, step
from supervisor_app.gateway.plane.transit import Transit
from supervisor_app.gateway.records.record import Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.http.reply import Reply
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.usage import Usage
    from supervisor_app.gateway.plane.ports import Caller, ExchangeGateway
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.suspects import Suspicion
    from supervisor_app.gateway.servers.visit import Visit

UNROUTED = (Stage.HEAD, Stage.DOOR, Stage.OWN)
"""Stages in which nobody has asked where the request goes."""
CUT_SHORT = (
    Outcome.CLIENT_LEFT,
    Outcome.UPSTREAM_CRASHED,
    Outcome.UPSTREAM_ERROR,
    Outcome.CANCELLED,
)
"""Ends before the server could say what the answer cost."""


class Ending(LiveRequest):
    """A request that can end at any stage, in the way that is still open then.

    Its books are closed once, whatever ends it and however often. `Exchange` is its way to a server.
    """

    __slots__ = (
        "_caller",
        "_gateway",
        "_visit",
        "answer",
        "arrival",
        "body",
        "head",
        "id",
        "is_public",
        "notes",
        "policy",
        "stage",
        "started",
        "suspicion",
        "transit",
    )

    head: RequestHead

    def __init__(
        self,
        gateway: ExchangeGateway,
        caller: Caller,
        head: RequestHead,
        length: int | None,
        reply: Reply,
        request_id: str = "",
    ) -> None:
        """`request_id`: given if the request has one already."""
        self.head = head
        self.id = request_id or next(gateway.ids)
        reply.fields = id_fields(head.dialect, self.id)
        self.body = RequestBody(head, length)
        self.transit = Transit(gateway, caller, self.body)
        self.arrival: int = next(gateway.arrivals)
        self.suspicion: Suspicion | None = None
        self.policy: KeyPolicy | None = None
        self.started = gateway.loop.time()
        self.notes = Notes(gateway.wall_time())
        self.answer: Answer = Answer(head, reply, self.notes, gateway.door, gateway.loop)
        self.stage = Stage.HEAD
        """Changed by `_step` alone."""
        self.is_public = False
        """True: no key was asked for, so the server must not take the request for the gateway's own."""
        self._gateway = gateway
        self._caller = caller
        self._visit: Visit | None = None

    def _step(self, stage: Stage) -> None:
        # `step` would say the same of a legal one, for the price of a call.
        self.stage = stage if stage in FOLLOWS[self.stage] else step(self.stage, stage)

    @property
    def is_over(self) -> bool:
        return self.stage is Stage.OVER

    # With an answer

    def answer_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """Send the whole answer at once, when nothing was said before."""
        self._step(Stage.COMMIT)
        self.answer.pass_whole(head, length, content)
        self._answered((content,))

    def answered(self, tail: Iterable[bytes]) -> None:
        """End an answer that is whole. `tail`: its last pieces."""
        self.answer.finish()
        self._answered(tail)

    def gave_up(self, status: int, tail: Iterable[bytes]) -> None:
        """End a stream in good order whose last event is an error of its server, with this status."""
        self.answer.finish()
        self._survived()
        self.notes.error_status = status
        self._over(Outcome.UPSTREAM_ERROR, tail)

    def stopped(self, tail: Iterable[bytes]) -> None:
        """End a stream in good order that its client had ended by another request."""
        self.answer.finish()
        self._survived()
        self._over(Outcome.CLIENT_LEFT, tail)

    def stopped_before_it_began(self) -> None:
        """End a stream that still waits for a server as the server would: without events."""
        self.answer.begin_stream()
        self.answer.reply.finish()
        self._over(Outcome.CLIENT_LEFT)

    def _answered(self, tail: Iterable[bytes]) -> None:
        self._survived()
        self._over(self.answer.outcome, tail)

    def _survived(self) -> None:
        """Clear the request of suspicion: its server has answered, and lives."""
        if self._visit is not None and self.notes.replays:
            self._visit.survived()
        if self.suspicion is not None:
            self.suspicion.cleared = True
            self._gateway.inquest.suspects.acquit(self.body.hash())

    def answer_ourselves(self, status: int, fields: bytes, content: bytes) -> None:
        """Send an answer of the gateway's own, which is not recorded. `fields`: header lines."""
        self._send(status, status_line(status) + fields, content)
        self._over(Outcome.OK, recorded=False)

    def _send(self, status: int, beginning: bytes, content: bytes) -> None:
        """Send a whole answer of the gateway's own."""
        if not self.body.is_whole:
            self.answer.reply.keep_alive = False  # the rest of the body is not worth reading
        self.answer.reply.send(status, beginning, len(content), content)

    # Without, or with less than all of it

    def broken(self, problem: Problem, run_name: str, tail: Iterable[bytes]) -> None:
        """End an answer in the middle, so that the client sees that it is not whole."""
        self.notes.run_name = run_name
        self._break_off(problem)
        self._over(Outcome.UPSTREAM_CRASHED, tail)

    def foreign_answer(self, status: int, content: bytes) -> None:
        """Pass on an error of the server to a client that was told 200 while it waited."""
        self._survived()
        problem = problems.upstream_error(status, content)
        self.notes.error_status = problem.status
        self.refuse(problem, Outcome.UPSTREAM_ERROR)

    def refuse(self, problem: Problem, outcome: Outcome = Outcome.REFUSED) -> None:
        """End the request in the way that is still open: by an answer, by an event, or by breaking off."""
        if self.is_over:
            return
        if not self.answer.reply.started:
            self._send(problem.status, problem.beginning(self.answer.origin), problem.body(self.head.dialect))
        else:
            self._break_off(problem)
        self._over(outcome)

    def _break_off(self, problem: Problem) -> None:
        content = self._visit if self.stage is Stage.COMMIT else None
        self.answer.break_off(problem, self.body, content)

    def client_left(self) -> None:
        if not self.is_over:
            self._over(Outcome.CLIENT_LEFT)

    # Its books

    def _over(self, outcome: Outcome, tail: Iterable[bytes] = (), *, recorded: bool = True) -> None:
        before = self.stage
        self._step(Stage.OVER)
        if before is Stage.OVER:
            return
        self.notes.outcome = outcome
        self.notes.tail = tail
        self.notes.ended = self._gateway.loop.time()
        self.answer.stop_waiting()
        if self._visit is not None:
            if outcome in CUT_SHORT:
                self.notes.tokens = self._visit.tokens
            self._visit.leave()
            self._visit = None  # a cycle would wait for the garbage collector
        self.transit.close()
        if not recorded or before in UNROUTED:
            self.body.forget()  # no record needs its hints
        if self.notes.was_sent and self.head.operation.changes_models:
            self._gateway.outside.models_changed(self.notes.server)
        self._gateway.finished(self, recorded=recorded)
        self._caller.exchange_over()

    def record(self) -> Record:
        """Make the record of a request that is over; its body is read for that, and dropped."""
        record = self.notes.record(self)
        self.body.forget()
        return record

    def charged(self, usage: Usage) -> int:
        """Tokens that count for the API key."""
        return self.notes.charged(usage)
