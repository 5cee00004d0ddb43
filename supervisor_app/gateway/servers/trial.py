"""The trial of a request whose server was lost, from the loss to the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.ghosts import DepartedRequest
from supervisor_app.gateway.servers.losses import Accusation, Loss, judge
from supervisor_app.gateway.servers.suspects import Suspicion, Verdict

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.request import Request, VisitGateway

MAX_DROPS = 3
"""Connections lost by a server that runs on, after which the request is refused."""


class Trial:
    """Begins when a request loses its server for the first time during one visit."""

    __slots__ = ("_backend", "_drops", "_gateway", "_request", "loss")

    def __init__(self, request: Request, gateway: VisitGateway, backend: Backend) -> None:
        self._request = request
        self._gateway = gateway
        self._backend = backend
        self._drops = 0
        """Losses in a row by a server that, for all that is known, runs on."""
        self.loss: Loss | None = None
        """The last loss, until its cause is known."""

    def lost(self, asked: ServerFacts, reason: str) -> Loss:
        """Note a loss. `asked`: the server as it was when the request was sent."""
        self._drops += 1
        self.loss = loss = self._backend.losses.add(asked, reason)
        self._gateway.server_lost()
        return loss

    def refused(self) -> None:
        """The server takes no connection any more, so it did not live on after the losses before."""
        self._drops = 0

    def survived(self) -> None:
        """The server has answered: what it lost before was no death."""
        self.loss = None

    def verdict(self, loss: Loss, *, is_alone: bool) -> Verdict:
        """Decide whether the request is sent again; if not, it has been refused. `is_alone`: it is now."""
        request, backend = self._request, self._backend
        if loss.pid == backend.facts.pid:
            # Perhaps its supervisor has not seen it yet: then the next try is refused, and we hear more.
            if self._drops <= MAX_DROPS:
                return Verdict.ALONE if is_alone else Verdict.AGAIN
            self.loss = None  # the server runs on: no request has killed it
            refuse_as_crashed(request, backend, loss.reason, survived=True)
            return Verdict.ENOUGH
        self.loss, self._drops = None, 0
        request.suspicion = request.suspicion or Suspicion()
        self._gateway.inquest.blame_key(backend, backend.facts, loss)
        verdict, reason = judge(backend.facts, request.suspicion, loss)
        body = request.body
        if verdict is Verdict.QUARANTINE:
            sentence = loss.run_name, reason
            problem = self._gateway.inquest.quarantine(
                backend, body.hash(), body.key, request.suspicion, sentence
            )
            request.refuse(problem, Outcome.QUARANTINED)
        elif verdict is Verdict.ENOUGH:
            self._gateway.inquest.suspect(body.hash(), request.suspicion)
            refuse_as_crashed(request, backend, reason)
        return verdict

    def may_adjourn(self, *, must: bool) -> bool:
        """May the request go to another server before the verdict? `must`: it cannot stay at this one.

        Not while it may turn out that it has to go alone there. The accusation stays behind.
        """
        before = self._request.suspicion
        if before is not None and before.crashes + before.pending and not must:
            return False
        self.accuse()
        self.loss = None
        return True

    def accuse(self) -> None:
        """Leave a loss without a verdict to the inquest: the request may end before its cause is known."""
        if self.loss is None:
            return
        request = self._request
        request.suspicion = suspicion = request.suspicion or Suspicion()
        suspicion.pending += 1
        body, now = request.body, self._gateway.loop.time()
        self._backend.losses.accusations.append(Accusation(body.hash(), body.key, suspicion, self.loss, now))


def ghost_of(request: Request, pid: int | None, now: float, *, blocks: bool) -> DepartedRequest:
    """The trace of a request that ends while this process works on it: the server may still die of it."""
    request.suspicion = suspicion = request.suspicion or Suspicion()
    return DepartedRequest(
        body_hash=request.body.hash(),
        key=request.body.key,
        suspicion=suspicion,
        pid=pid,
        left_at=now,
        blocks=blocks,
    )


def refuse_as_crashed(
    request: Request, backend: Backend, reason: str, *, survived: bool = False, done_perhaps: bool = False
) -> None:
    """End a request that is not sent again after its server was lost. See `problems.upstream_crashed`."""
    problem = problems.upstream_crashed(
        backend.facts, reason, run_name=request.run_name, survived=survived, done_perhaps=done_perhaps
    )
    request.refuse(problem, Outcome.UPSTREAM_CRASHED)
