"""Protocols of what a visit may use: the request that makes it, and the gateway that both are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway.servers.errand import Outlet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.hints import Hints
    from supervisor_app.gateway.llama.unstream import Assembler
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.records.record import Outcome
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.hold import Hold
    from supervisor_app.gateway.servers.losses import Loss
    from supervisor_app.gateway.servers.suspects import Suspicion
    from supervisor_app.gateway.servers.visitors import Insider


class Body(Protocol):
    """The body of a request, as far as it has come."""

    key: int | None
    """Id of the API key that the request comes with."""

    @property
    def hints(self) -> Hints: ...

    @property
    def can_be_sent(self) -> bool:
        """All of the body is here, or none of it has gone yet."""

    def as_stream(self) -> tuple[bytes, Assembler] | None:
        """A body that asks for the same as a stream; None: the request goes as it is."""

    def hash(self) -> str:
        """Hash by which the same request is known again."""


class Answer(Outlet, Protocol):
    """The client's answer, and what the client sees of the wait for it."""

    @property
    def waits(self) -> bool: ...

    def wait(self) -> Hold:
        """The hold of this request, made at the first wait."""

    def renew_wait(self) -> None:
        """The next wait is a new one, if there was one before."""

    def begin_stream(self) -> None:
        """Begin a stream without events, unless the answer has begun."""


class Request(Protocol):
    """A request that looks for its answer: implemented by the exchange."""

    arrival: int
    """Grows with each request."""
    started: float
    """Loop time at which the head had come."""
    is_public: bool
    """The request came without a key: it goes to the server without one, and waits for nothing."""
    suspicion: Suspicion | None

    @property
    def head(self) -> RequestHead: ...

    @property
    def body(self) -> Body: ...

    @property
    def answer(self) -> Answer: ...

    @property
    def owner(self) -> int:
        """Owner of the request, where owners take turns."""

    @property
    def is_sent_once(self) -> bool:
        """True: once a server has the request, it cannot be sent again."""

    @property
    def run_name(self) -> str:
        """Name of the run that was lost last; empty: none was."""

    # Where it goes

    def candidates_now(self) -> Sequence[Backend] | Problem:
        """The servers that may answer the request, by what is known now; a problem: there is none."""

    def find_suspicion(self) -> Problem | None:
        """Find what this request was in before, when it was sent by another client, or by this one."""

    def go_to_one_of(self, candidates: Sequence[Backend]) -> None:
        """Make a visit to the best of them, in place of this one."""

    # Its bytes

    def isolate(self, facts: ServerFacts) -> Problem | None:
        """Keep the prompt out of this server's cache where that is wanted; a problem: it cannot be done."""

    def request_for(self, authority: bytes, api_key: str, instead: bytes | None) -> tuple[bytes, bytes, bool]:
        """See `Errand`."""

    def server_writable(self, writable: bool) -> None:
        """See `Errand`."""

    # How far it is

    def set_out(self) -> None:
        """The request goes to the server now."""

    def come_back(self) -> None:
        """Go back to the gate: no server has taken the request, which waits for its turn again."""

    def lose(self, run_name: str) -> None:
        """The server was lost before there was content of its answer."""

    def commit(self, head: ResponseHead, length: int | None, beginning: bytes = b"") -> bool:
        """See `Errand`."""

    # How it ends

    def answer_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """The whole answer came in one piece, and nothing was said before."""

    def answered(self, tail: Iterable[bytes]) -> None:
        """The answer is whole. `tail`: its last pieces."""

    def gave_up(self, status: int, tail: Iterable[bytes]) -> None:
        """The stream is whole, but ends with an error of its server. `status`: of that error."""

    def stopped(self, tail: Iterable[bytes]) -> None:
        """The client had its stream ended by another request."""

    def foreign_answer(self, status: int, content: bytes) -> None:
        """The server's answer is not the stream that the client has been told of."""

    def broken(self, problem: Problem, run_name: str, tail: Iterable[bytes]) -> None:
        """The answer ends in the middle, and its client must see that."""

    def refuse(self, problem: Problem, outcome: Outcome = ...) -> None:
        """End the request in the way that is still open."""


class Court(Protocol):
    """The judge of losses of servers."""

    def blame_key(self, backend: Backend, facts: ServerFacts, loss: Loss) -> None:
        """Count a crash against the API key whose requests alone were in flight."""

    def quarantine(
        self,
        backend: Backend,
        body_hash: str,
        key: int | None,
        suspicion: Suspicion,
        verdict: tuple[str, str],
    ) -> Problem:
        """Refuse this request for a while. `verdict`: the name of the run, and why it ended."""

    def suspect(self, body_hash: str, suspicion: Suspicion) -> None:
        """Remember what was thought of a request that is over."""


class VisitGateway(Protocol):
    """The gateway, as a visit may use it."""

    loop: asyncio.AbstractEventLoop
    limits: Limits

    @property
    def inquest(self) -> Court: ...

    def wall_time(self) -> float:
        """Unix seconds."""

    def server_lost(self) -> None:
        """A request has lost its server, and waits to learn why."""

    def leave_gate(self, backend: Backend, visitor: Insider) -> None:
        """The visit is over: others may have its place."""
