"""What the supervisor says, and what happens to servers, by chance.

Both gateways hear the same; the second one a moment later, as it is with workers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.servers.facts import End, ServerFacts
from supervisor_app.gateway.servers.suspects import Suspicion
from tests.simulation.answers import ENDS
from tests.simulation.chance import Chance, chance_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

LATER_SECONDS = 3.3e-4
"""The second worker hears of something."""


class Supervisor:
    def __init__(self, world: World, names: list[str]) -> None:
        self._world = world
        self._names = names
        self._chance = chance_of(world.seed, "supervisor")
        self._later = world.loop.call_later
        self._pids = {name: 1001 + 100 * number for number, name in enumerate(names)}

    def begin(self) -> None:
        """All servers are ready; what happens to them is planned."""
        chance = self._chance
        if self._world.scene.has_keys:
            self._change_keys()
        for number, name in enumerate(self._names):
            facts = ServerFacts(
                name=name,
                url=f"http://127.0.0.1:{8000 + number}",
                status=Status.READY,
                pid=self._pids[name],
                run=1,
                version=1,
                detail="Serving.",
                capacity=chance.choice([0, 1, 2, 8]),
                max_queue=chance.choice([2, 256]),
                hold_seconds=chance.choice([0.5, 120]),
                models=("m",) if chance.hits(0.5) else (),
                api_key=chance.choice(["", "srv"]),
            )
            for gateway in self._world.gateways:
                gateway.hear(facts)
        for _ in range(chance.choice([0, 0, 1, 2, 4])):
            event = chance.choices([event for _, event in EVENTS], [weight for weight, _ in EVENTS])[0]
            self._later(
                chance.random() * chance.choice([0.01, 0.3, 3]), event, self, chance.choice(self._names)
            )

    # What happens

    def crash(self, name: str) -> None:
        """Its connections end before that is told, or after; a moment later it is back as another process."""
        facts, chance = self._facts(name), self._chance
        if facts is None:
            return
        network, port = self._world.network, _port(facts)
        if chance.hits(0.7):
            network.down.add(port)
        crashed: dict[str, Any] = {"status": Status.CRASHED, "pid": None, "detail": "It crashed."}
        is_told_first = chance.hits(0.5)
        if is_told_first:
            self._tell(name, **crashed)
        for connection in network.connections_to(port):
            connection.end(chance.choice(ENDS))
        if not is_told_first:
            self._later(chance.random() * 0.1, lambda: self._tell(name, **crashed))
        old, end = self._pids[name], End(blameless=chance.hits(0.5), sentence="It crashed.")
        self._pids[name] += 1
        self._later(0.1 + chance.random() * 2, self._come_back, name, port, old, end)

    def _come_back(self, name: str, port: int, old: int, end: End) -> None:
        self._world.network.down.discard(port)
        facts = self._facts(name)
        if facts is not None:
            run, ends = (facts.run or 0) + 1, {**facts.ends, old: end}
            self._ready(name, run=run, ends=ends)

    def move(self, name: str) -> None:
        """Another address, of the same process or of another."""
        facts = self._facts(name)
        if facts is not None:
            changes = {"pid": (facts.pid or 1) + 50} if self._chance.hits(0.5) else {}
            self._tell(name, url=f"http://127.0.0.1:{_port(facts) + 1000}", **changes)

    def remove(self, name: str) -> None:
        """And configure it again."""
        facts = self._facts(name)
        if facts is not None:
            self._to_both(
                lambda gateway: gateway.learn({k: v for k, v in _known(gateway).items() if k != name})
            )
            again = replace(facts, version=facts.version + 1)
            self._later(self._chance.random(), self._to_both, lambda gateway: gateway.hear(again))

    def restart(self, name: str) -> None:
        status = self._chance.choice([Status.STOPPING, Status.STARTING])
        self._tell(name, status=status, detail="x", **({"pid": None} if self._chance.hits(0.3) else {}))
        self._later(self._chance.random(), self._ready, name)

    def stop(self, name: str) -> None:
        """For a while it is not wanted; perhaps asking wakes it."""
        status = {"status": Status.STOPPING} if self._chance.hits(0.5) else {}
        self._tell(name, wanted=False, wakes=self._chance.hits(0.5), **status)
        back = {"wanted": True, "wakes": False, "status": Status.READY}
        self._later(self._chance.random(), lambda: self._tell(name, **back))

    def change_capacity(self, name: str) -> None:
        self._world.capacity_changed = True
        self._tell(name, capacity=self._chance.choice([0, 1, 2, 8]))

    def change_keys(self, name: str) -> None:
        if self._world.scene.has_keys:
            self._change_keys()

    def suspect(self, name: str) -> None:
        """Some other request has been in a crash: the fast path is closed."""
        self._world.gateways[0].inquest.suspect("other", Suspicion())

    def drain(self, name: str) -> None:
        world = self._world
        world.drained_at = min(world.drained_at, world.loop.time())
        gateway = world.gateways[0]
        gateway.track_task(asyncio.ensure_future(gateway.drain(self._chance.choice([0, 0.01, 1.0]))))

    # Within

    def _facts(self, name: str) -> ServerFacts | None:
        """None: it has been removed."""
        return _known(self._world.gateways[0]).get(name)

    def _ready(self, name: str, **changes: Any) -> None:
        self._tell(name, status=Status.READY, pid=self._pids[name], detail="Serving.", **changes)

    def _tell(self, name: str, **changes: Any) -> None:
        facts = self._facts(name)
        if facts is not None:
            news = replace(facts, version=facts.version + 1, **changes)
            self._to_both(lambda gateway: gateway.hear(news))

    def _to_both(self, tell: Callable[[Any], None]) -> None:
        first, second = self._world.gateways
        tell(first)
        self._later(LATER_SECONDS, tell, second)

    def _change_keys(self) -> None:
        ring = _ring(self._chance)
        for gateway in self._world.gateways:
            gateway.door.keys = ring


EVENTS: list[tuple[float, Callable[[Supervisor, str], None]]] = [
    (4, Supervisor.crash),
    (2, Supervisor.move),
    (2, Supervisor.remove),
    (2, Supervisor.restart),
    (2, Supervisor.stop),
    (3, Supervisor.change_capacity),
    (2, Supervisor.change_keys),
    (0.3, Supervisor.suspect),
    (0.7, Supervisor.drain),
]


def _known(gateway: Any) -> dict[str, ServerFacts]:
    return {name: backend.facts for name, backend in gateway.backends.items()}


def _port(facts: ServerFacts) -> int:
    return int(facts.url.rsplit(":", 1)[1])


def _ring(chance: Chance) -> KeyRing:
    return KeyRing(
        KeyPolicy(
            id=number,
            name=name,
            digest=digest_of(f"lp-{name}"),
            enabled=chance.hits(0.95),
            models=frozenset({"a"}) if chance.hits(0.15) else frozenset(),
            requests_per_minute=chance.choice([0, 0, 0, 3, 10]),
            tokens_per_minute=chance.choice([0, 0, 0, 50, 1000]),
            max_concurrent=chance.choice([0, 0, 1, 2]),
            capture=chance.hits(0.1),
        )
        for number, name in enumerate("abc", 1)
    )
