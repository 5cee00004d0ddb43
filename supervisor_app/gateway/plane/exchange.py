"""A request, from its head to its record: each step on the way, and each kind of end.

transit ─▶ dispatch ─▶ visit (gate ─▶ attempt) ─▶ answer
(its body)              ▲ hold ◀─── │ the server died before content
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import MISTAKE
from supervisor_app.gateway import problems
from supervisor_app.gateway.access.crowd import owner_of
from supervisor_app.gateway.http.reply import CHUNKED_END
from supervisor_app.gateway.plane.dispatch import candidates_now, dispatch, find_suspicion, go_to_one_of
from supervisor_app.gateway.plane.ending import Ending
from supervisor_app.gateway.plane.sight import in_flight
from supervisor_app.gateway.plane.stages import Stage
from supervisor_app.gateway.plane.transit import LARGE
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.visit import Visit

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.plane.ports import Sent
    from supervisor_app.gateway.plane.reading_on import ReadingOn
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.records.in_flight import InFlight
    from supervisor_app.gateway.servers.attempt import Attempt
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.upstream import Connection

log = logging.getLogger(__name__)

NOTHING = b":\n\n"


class Exchange(Ending):
    """Owned by the client's connection, which feeds it and is told when it is over.

    `LiveRequest` for the connection, `Request` for its visit, `Routed` for dispatch.
    """

    __slots__ = ()

    # Its stage

    @property
    def _takes_no_body(self) -> bool:
        """Is the rest of the body of no use to anybody?"""
        return self.stage is Stage.OVER or self.stage is Stage.OWN

    def answer_takes_time(self) -> None:
        """The gateway makes the answer itself, but not at once."""
        self._step(Stage.OWN)

    def set_out(self) -> None:
        """Go to a server: for the first time, or once more after a loss."""
        if self.answer.hold is not None:
            self.answer.hold.end()
        if self.stage is Stage.LOST:
            self.notes.replays += 1
        self._step(Stage.ATTEMPT)

    def come_back(self) -> None:
        """Go back to the gate: no server has taken the request, which waits for its turn again."""
        self._step(Stage.GATE)

    def lose(self, run_name: str) -> None:
        """The server was lost before there was content of its answer."""
        self.notes.run_name = run_name
        self._step(Stage.LOST)

    # The request comes

    def on_body(self, data: bytes) -> None:
        if self._takes_no_body:
            return
        if (problem := self.transit.problem_of(data)) is not None:
            self.refuse(problem)
        elif self.transit.take(data, self._visit):
            if self._gateway.must_read_on(self.policy, self.head, self.body):
                self.transit.read_on(self)
            else:
                self._route()

    def go_on_from(self, sent: Sent, body: bytes, connection: Connection) -> tuple[Visit, Attempt]:
        """Take over a request that was sent over this connection; nothing has come back yet."""
        self.arrival, self.started, self.notes.at = sent.arrival, sent.since, sent.at
        self.let_in(sent.policy)
        self.transit.take_whole(body)
        self.notes.was_sent = True
        self._step(Stage.ATTEMPT)
        self.notes.server = sent.asked.name
        self._visit = visit = Visit(self, self._gateway, sent.backend)
        return visit, visit.go_on(sent.asked, connection)

    def let_in(self, policy: KeyPolicy | None) -> None:
        """Let the request in: its body may come. `policy`: of its API key; None: it has none."""
        self._step(Stage.DOOR)
        if policy is None:
            return
        self.policy = policy
        if self.head.names_conversation:
            self.head = self.head.of_key(policy.id)
        self.body.key = policy.id

    def on_body_end(self) -> None:
        self.body.is_whole = True
        if self._takes_no_body:
            return
        reading_on = self.transit.reading_on
        if not self.body.overflows:
            if self.is_large:
                self._gateway.large_work.put(self._route)
            else:
                self._route()
        elif reading_on is not None:
            self.do(self._route_when_read(reading_on))
        elif self._visit is not None and self.body.length is None:
            self._visit.write(CHUNKED_END)

    async def _route_when_read(self, reading_on: ReadingOn) -> None:
        if await reading_on.end():
            self._route()

    def _route(self) -> None:
        if not self.is_over:  # the client may have left while others had their turn
            self._step(Stage.ROUTE)
            dispatch(self._gateway, self)

    def request_for(
        self, authority: bytes, api_key: str, instead: bytes | None = None
    ) -> tuple[bytes, bytes, bool]:
        """See `Errand`."""
        self.notes.was_sent = True
        body, length = self.transit.for_server(instead)
        if self.transit.reading_on is not None and self._visit is not None:
            self.do(self.transit.reading_on.pour(self._visit))
        is_all = self.body.is_whole and not self.body.was_read_on
        return self.head.for_server(authority, api_key, length), body, is_all

    def visit(self, backend: Backend) -> Visit:
        """Wait at this server, in place of one where it was before."""
        if self.stage is not Stage.LOST:  # LOST lasts until the request is sent again, here or there
            self._step(Stage.GATE)
        self._visit = visit = Visit(self, self._gateway, backend)
        return visit

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes time before the answer. `work` checks whether the request is over by then."""
        self._gateway.track_task(asyncio.ensure_future(self._unless_mistaken(work)))

    async def _unless_mistaken(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # any mistake: nobody else would answer the client, who would wait for ever
            log.exception("❌ [GATEWAY] A request is lost. %s.", MISTAKE)
            self.refuse(problems.mistake(), Outcome.UNAVAILABLE)

    # For its visit

    def candidates_now(self) -> Sequence[Backend] | Problem:
        return candidates_now(self._gateway, self)

    def find_suspicion(self) -> Problem | None:
        return find_suspicion(self._gateway, self)

    def go_to_one_of(self, candidates: Sequence[Backend]) -> None:
        go_to_one_of(self._gateway, self, candidates)

    def isolate(self, facts: ServerFacts) -> Problem | None:
        return self.transit.isolate(self.head, facts)

    def server_writable(self, writable: bool) -> None:
        self.transit.server_writable(writable)

    @property
    def run_name(self) -> str:
        return self.notes.run_name

    @property
    def owner(self) -> int:
        """Number of the client or key whose request this is, where those have equal shares."""
        return owner_of(self.body.key, self._caller.address)

    def has_too_many(self, policy: KeyPolicy | None) -> bool:
        """Does the owner of the request have all the connections that one may have?"""
        owner = owner_of(policy.id if policy is not None else None, self._caller.address)
        return not self._caller.may_connect_as(owner)

    @property
    def keep_alive(self) -> bool:
        return self.answer.reply.keep_alive

    @property
    def has_begun(self) -> bool:
        return self.answer.reply.started

    @property
    def is_sent_once(self) -> bool:
        """Is this a request that cannot be sent again, once a server has it?"""
        return self.body.overflows or not self.head.operation.pure

    # The answer

    def commit(self, head: ResponseHead, length: int | None, beginning: bytes = b"") -> bool:
        """Begin the answer, whose content begins so. False: the client has been told of another one."""
        if not self.answer.begin(head, length):
            return False
        self._step(Stage.COMMIT)
        self.notes.beginning = beginning
        return True

    def client_writable(self, writable: bool) -> None:
        if self._visit is not None:
            self._visit.pause_reading(not writable)

    def waits_for_stream_of(self, conversation: str, policy: KeyPolicy | None) -> bool:
        asked_by = self.policy.id if self.policy else None
        return (
            self.head.text(b"x-conversation-id") == conversation
            and asked_by == (policy.id if policy else None)
            and self.body.hints.stream
            and self.answer.waits
        )

    def show_life(self) -> bool:
        """See `LiveRequest`. No reader of events sees a comment that stands between two of them."""
        if not self.has_begun:
            return False
        waits = self.stage is not Stage.COMMIT and self.answer.waits
        if waits or (self._visit is not None and self._visit.is_between_events):
            self.answer.reply.write(NOTHING)
        return True

    @property
    def is_large(self) -> bool:
        """Does reading the body take so long that others have a turn before and after?"""
        return self.body.size > LARGE

    @property
    def client_address(self) -> str:
        return self._caller.address

    def in_flight(self) -> InFlight | None:
        """See `LiveRequest`."""
        return in_flight(self, self._visit)
