"""The gateway as something that starts, listens, finishes what it began, and ends."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import socket
import sys
from time import monotonic
from typing import TYPE_CHECKING

from supervisor_app.common.loops import SWITCH_SECONDS
from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.common.words import counted, span
from supervisor_app.core.machine.file_limit import raise_file_limit
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.edge.link import Link
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.client import Client
from supervisor_app.gateway.plane.gateway import Gateway
from supervisor_app.gateway.workers.board import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from supervisor_app.fleet.conf import Overlay

log = logging.getLogger(__name__)

BACKLOG = 1024
RETRY_SECONDS = 1.0


def listening_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bound, not yet listening. `shared`: several processes may have one. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def is_loopback(host: str) -> bool:
    """Can only this machine's programs reach it?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def board_beside(counts: Path) -> Board | None:
    """Open the board for the worker whose number is the name of this file; None: it cannot be had."""
    try:
        return Board(counts.with_name(Board.NAME), int(counts.stem) - 1, monotonic())
    except (OSError, ValueError) as error:
        log.warning("⚠️ [GATEWAY] What this worker counts and limits, it does for itself: %s", error)
        return None


class Service:
    """`start`, then `run` until cancelled. `stop` before that lets the requests in flight finish."""

    def __init__(
        self,
        bound: socket.socket,
        *,
        overlay: Callable[[], Overlay],
        allowed_hosts: Sequence[str],
        allowed_origins: Sequence[str] = (),
        insecure_open: bool,
        public_metrics: bool,
        grace_seconds: float,
        on_listening: Callable[[Service], None] = lambda service: None,
        limits: Limits | None = None,
        default_server: str = "",
        counts: Path | None = None,
    ) -> None:
        """`counts`: `Link`'s. Beside it is the board of all workers. Raises BadOriginError."""
        self._bound = bound
        self._overlay = overlay
        self._grace_seconds = grace_seconds
        self._on_listening = on_listening
        self._public_metrics = public_metrics
        self._limits = limits or Limits()
        self._default_server = default_server
        self._counts = counts
        self._door = Door(
            allowed_hosts,
            allowed_origins=allowed_origins,
            needs_key=not is_loopback(bound.getsockname()[0]),
            insecure_open=insecure_open,
        )
        self._link: Link
        self._gateway: Gateway
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Knows all and listens when it returns. Raises StoreError and OSError."""
        self._link = Link(self._overlay, self._counts)
        self._gateway = Gateway(
            limits=self._limits,
            door=self._door,
            outside=self._link,
            public_metrics=self._public_metrics,
            board=board_beside(self._counts) if self._counts is not None else None,
            default_server=self._default_server,
        )
        self._link.attach(self._gateway)
        try:
            await self._listen()
        except BaseException:
            self._gateway.close()
            self._link.close()
            raise

    async def _listen(self) -> None:
        await self._link.load()
        raise_file_limit()
        # Else the thread that writes records holds the interpreter for up to 5 ms at a time, and requests
        # take twice as long while it does.
        sys.setswitchinterval(SWITCH_SECONDS)
        # Objects that exist by now stay. Going over all of Django once more would hold requests up for 20 ms;
        # to search them now would take 70 ms of each start, for the 2 % that are garbage.
        gc.freeze()
        self._bound.listen(BACKLOG)  # uvloop would not say that it failed
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Client(self._gateway), sock=self._bound, backlog=BACKLOG
        )

    def abandon(self) -> None:
        """Close the sockets that only showed whether the address can be had."""
        self._bound.close()

    @property
    def is_open(self) -> bool:
        """Tell whether nobody is asked for a key."""
        return self._door.keys.is_open

    def who_may(self) -> tuple[int, str]:
        """`Door`'s."""
        return self._door.who_may()

    async def serve(self) -> None:
        """`start`, as soon as the database answers, and `run`."""
        outage = Outage(log, "⚠️ [GATEWAY] {reason}. It starts as soon as it can.", None)
        while self._server is None:
            try:
                await self.start()
            except StoreError as error:
                outage.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
        self._on_listening(self)
        await self.run()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._link.run()
        finally:
            self._close_server()
            self._gateway.close()

    async def stop(self) -> None:
        """Take no more connections; the requests in flight have their grace."""
        if self._server is None:
            self._bound.close()
            return
        self._close_server()
        count = len(self._gateway.exchanges)
        if count:
            what, grace = counted(count, "request"), span(self._grace_seconds)
            log.info("👋 [GATEWAY] Finishing %s, for up to %s", what, grace)
        await self._gateway.drain(self._grace_seconds)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()

    def force(self) -> None:
        """End what is in flight now: somebody asked twice."""
        self._grace_seconds = 0
        if self._server is not None:
            self._gateway.hurry()
