"""The world of a seed, from its first moment until all clients have left and nothing may be left."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.gateway import Gateway
from supervisor_app.gateway.records.record import QuarantineEntry, Record, request_ids
from tests.simulation import checks
from tests.simulation.asking import Scene
from tests.simulation.chance import Chance, chance_of
from tests.simulation.clients import SimulatedClient
from tests.simulation.network import Network
from tests.simulation.news import Supervisor
from tests.unit.gateway.boards import make_boards

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor_app.gateway.workers.board import Board
    from tests.simulation.loop import VirtualLoop

STEP_SECONDS = 10.0
"""After all clients have gone, so long at least until nothing may be left of them."""

Stories = dict[str, list[tuple[float, bytes | str]]]
"""Of each client, connection and so on what it saw, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The course of a seed's world."""

    stories: Stories
    problems: list[str]
    records: list[Record]
    drained_at: float
    """Loop time at which a gateway began to stop; infinity: none did."""


class World(logging.Handler):
    """`outside.Outside`; takes note of what the gateway complains of."""

    def __init__(self, loop: VirtualLoop, seed: int, directory: Path) -> None:
        super().__init__(logging.ERROR)
        chance = chance_of(seed, "world")
        self.loop = loop
        self.seed = seed
        self.problems: list[str] = []
        self.records: list[Record] = []
        self.somebody_hangs = False
        """On purpose: then a request may take for ever."""
        self.capacity_changed = False
        """To less, perhaps, than were inside."""
        self.drained_at = float("inf")
        self._stories: Stories = defaultdict(list)
        self._asked: Counter[str] = Counter()
        self._done: set[str] = set()
        names = chance.choice([["a"], ["a"], ["a", "b"], ["a", "b", "c"]])
        self.scene = Scene(
            models=("a", "a", "b", "m", "x") if len(names) > 1 else ("a", "x"),
            has_keys=chance.hits(0.4),
            has_large_bodies=chance.hits(0.5),
            calm=chance.choice([0.2, 0.7, 0.95]),
        )
        self.network = Network(self)
        loop.connect = self.network.connect
        limits = _limits(chance)
        self.gateways = [self._gateway(limits, board) for board in make_boards(directory, 2, loop.time())]
        self._supervisor = Supervisor(self, names)
        count = chance.randrange(1, 6)
        self._clients = [SimulatedClient(self, each, self.gateways[each % 2]) for each in range(count)]
        self._starts = [1e-5 + chance.random() * chance.choice([0.001, 0.5]) for _ in range(count)]

    async def live(self) -> Report:
        self.loop.set_exception_handler(lambda _, context: self.problems.append(repr(context)))
        self._supervisor.begin()
        for client, at in zip(self._clients, self._starts, strict=True):
            self.loop.call_later(at, client.start)
        while not all(client.is_over for client in self._clients):
            await asyncio.sleep(STEP_SECONDS)
        await asyncio.sleep(STEP_SECONDS)
        for gateway in self.gateways:
            self.problems += checks.left_at(gateway)
        for client in self._clients:
            self.problems += client.mistakes()
        if not self.somebody_hangs:
            self.problems += checks.hung(self.records)
        for gateway in self.gateways:
            gateway.close()
        await asyncio.sleep(1)
        return Report(
            stories=dict(self._stories),
            problems=self.problems,
            records=self.records,
            drained_at=self.drained_at,
        )

    # What others see

    def saw(self, who: str, what: bytes | str) -> None:
        """Pieces that come at one moment are one."""
        story, now = self._stories[who], self.loop.time()
        if story and story[-1][0] == now and isinstance(what, bytes) and isinstance(story[-1][1], bytes):
            what = story.pop()[1] + what
        story.append((now, what))

    def asked(self, ident: str) -> int:
        """A server was asked this. Returns how often that has been."""
        if not self.capacity_changed:
            self.problems += checks.crowd(*self.gateways)
        self._asked[ident] += 1
        return self._asked[ident]

    def acted(self, ident: str, *, loads: bool) -> None:
        """A server was asked for something that has effects; it has them unless it still loads its model."""
        if ident in self._done:
            self.problems.append(f"id-{ident} has effects, and was sent to a server again")
        if not loads:
            self._done.add(ident)

    # outside.Outside

    def wake(self, server: str) -> None:
        self.saw(f"supervisor of {server}", "woken")

    def record(self, record: Record) -> None:
        self.records.append(record)
        self.saw(f"records of {record.at!r}", repr(record))

    def quarantined(self, entry: QuarantineEntry) -> None:
        self.saw("people", repr(entry))

    async def metrics(self) -> bytes:
        return b"llamaproxy_up 1\n"

    async def read_models(self, *, now: bool = False, reload: bool = False) -> None: ...

    def server_lost(self) -> None: ...

    def models_changed(self, server: str) -> None: ...

    # logging.Handler

    def emit(self, record: logging.LogRecord) -> None:
        self.problems.append(logging.Formatter().format(record))

    def _gateway(self, limits: Limits, board: Board) -> Gateway:
        now: Any = self.loop.time
        return Gateway(
            limits=limits,
            door=Door(["localhost"]),
            outside=self,
            wall_time=lambda: now() + 1e9,
            board=board,
            ids=request_ids("simulated"),
        )


def _limits(chance: Chance) -> Limits:
    """So small that many bodies are not kept, or those of production."""
    return Limits(
        replay_bytes=chance.choice([1000, 8 << 20]),
        all_replay_bytes=chance.choice([3000, 512 << 20]),
        body_bytes=chance.choice([2000, 1 << 30, 1 << 30]),
        comment_seconds=1.0,
    )
