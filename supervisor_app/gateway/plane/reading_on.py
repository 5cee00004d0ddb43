"""A body that is too long to be kept in memory and does not begin with its model.

The body is read on to its end, and kept on disk: then it is known where the request goes, and the body goes
there from the disk.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from supervisor_app.gateway import problems
from supervisor_app.gateway.http.reply import CHUNKED_END
from supervisor_app.gateway.llama.outline import OutlineError, outline_for
from supervisor_app.gateway.plane.spool import Spool
from supervisor_app.gateway.records.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Executor

    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.problem import Problem

log = logging.getLogger(__name__)


class BodySource(Protocol):
    """The source of a body: the client's connection."""

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on reading."""


class Sink(Protocol):
    """The goal of a body: a visit to a server."""

    def write(self, data: bytes) -> None: ...


class Disk(Protocol):
    """The disk that all long bodies of a gateway share."""

    limits: Limits
    spooled_bytes: int
    disk: Executor


class Reader(Protocol):
    """The request whose body is read on."""

    @property
    def body(self) -> RequestBody: ...

    @property
    def is_over(self) -> bool: ...

    def refuse(self, problem: Problem, outcome: Outcome = ...) -> None: ...


class ReadingOn:
    """`spool.Owner` for one request."""

    __slots__ = ("_disk", "_goes_on", "_pours", "_request", "_source", "_spool")

    def __init__(self, request: Reader, source: BodySource, disk: Disk) -> None:
        self._request = request
        self._source = source
        self._disk = disk
        self._spool = Spool(self, outline_for(request.body.content_type), disk.disk)
        self._goes_on = asyncio.Event()
        """The server takes more."""
        self._pours: object = None
        """Stands for the attempt that reads now."""

    def put(self, data: bytes) -> None:
        self._spool.put(data)
        self._disk.spooled_bytes += len(data)
        if self._disk.spooled_bytes > self._disk.limits.all_spooled_bytes:
            self._refuse()

    async def end(self) -> bool:
        """Learn the hints of a body that has come whole. False: the request is over instead."""
        request = self._request
        try:
            outline = await self._spool.outline()
        except OutlineError as error:
            request.refuse(problems.bad_request(f"The body cannot be read: {error}."))
            return False
        request.body.read_outline(outline)
        return not request.is_over

    def pour(self, sink: Sink) -> Coroutine[Any, Any, None]:
        """Pass the whole body on to the server that was asked, until the request is sent once more.

        From this call on, before the work itself begins, nothing is passed on for the attempt before: a piece
        that was on its way from the disk would be the beginning of the new attempt's body.
        """
        self._pours = this = object()
        self._goes_on.set()
        return self._pour(sink, this)

    async def _pour(self, sink: Sink, this: object) -> None:
        request, at = self._request, 0
        try:
            while data := await self._spool.read(at):
                if self._pours is not this or request.is_over:
                    return
                at += len(data)
                sink.write(request.body.framed(data))
                await self._goes_on.wait()
        except OSError as error:
            self.on_no_room(error)
            return
        if self._pours is this and request.body.length is None and not request.is_over:
            sink.write(CHUNKED_END)

    def server_writable(self, writable: bool) -> None:
        if writable:
            self._goes_on.set()
        else:
            self._goes_on.clear()

    def close(self) -> None:
        self._disk.spooled_bytes -= self._spool.size
        self._spool.close()
        self._goes_on.set()

    # SpoolOwner

    def pause_reading(self, paused: bool) -> None:
        self._source.pause_reading(paused)

    def on_no_room(self, error: OSError) -> None:
        log.warning("⚠️ [GATEWAY] A long body is refused: %s", error)
        self._refuse()

    def _refuse(self) -> None:
        self._request.refuse(problems.no_room(), Outcome.UNAVAILABLE)
