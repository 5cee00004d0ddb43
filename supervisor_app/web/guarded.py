"""Daphne within limits: as the base of the one-process shape, and under the `daphne` command."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import daphne.server
from twisted.internet import reactor

from supervisor_app.common.watchdog import watchdog
from supervisor_app.web.connections import GuardedHTTPFactory
from supervisor_app.web.descriptors import Shares, connection_shares
from supervisor_app.web.limits import WebLimits
from supervisor_app.web.sockets import GuardedWebSocketFactory, Inbox
from supervisor_app.web.visitors import Visitors

BACKLOG = 256
"""Connections that may wait. With Twisted's 50 a burst makes everybody else wait for a second."""


class GuardedServer(daphne.server.Server):
    """Daphne's server, which knows who is connected."""

    def __init__(self, *, endpoints: list[str], limits: WebLimits | None = None, **options: Any) -> None:
        super().__init__(endpoints=[with_backlog(endpoint) for endpoint in endpoints], **options)
        self.visitors = Visitors(limits or limits_alone())

    def run(self) -> None:
        """Serve until the reactor is stopped."""
        reactor.callWhenRunning(self._be_watched)
        super().run()

    def _be_watched(self) -> None:
        self._watched = asyncio.ensure_future(watchdog().watch("pages"))

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Inbox | None:
        """Create the application as Daphne does, with an inbox that tells when it is empty."""
        inbox = Inbox()
        scope.setdefault("asgi", {"version": "3.0"})
        application = self.application(
            scope=scope, receive=inbox.get, send=partial(self.handle_reply, protocol)
        )
        if protocol not in self.connections:
            application.close()
            return None
        self.connections[protocol]["application_instance"] = asyncio.ensure_future(application)
        return inbox


def with_backlog(endpoint: str) -> str:
    """Add a backlog to an endpoint in Twisted's notation."""
    is_tcp = endpoint.startswith(("tcp:", "ssl:"))
    return f"{endpoint}:backlog={BACKLOG}" if is_tcp and "backlog=" not in endpoint else endpoint


def limits_alone() -> WebLimits:
    """Limits of a process that serves pages and nothing else."""
    return WebLimits(connections=connection_shares(Shares(web=WebLimits().connections, gateway=0)).web)


def install() -> None:
    """Put the guards in place: Daphne makes its factories itself, and its command the server."""
    daphne.server.HTTPFactory = GuardedHTTPFactory
    daphne.server.WebSocketFactory = GuardedWebSocketFactory
    if "daphne.cli" in sys.modules:
        sys.modules["daphne.cli"].CommandLineInterface.server_class = GuardedServer
