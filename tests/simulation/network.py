"""Where the gateways' connections to servers go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.chance import Chance, chance_of
from tests.simulation.servers import ServerConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.transport import Transport
    from tests.simulation.world import World


class Network:
    def __init__(self, world: World) -> None:
        self.down: set[int] = set()
        """Ports that nobody listens at."""
        self._world = world
        self._number = 0
        self._connections: list[ServerConnection] = []

    def connections_to(self, port: int) -> list[ServerConnection]:
        return [each for each in self._connections if each.port == port]

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[Transport, asyncio.Protocol]:
        """Raises ConnectionRefusedError."""
        number, self._number = self._number, self._number + 1
        chance = chance_of(self._world.seed, "connection", number)
        # Never exactly as long as another one: which of two is first would be left open.
        await asyncio.sleep(chance.choice([0, 0.00001, 0.0003, 0.02]) + chance.random() * 1e-6)
        if port in self.down:
            self._world.saw(f"port {port}", "refused")
            raise ConnectionRefusedError(111, "Connection refused")
        protocol = factory()
        connection = ServerConnection(self._world, number, port, chance.choice([0, 3000, 200_000]))
        self._connections.append(connection)
        if chance.hits(0.3):
            self._plan_pauses(chance, connection.transport)
        connection.transport.attach(protocol)
        return connection.transport, protocol

    def _plan_pauses(self, chance: Chance, transport: Transport) -> None:
        """While it reads nothing."""
        at = 0.0
        for pause in (0.2, 0.5) * 3:
            at += chance.random() * chance.choice([0.001, 0.02, pause])
            self._world.loop.call_later(at, transport.peer_reads, pause == 0.5)
