"""The wait of a request at a server, as its client sees it: until when, and with which signs of life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers import refusals

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.servers.attempt import Attempt
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.request import Request, VisitGateway

PATIENCE_SECONDS = 1.0
"""Minimum interval between two checks, while queued, that the server is still serving."""


class Waiting:
    """A request that may have to wait, for its turn or for content. `Visit` says when."""

    __slots__ = ("_attempt", "_gateway", "_request", "backend", "head")

    _attempt: Attempt | None
    _gateway: VisitGateway
    _request: Request
    backend: Backend
    head: RequestHead

    def _wait(self) -> None:
        # HEAD asks whether a server is there, which can be answered now.
        if self._request.head.method == "HEAD" or self._request.is_public:
            now, to_strangers = self._gateway.wall_time(), self._request.is_public
            problem = refusals.not_ready(self.backend, now, to_strangers=to_strangers)
            self._request.refuse(problem, Outcome.UNAVAILABLE)
            return
        self._request.answer.wait().begin(self.backend.facts.hold_seconds, self._too_late)
        if self._expects_stream:
            self._comment_from_now_on()
        else:
            self._request.answer.wait().stop_comments()

    def _too_late(self) -> None:
        if self.backend.gate.is_open:  # others come before, and the turn will come
            self._request.answer.wait().start_over()
            self._request.answer.wait().begin(
                max(self.backend.facts.hold_seconds, PATIENCE_SECONDS), self._too_late
            )
            return
        problem = refusals.hold_timeout(self.backend, self._gateway.wall_time())
        self._request.refuse(problem, Outcome.UNAVAILABLE)

    def stream_begins(self) -> None:
        """Show the client the head of its stream: at once or, while a replay is possible, after a while."""
        if self._attempt is not None and (self.head.method != "POST" or self._request.is_sent_once):
            self._attempt.flush()
        else:
            self._comment_from_now_on()

    @property
    def _expects_stream(self) -> bool:
        request = self._request
        asks = request.body.hints.stream and request.head.operation.events is not None
        return asks or request.answer.reply.started

    def _comment_from_now_on(self) -> None:
        every = self._gateway.limits.comment_seconds
        first = max(0.0, self._request.started + every - self._gateway.loop.time())
        self._request.answer.wait().comment_every(every, first, self._comment)

    def _comment(self) -> None:
        """Send headers and a sign of life to a client that has waited for long."""
        if self._attempt is not None:
            self._attempt.flush()
            return
        answer = self._request.answer
        answer.begin_stream()
        detail = " ".join(self.backend.facts.detail.split())
        answer.reply.write(f": waiting for {self.backend.facts.name}: {detail}\n\n".encode())

    def displaced(self) -> None:
        problem = refusals.queue_full(self.backend, self._gateway.wall_time())
        self._request.refuse(problem, Outcome.UNAVAILABLE)
