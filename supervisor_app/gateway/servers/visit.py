"""A request at one server: the wait at the gate, the attempts, and the return to the gate after a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.problem import Problem
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers import refusals
from supervisor_app.gateway.servers.assembly import Assembly
from supervisor_app.gateway.servers.attempt import Attempt
from supervisor_app.gateway.servers.suspects import Verdict
from supervisor_app.gateway.servers.trial import Trial, ghost_of, refuse_as_crashed
from supervisor_app.gateway.servers.turns import NEWCOMER
from supervisor_app.gateway.servers.waiting import Waiting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.errand import Outlet
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.losses import Loss
    from supervisor_app.gateway.servers.request import Request, VisitGateway
    from supervisor_app.gateway.servers.upstream import Connection

ALONE_SECONDS = 10.0
"""Time for which a suspect waits also for requests without a slot, and for those whose clients have left."""


class Visit(Waiting):
    """`visitors.Visitor` and `errand.Errand`.

    One request may make several, when the server it waits for becomes hopeless.
    """

    __slots__ = (
        "_asked",
        "_patience",
        "_plainly",
        "_trial",
        "arrival",
        "counts_as_use",
        "insists",
        "needs_slot",
        "outlet",
        "solo",
        "turn",
        "wakes",
    )

    def __init__(self, request: Request, gateway: VisitGateway, backend: Backend) -> None:
        self._request = request
        self.backend = backend
        self.head = request.head
        self.outlet: Outlet = request.answer
        self.arrival = request.arrival
        self.solo = request.suspicion is not None and request.suspicion.goes_alone
        self.needs_slot = self.head.operation.needs_slot
        self.wakes = self.head.operation.wakes
        self.counts_as_use = self.head.operation.counts_as_use
        self._gateway = gateway
        self._attempt: Attempt | None = None
        self._asked = backend.facts
        """The server as it was when the request was sent."""
        self._trial: Trial | None = None
        """Trial of the request; None: no server was lost during this visit."""
        self._plainly = False
        self.insists = False
        self.turn = NEWCOMER
        self._patience: asyncio.TimerHandle | None = None

    @property
    def _is_hopeless(self) -> bool:
        return self.backend.facts.is_hopeless_for(wakes=self.wakes)

    # At the gate

    @property
    def model(self) -> str:
        return self._request.body.hints.model or ""

    @property
    def key(self) -> int | None:
        return self._request.body.key

    @property
    def owner(self) -> int:
        return self._request.owner

    @property
    def since(self) -> float:
        return self._request.started

    def enter(self) -> None:
        """Go to the server, or into its queue. Raises QueueFullError."""
        if self.backend.gate.enter(self):
            self._go()
        else:
            self._wait()
            self._expect_to_be_alone()

    def admitted(self) -> None:
        trial, loss = self._trial, None if self._trial is None else self._trial.loss
        if not (self._may_go_now() if trial is None or loss is None else self._may_go_again(trial, loss)):
            return
        if self.solo and not self.backend.gate.is_alone(self):
            self.backend.gate.return_to_queue(self)
            self._expect_to_be_alone()
        else:
            if (load := self.backend.facts.load) is not None:
                self._request.answer.wait().waited_for(load, self._gateway.wall_time())
            self._go()

    def _expect_to_be_alone(self) -> None:
        if self.solo and self._patience is None:
            self._patience = self._gateway.loop.call_later(ALONE_SECONDS, self._insist)

    def _insist(self) -> None:
        self.insists = True
        self.backend.gate.let_in()

    def leave(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._attempt is not None:
            if self._attempt.is_sent:
                pid, now = self._asked.pid, self._gateway.loop.time()
                self.backend.gate.haunt(self, ghost_of(self._request, pid, now, blocks=self.solo))
            self._attempt.cancel()
            self._attempt = None
        if self._trial is not None:
            self._trial.accuse()
        self._gateway.leave_gate(self.backend, self)

    def server_changed(self) -> None:
        """Give up or move, if this server has become hopeless or is gone, or another one could answer now."""
        request, here = self._request, self.backend
        if not request.answer.waits:
            return
        candidates = request.candidates_now()
        if isinstance(candidates, Problem):
            # No other server will do; this one still does, as it did when the request came.
            if here.is_gone:
                request.refuse(candidates)
            elif self._is_hopeless:
                request.refuse(refusals.hopeless(here, self._gateway.wall_time()), Outcome.UNAVAILABLE)
            return
        must = here not in candidates or self._is_hopeless
        better = [other for other in candidates if other is not here and other.gate.has_room_for(self)]
        if not better and not here.gate.is_open:
            better = [other for other in candidates if other.gate.is_open]
        if (must or better) and self._may_leave(must=must):
            self._move(better or candidates)

    def _move(self, candidates: Sequence[Backend]) -> None:
        """Move to another server, where the wait begins anew."""
        request = self._request
        self.backend.gate.leave(self)
        request.answer.wait().start_over()
        request.answer.wait().stop_comments()
        if (problem := request.find_suspicion()) is not None:
            request.refuse(problem, Outcome.QUARANTINED)
        else:
            request.go_to_one_of(candidates)

    # Inside

    @property
    def streams(self) -> bool:
        return self._attempt is not None and self._attempt.streams

    @property
    def tokens(self) -> int | None:
        return None if self._attempt is None else self._attempt.tokens

    @property
    def server_lives(self) -> bool:
        return self.backend.facts.spares(self._asked.pid)

    @property
    def tail(self) -> Iterable[bytes]:
        return () if self._attempt is None else self._attempt.tail

    @property
    def is_between_events(self) -> bool:
        return self._attempt is not None and self._attempt.is_between_events

    @property
    def takes_body(self) -> bool:
        return self._attempt is not None and self._attempt.is_sent

    def write(self, data: bytes) -> None:
        """Send more of the request's body."""
        if self._attempt is not None:
            self._attempt.write(data)

    def pause_reading(self, paused: bool) -> None:
        if self._attempt is not None:
            self._attempt.pause_reading(paused)

    def _go(self) -> None:
        request = self._request
        if (problem := request.isolate(self.backend.facts)) is not None:
            request.refuse(problem)
            return
        self._asked = self.backend.facts
        request.set_out()
        streams = request.body.hints.stream
        if self._expects_stream:
            self._comment_from_now_on()
        as_it_is = streams or self._plainly or self.backend.is_verbose
        as_stream = None if as_it_is else request.body.as_stream()
        self._attempt = Attempt(self) if as_stream is None else Assembly(self, *as_stream)
        # The connection of a stream is not kept anyway; what is sent once must not meet a stale one.
        self._attempt.start(fresh=request.is_sent_once or streams or as_stream is not None)

    def go_on(self, asked: ServerFacts, connection: Connection) -> Attempt:
        """Take over a request that was sent over this connection, to the server as it was then (`asked`)."""
        self._asked = asked
        self._attempt = attempt = Attempt(self)
        attempt.go_on(connection)
        return attempt

    def request_for(self, authority: bytes, instead: bytes | None) -> tuple[bytes, bytes, bool]:
        key = "" if self._request.is_public else self.backend.facts.api_key
        return self._request.request_for(authority, key, instead)

    def server_writable(self, writable: bool) -> None:
        self._request.server_writable(writable)

    def commit(self, head: ResponseHead, length: int | None, beginning: bytes = b"") -> bool:
        return self._request.commit(head, length, beginning)

    def ask_plainly(self) -> None:
        self._plainly = True
        self._go()

    def server_ended(self) -> None:
        """Leave a process that its supervisor has ended or is about to end."""
        facts = self.backend.facts
        if self._attempt is not None and not facts.spares(self._asked.pid):
            self._attempt.server_ended(facts.detail)

    # How the attempt went

    def survived(self) -> None:
        """Note that the server has answered: no loss before was a death."""
        if self._trial is not None:
            self._trial.survived()

    def answered_at_once(self, head: ResponseHead, length: int, content: bytes) -> None:
        self._request.answer_whole(head, length, content)

    def answered(self) -> None:
        self._request.answered(self.tail)

    def gave_up(self, status: int) -> None:
        self._request.gave_up(status, self.tail)

    def stopped(self) -> None:
        self._request.stopped(self.tail)

    def foreign_answer(self, status: int, content: bytes) -> None:
        self._request.foreign_answer(status, content)

    def mistaken(self) -> None:
        self._request.refuse(problems.mistake(), Outcome.UNAVAILABLE)

    def not_ready(self) -> None:
        """Wait until its supervisor says that the model is loaded."""
        self._request.come_back()
        self._back_to_gate("it was loading its model")

    def refused(self, reason: str) -> None:
        """Wait until its supervisor says that the server is back."""
        if self._trial is not None:
            self._trial.refused()
        self._request.come_back()
        self._back_to_gate(reason)

    def lost(self, reason: str) -> None:
        self._request.lose(self._put_on_trial(reason).run_name)
        if not self.head.operation.pure:
            self._attempt = None
            self.backend.doubt()
            refuse_as_crashed(self._request, self.backend, reason, done_perhaps=True)
            return
        self._request.answer.renew_wait()
        self._back_to_gate(reason)

    def broken(self, reason: str) -> None:
        backend, loss = self.backend, self._put_on_trial(reason)
        backend.doubt()
        problem = problems.upstream_crashed(backend.facts, reason, run_name=loss.run_name, tokens=self.tokens)
        self._request.broken(problem, loss.run_name, self.tail)

    def _put_on_trial(self, reason: str) -> Loss:
        """Put the request on trial for the loss of its server."""
        if self._trial is None:
            self._trial = Trial(self._request, self._gateway, self.backend)
        return self._trial.lost(self._asked, reason)

    def _back_to_gate(self, reason: str) -> None:
        self._attempt = None
        self.backend.doubt()
        if not self._request.body.can_be_sent:
            refuse_as_crashed(self._request, self.backend, reason)
            return
        self.backend.gate.return_to_queue(self)
        self._wait()
        if self._is_hopeless or self.backend.is_gone:
            self.server_changed()

    def _may_go_now(self) -> bool:
        """Check once more what is known of the request, which may have become more while it waited."""
        request = self._request
        problem = request.find_suspicion()
        if problem is not None:
            request.refuse(problem, Outcome.QUARANTINED)
        self.solo = request.suspicion is not None and request.suspicion.goes_alone
        return problem is None

    def _may_go_again(self, trial: Trial, loss: Loss) -> bool:
        verdict = trial.verdict(loss, is_alone=self.solo)
        self.solo = verdict is Verdict.ALONE
        return verdict in (Verdict.AGAIN, Verdict.ALONE)

    def _may_leave(self, *, must: bool) -> bool:
        """May the request go to another server? After a loss, once its cause is known or does not matter."""
        trial = self._trial
        if trial is None or trial.loss is None:
            return True
        if trial.loss.pid in self.backend.facts.ends:
            return self._may_go_again(trial, trial.loss)
        return trial.may_adjourn(must=must)
