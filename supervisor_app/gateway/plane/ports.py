"""Protocols of what an exchange may use: its client, the gateway, the fast path that it may come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway.plane.dispatch import Directory
from supervisor_app.gateway.plane.reading_on import BodySource
from supervisor_app.gateway.plane.transit import BodyStore
from supervisor_app.gateway.servers.request import VisitGateway

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from supervisor_app.gateway.access.door import Door
    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.plane.inquest import Inquest
    from supervisor_app.gateway.plane.live import LiveRequest
    from supervisor_app.gateway.plane.work_queue import WorkQueue
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts


class Caller(BodySource, Protocol):
    """The client's connection."""

    address: str
    """Address of the other side, as connections are counted."""

    def may_connect_as(self, owner: int) -> bool:
        """Count the connection as this owner's. False: the owner has all that one may have."""

    def exchange_over(self) -> None:
        """The answer is written, or never will be."""


class ExchangeGateway(VisitGateway, BodyStore, Directory, Protocol):
    """The gateway, as an exchange may use it besides its parts."""

    door: Door
    inquest: Inquest
    large_work: WorkQueue
    ids: Iterator[str]
    arrivals: Iterator[int]

    def must_read_on(self, policy: KeyPolicy | None, head: RequestHead, body: RequestBody) -> bool:
        """Must all of a body that is too long to be kept be read before its server is known?"""

    def track_task(self, work: asyncio.Task[None]) -> None:
        """Keep a task alive until it is done."""

    def finished(self, exchange: LiveRequest, *, recorded: bool) -> None:
        """The request is over: its record can be made."""


class Sent(Protocol):
    """A request that has been sent already, by the fast path."""

    arrival: int
    since: float
    """Loop time of arrival."""
    at: float
    """Unix seconds of arrival."""
    policy: KeyPolicy | None
    backend: Backend
    asked: ServerFacts
    """The server as it was when the request was sent."""
