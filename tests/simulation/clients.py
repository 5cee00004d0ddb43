"""Clients, which send at times of their own, whatever they are answered: so both runs of a seed are fed alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor_app.gateway.plane.client import Client
from tests.simulation.asking import Habits
from tests.simulation.chance import chance_of
from tests.simulation.transport import Transport

if TYPE_CHECKING:
    from supervisor_app.gateway.plane.gateway import Gateway
    from tests.simulation.world import World

HASTY, LEISURELY = (0.00001, 0.001, 0.02), (0.00001, 0.001, 0.02, 0.2, 1.0, 3.0)
"""Seconds between two requests of one client."""
PATIENCE = 400.0
"""Seconds after which a client leaves. The gateway has no reason to let it come to that."""


class SimulatedClient:
    """A `transport.Peer`."""

    def __init__(self, world: World, number: int, gateway: Gateway) -> None:
        self.name = f"client {number}"
        self.got = b""
        self._world = world
        self._number = number
        self._gateway = gateway
        self._chance = chance_of(world.seed, "client", number)
        self._requests = Habits(self._chance, number, world.scene).requests()
        self.is_over = False
        self._transport = Transport(world.loop, self, self._chance.choice([0, 1000, 100_000]))

    def start(self) -> None:
        self._transport.attach(Client(self._gateway))
        last = self._plan_requests()
        self._plan_pauses(last)
        self._plan_end(last)

    def received(self, data: bytes) -> None:
        self.got += data
        self._world.saw(self.name, data)

    def ended(self, how: str) -> None:
        self.is_over = True
        self._world.saw(self.name, f"ended: {how}")

    def mistakes(self) -> list[str]:
        """Whatever content came must name this client's requests, in their order."""
        asked = [(int(a), int(b)) for a, b in re.findall(rb"id-(\d+)-(\d+)", self.got)]
        foreign = [number for number, _ in asked if number != self._number]
        order = [request for _, request in asked][:-1]  # the last one may have been cut in its number
        return [
            *([f"{self.name} got answers to clients {foreign}"] if foreign else []),
            *([f"{self.name} got answers in the order {order}"] if order != sorted(order) else []),
        ]

    def _plan_requests(self) -> float:
        """Returns when the last one is sent, in seconds from now."""
        chance, later = self._chance, self._world.loop.call_later
        pauses, at, pending = chance.choice([HASTY, LEISURELY]), 0.0, b""
        for raw in self._requests:
            pending += raw
            if chance.hits(0.06):  # pipelined: it goes with the next
                continue
            at += chance.about(*pauses)
            if chance.hits(0.9):
                later(at, self._send, pending)
            else:
                for piece in chance.pieces(pending):
                    later(at, self._send, piece)
                    at += chance.about(0.000001, 0.001, 0.05, 0.5)
            pending = b""
        if pending:
            later(at + 0.01, self._send, pending)
        return at

    def _plan_pauses(self, last: float) -> None:
        """Some do not read for a while, or never again."""
        chance, world = self._chance, self._world
        if not chance.hits(0.3):
            return
        at = 0.0
        for _ in range(chance.randrange(1, 5)):
            at += chance.random() * last / 2
            world.loop.call_later(at, self._transport.peer_reads, False)
            at += chance.random() * chance.choice([0.01, 0.5, 2])
            world.loop.call_later(at, self._transport.peer_reads, True)
        if chance.hits(0.2):
            world.somebody_hangs = True
            world.loop.call_later(at, self._transport.peer_reads, False)

    def _plan_end(self, last: float) -> None:
        chance, later = self._chance, self._world.loop.call_later
        if chance.hits(0.15):
            later(chance.random() * (last + 0.3), self._leave)
        elif chance.hits(0.18):
            later(chance.random() * 0.1 + last, self._send_no_more)
        later(PATIENCE + self._number * 1e-4, self._leave)

    def _send(self, data: bytes) -> None:
        if not self.is_over and not self._transport.peer_is_done:
            self._transport.peer_sends(data)

    def _send_no_more(self) -> None:
        if not self.is_over:
            self._transport.peer_ends()

    def _leave(self) -> None:
        if not self.is_over:
            self._transport.peer_resets()
