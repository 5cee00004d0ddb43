"""Requests as the gate of a server sees them: waiting, inside, or abandoned by their clients."""

from __future__ import annotations

from typing import Protocol


class Insider(Protocol):
    """A request that was let in, or may be."""

    solo: bool
    """The request is under suspicion: it goes in only while no other is inside."""
    needs_slot: bool
    """The request takes a slot of the server. A visitor without need of a slot waits only while the gate is
    closed, or while a suspect is inside or about to be."""
    insists: bool
    """The suspect has waited long enough for requests that need no slot: it goes in although they are inside,
    and then the death of the server does not prove it guilty."""

    @property
    def counts_as_use(self) -> bool:
        """A server that works on this request is not idle."""

    @property
    def since(self) -> float:
        """Time of arrival, in monotonic seconds, which are the same in all processes."""

    turn: int
    """Set by the gate: see `turns`."""

    @property
    def key(self) -> int | None:
        """Id of the API key that the request came with."""

    @property
    def model(self) -> str:
        """Name of the model, as the client wrote it; may be empty."""

    def server_ended(self) -> None:
        """Called while the request is inside: the server will not answer any more."""


class Visitor(Insider, Protocol):
    """A request at the gate that waits if it has to."""

    wakes: bool
    """A server that is stopped as idle is started for this request."""
    arrival: int
    """Number that grows with each request: of one owner the first to come goes first, also after a crash."""

    @property
    def owner(self) -> int:
        """Owner of the request: owners take turns."""

    def admitted(self) -> None:
        """Called when the turn of the request has come: it is inside."""

    def displaced(self) -> None:
        """Called when the queue is full and the owner has the most requests in it: the request is out."""

    def server_changed(self) -> None:
        """Called while the request waits: there is news of the server."""


class Ghost(Protocol):
    """A request whose client has left: the server may still work on it, and die of it."""

    blocks: bool
    """The request has to be alone: no other is let in."""
