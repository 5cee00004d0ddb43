"""A request in flight, whichever way it takes: what its client's connection and the gateway see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.usage import Usage
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.records.in_flight import InFlight
    from supervisor_app.gateway.records.record import Outcome, Record


class LiveRequest(Protocol):
    """Implemented by `Exchange`, and by `FastExchange` until it becomes one."""

    __slots__ = ()

    id: str
    """The name in the client's `X-Request-Id`."""
    policy: KeyPolicy | None
    """Policy of the key that the request came with."""
    arrival: int
    """Grows with each request."""

    @property
    def head(self) -> RequestHead: ...

    # From its client

    def on_body(self, data: bytes) -> None:
        """Take more of the body."""

    def on_body_end(self) -> None:
        """The whole body has come."""

    def client_writable(self, writable: bool) -> None:
        """The client takes more of the answer, or no more for now."""

    def client_left(self) -> None:
        """The connection is gone."""

    # The answer

    @property
    def has_begun(self) -> bool:
        """The client has got something: a head, a comment or content."""

    @property
    def keep_alive(self) -> bool:
        """True: another request may follow on the connection."""

    def show_life(self) -> bool:
        """Write a comment into a stream, unless that would fall into the middle of an event.

        False: the client has got nothing yet, so there is no stream to write to.
        """

    def refuse(self, problem: Problem, outcome: Outcome = ...) -> None:
        """End the request in the way that is still open."""

    # In the gateway

    def waits_for_stream_of(self, conversation: str, policy: KeyPolicy | None) -> bool:
        """The request waits for a server, for the stream of this conversation of this key."""

    def stopped_before_it_began(self) -> None:
        """End a stream that `waits_for_stream_of` found: it has no events."""

    @property
    def is_large(self) -> bool:
        """Tell whether reading the body takes so long that others have a turn before and after."""

    def in_flight(self) -> InFlight | None:
        """The request as people see it now; None: the gateway makes the answer itself."""

    def record(self) -> Record:
        """Make the record of a request that is over."""

    def charged(self, usage: Usage) -> int:
        """Tokens that count for the key."""
