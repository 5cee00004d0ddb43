"""The service of a gateway, listening and with servers, as one process has it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from supervisor_app.fleet.conf import Overlay
from supervisor_app.gateway.edge.service import Service, listening_socket
from tests.integration.building import db, make_ready_server
from tests.integration.gateway.plane import Caller, request
from tests.integration.gateway.scripts import Scripted
from tests.ports import port_of

in_database = pytest.mark.django_db(transaction=True)

HEALTH = request("/health")


class Served:
    """A service that listens, and its clients."""

    def __init__(self, made, port):
        self.service = made
        self._port = port
        self._callers = []

    async def connect(self):
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self._port))
        self._callers.append(caller)
        return caller

    async def ask(self, data):
        """Ask on a new connection."""
        return await (await self.connect()).ask(data)

    async def begins(self, upstream, data):
        """A client whose request has come to the server."""
        before = len(upstream.calls)
        caller = await self.connect()
        await caller.send(data)
        await upstream.until_called(before + 1)
        return caller

    @property
    def refuses(self):
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self._port)) != 0

    def leave(self):
        for caller in self._callers:
            caller.leave()


def make_service(bound, *, insecure_open=False, grace=30.0, on_listening=lambda made: None, **overlay):
    return Service(
        bound,
        overlay=lambda: Overlay(values=overlay),
        allowed_hosts=["localhost"],
        insecure_open=insecure_open,
        public_metrics=False,
        grace_seconds=grace,
        on_listening=on_listening,
    )


@asynccontextmanager
async def served(bound=None, **options):
    """Serve until the block ends; the service is cut off then, unless it has ended before."""
    bound = bound or listening_socket("127.0.0.1", 0)
    port, listens = port_of(bound), asyncio.Event()
    made = make_service(bound, on_listening=lambda made: listens.set(), **options)
    task = asyncio.create_task(made.serve())
    await asyncio.wait({task, asyncio.ensure_future(listens.wait())}, return_when=asyncio.FIRST_COMPLETED)
    clients = Served(made, port)
    try:
        yield clients
    finally:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
        clients.leave()
        assert isinstance(ended, asyncio.CancelledError), ended


@asynccontextmanager
async def upstream(*scripts):
    """A server that is ready, as far as the database knows. It has more slots than anybody needs."""
    server = Scripted(*scripts)
    await server.start()
    await db(make_ready_server, url=f"http://127.0.0.1:{server.port}", pid=11)
    try:
        yield server
    finally:
        await server.stop()
