"""A gateway's wishes to supervisors: starts for those who wait, the end of idle servers, their attention."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from supervisor_app.common.database import Rows
from supervisor_app.common.storage import StoreError
from supervisor_app.fleet.commands import anudge, tell_closed, tell_moved, tell_waiting
from supervisor_app.gateway.edge import idleness

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.common.database import DatabaseThread
    from supervisor_app.core.tasks import Tasks
    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.servers.gate import Gate

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
"""Pause between two looks for servers that nobody asks."""
MOVED_SECONDS = 2.0
"""Pause between two looks at which servers' work moves; the supervisor looks as often at working ones."""


class Supervisors:
    """The supervisors of all nodes, as a gateway speaks to them: by the database, and a nudge to read it."""

    def __init__(
        self,
        gateway: Gateway,
        name: str,
        database: DatabaseThread,
        overlay: Callable[[], Overlay],
        tasks: Tasks,
    ) -> None:
        """`name`: tells this gateway from others."""
        self._gateway = gateway
        self._name = name
        self._database = database
        self._overlay = overlay
        self._tasks = tasks
        self._nodes: set[str] = set()
        """Nodes whose supervisors know of this gateway."""
        self._limited = Rows(idleness.limited_servers)
        self._waking: set[str] = set()
        """Servers whose start the database is being told: once, however many ask."""

    async def nudge(self, server: str) -> None:
        """Have the supervisor of this server read the database now. An unknown server has none."""
        backend = self._gateway.backends.get(server)
        if backend is not None:
            await anudge(backend.facts.node)

    def wake(self, server: str) -> None:
        """Wish the start of a server; the wish is on its way when this returns."""
        if server not in self._waking:
            self._waking.add(server)
            self._tasks.start(self._wake(server), f"wake-{server}")

    async def _wake(self, server: str) -> None:
        self._tasks.start(self._tell_waiting(), "waiting")  # a supervisor that expects a wish is quicker
        try:
            started = await self._database.call(partial(idleness.wake, server))
        finally:
            self._waking.discard(server)
        if started:
            log.info("☀️ [GATEWAY] %s is asked for: starting it", server)
            await self.nudge(server)

    def introduce(self) -> None:
        """Tell supervisors that are new here of this gateway: they wait for its word before a server goes."""
        nodes = {backend.facts.node for backend in self._gateway.backends.values()}
        is_new, self._nodes = not nodes <= self._nodes, nodes
        if is_new:
            self._tasks.start(self._tell_waiting(), "introduce")

    def confirm(self, server: str) -> None:
        """Tell the supervisor of a server with a closed gate what is in flight there."""
        backend = self._gateway.backends.get(server)
        if backend is not None and backend.facts.draining and not backend.gate.is_open:
            facts, in_flight = backend.facts, len(backend.gate.in_flight)
            said = tell_closed(facts.node, self._name, server, facts.version, in_flight)
            self._tasks.start(said, f"closed-{server}")

    async def report(self) -> None:
        """Tell for ever that this gateway is there, which servers are waited for, and whose work moves.

        A server whose answers come does not hang, whatever it says of its slots.
        """
        while True:
            await asyncio.sleep(MOVED_SECONDS)
            await self._tell_waiting()
            nodes: dict[str, list[str]] = {}
            for name, backend in self._gateway.backends.items():
                if backend.moved:
                    backend.moved = False
                    nodes.setdefault(backend.facts.node, []).append(name)
            for node, names in nodes.items():
                await tell_moved(node, names)

    async def _tell_waiting(self) -> None:
        """Supervisors make room for servers by how many wait for them."""
        nodes: dict[str, dict[str, int]] = {node: {} for node in self._nodes}
        for name, backend in self._gateway.backends.items():
            waiting = sum(visitor.wakes for visitor in backend.gate.waiting)
            if waiting and not backend.facts.ready:
                nodes.setdefault(backend.facts.node, {})[name] = waiting
        for node, counts in nodes.items():
            await tell_waiting(node, self._name, counts)

    async def stop_idle(self) -> None:
        """Wish for ever the end of servers that nobody has asked for as long as each allows."""
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            with suppress(StoreError):
                for name in await self._database.call(self._stop_idle_now):
                    log.info("💤 [GATEWAY] Nobody asks for %s: it is stopped until somebody does", name)
                    await self.nudge(name)

    def _stop_idle_now(self) -> list[str]:
        overlay = self._overlay()
        if not (overlay.values.get("idle_stop_seconds") or any(self._limited())):
            return []
        idle = idleness.idle_servers(self._gateway.wall_time(), overlay)
        busy = set(self.in_use())
        return [name for name, since in idle.items() if name not in busy and idleness.stop_idle(name, since)]

    def in_use(self) -> list[str]:
        """List servers in use, also in the threads of the database."""
        return [each.facts.name for each in self._gateway.all if _is_in_use(each.gate)]


def _is_in_use(gate: Gate) -> bool:
    return any(visitor.counts_as_use for visitor in (*gate.at_any_process, *gate.waiting))
