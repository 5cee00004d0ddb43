"""A body that is too long to be kept in memory and does not begin with its model.

It is read on to its end, and kept on disk: then it is known where it goes, and goes there from the disk.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.http.reply import CHUNKED_END
from supervisor_app.gateway.llama.outline import OutlineError, outline_for
from supervisor_app.gateway.plane.spool import Spool
from supervisor_app.gateway.records.record import Outcome

if TYPE_CHECKING:
    from supervisor_app.gateway.plane.client import Client
    from supervisor_app.gateway.plane.exchange import Exchange
    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.servers.visit import Visit

log = logging.getLogger(__name__)


class ReadingOn:
    """`spool.Owner` for one exchange."""

    __slots__ = ("_client", "_exchange", "_gateway", "_goes_on", "_pours", "_spool")

    def __init__(self, exchange: Exchange, client: Client, gateway: Gateway) -> None:
        content_type = exchange.head.noted.get(b"content-type", b"")
        self._exchange = exchange
        self._client = client
        self._gateway = gateway
        self._spool = Spool(self, outline_for(content_type), gateway.disk)
        self._goes_on = asyncio.Event()
        """The server takes more."""
        self._pours: object = None
        """Which of several tries is at it."""

    def put(self, data: bytes) -> None:
        self._spool.put(data)
        self._gateway.spooled_bytes += len(data)
        if self._gateway.spooled_bytes > self._gateway.limits.all_spooled_bytes:
            self._refuse()

    async def end(self) -> bool:
        """All of it has come: now its hints are known. False: it is over instead."""
        exchange = self._exchange
        try:
            outline = await self._spool.outline()
        except OutlineError as error:
            exchange.refuse(problems.bad_request(f"The body cannot be read: {error}."))
            return False
        exchange.body.read_outline(outline)
        return not exchange.is_over

    async def pour(self, visit: Visit) -> None:
        """All of it, to the server that this visit has asked, until it asks once more."""
        exchange, at = self._exchange, 0
        self._pours = this = object()
        self._goes_on.set()
        try:
            while data := await self._spool.read(at):
                if self._pours is not this or exchange.is_over:
                    return
                at += len(data)
                visit.write(exchange.body.framed(data))
                await self._goes_on.wait()
        except OSError as error:
            self.on_no_room(error)
            return
        if self._pours is this and exchange.body.length is None and not exchange.is_over:
            visit.write(CHUNKED_END)

    def server_writable(self, writable: bool) -> None:
        if writable:
            self._goes_on.set()
        else:
            self._goes_on.clear()

    def close(self) -> None:
        self._gateway.spooled_bytes -= self._spool.size
        self._spool.close()
        self._goes_on.set()

    # spool.Owner

    def hold_back(self, held: bool) -> None:
        self._client.hold_back(held)

    def on_no_room(self, error: OSError) -> None:
        log.warning("⚠️ [GATEWAY] A long body is refused: %s", error)
        self._refuse()

    def _refuse(self) -> None:
        self._exchange.refuse(problems.no_room(), Outcome.UNAVAILABLE)
