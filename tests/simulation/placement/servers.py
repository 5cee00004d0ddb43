"""Servers: what they truly need, what is known of that, and what becomes of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.placement.world import Cause, Demand, Need, Resident, Source, Standing

if TYPE_CHECKING:
    from tests.simulation.chance import Chance
    from tests.simulation.placement.clients import Request
    from tests.simulation.placement.machine import Machine

RAISE = 0.05
"""One that died with all that there was needs at least so much more."""
ERROR = 0.2
"""An estimate is at most so much too low or too high."""


class State(Enum):
    GONE = auto()
    LOADING = auto()
    READY = auto()
    LEAVING = auto()


THERE = (State.LOADING, State.READY)


@dataclass(eq=False)
class Server:
    name: str
    true: dict[str, int]
    """Bytes that it takes."""
    known: Need
    slots: int
    load_seconds: float
    stop_seconds: float
    back_seconds: float
    """From its end until its memory is seen to be back."""
    pinned: bool = False
    group: str = ""
    priority: int = 0
    state: State = State.GONE
    allocated: bool = False
    wanted: Cause | None = None
    """Preload or wish; requests speak for themselves."""
    wanted_since: float = 0.0
    queue: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    ready_since: float | None = None
    last_used: float = 0.0
    told_to_go: float = 0.0
    """Moment of its last eviction: its queue has waited for a new life since then."""
    life: int = 0
    answered: int = 0
    """Requests in this life."""
    deaths: int = 0
    """For want of memory, since it was ready last."""
    free_at_start: dict[str, int] = field(default_factory=dict)
    """Bytes of each device."""
    had_all_of: str = ""
    """Device of which it was given all that can be free, because it may need more."""
    loaded_for: Cause = Cause.PRELOAD

    @property
    def counted(self) -> dict[str, int]:
        """Bytes that a node counts: never less than it sees."""
        if not self.allocated:
            return dict(self.known.devices)
        if self.state is State.LOADING:
            devices = self.true.keys() | self.known.devices.keys()
            return {each: max(self.true.get(each, 0), self.known.devices.get(each, 0)) for each in devices}
        return dict(self.true)

    def resident(self) -> Resident:
        busy = len(self.running) + len(self.queue)
        standing = {State.LOADING: Standing.LOADING, State.LEAVING: Standing.LEAVING}.get(
            self.state, Standing.BUSY if busy else Standing.IDLE
        )
        return Resident(
            name=self.name,
            need=Need(devices=self.counted, source=self.known.source),
            standing=standing,
            ready_since=self.ready_since,
            last_used=self.last_used,
            load_seconds=self.load_seconds,
            requests=busy,
            pinned=self.pinned,
            group=self.group,
            priority=self.priority,
        )

    def demand(self) -> Demand | None:
        """What it wants while it is gone, or goes."""
        if not (self.queue or self.wanted) or self.state in THERE:
            return None
        since = max(self.queue[0].arrived, self.told_to_go) if self.queue else self.wanted_since
        return Demand(
            name=self.name,
            need=self.known,
            cause=Cause.REQUEST if self.queue else self.wanted or Cause.WISH,
            since=since,
            waiting=len(self.queue),
            pinned=self.pinned,
            group=self.group,
            priority=self.priority,
        )

    def learn_from_a_run(self) -> None:
        self.known = Need(devices=dict(self.true), source=Source.MEASURED, runs=1)
        self.deaths = 0

    def learn_from_want_of(self, device: str, total: int, had: int) -> None:
        """It died though it could have had so much.

        At first it gets more, then all that there is; one that died with all needs a bit more than that. If less
        was free then than at its start, somebody came between, and nothing is learned.
        """
        if had < self.free_at_start[device]:
            return
        if device == self.had_all_of:
            self._know(device, int(had * (1 + RAISE)), Source.MEASURED)
        elif not self.deaths and self.known.source is not Source.UNKNOWN:
            self.deaths = 1
            self._know(device, int(had * 1.25), Source.ESTIMATED)
        else:
            self._know(device, total, Source.ESTIMATED, shrinks=True)

    def _know(self, device: str, size: int, source: Source, *, shrinks: bool = False) -> None:
        devices = dict(self.known.devices) | {device: size}
        self.known = Need(devices=devices, source=source, shrinks=shrinks)


def servers_by(chance: Chance, machine: Machine) -> list[Server]:
    """Ten and more, of which some fit together."""
    return [_server(chance, machine, f"m{number:02}") for number in range(chance.randrange(10, 17))]


def _server(chance: Chance, machine: Machine, name: str) -> Server:
    main = chance.choice(machine.gpus or [HOST])
    part = chance.choice([0.05, 0.2, 0.35, 0.5, 0.8]) * (0.7 + 0.6 * chance.random())
    true = {main: int(machine.devices[main].total * part)}
    if main != HOST:
        true[HOST] = int(machine.devices[HOST].total * 0.03 * chance.random())
    pinned = part < 0.15 and chance.hits(0.3)
    return Server(
        name=name,
        true=true,
        known=_known(chance, true),
        slots=chance.choice([1, 2, 4]),
        load_seconds=chance.about(1, 2, 5) + 40 * part * chance.random(),
        stop_seconds=chance.about(0.1, 0.5, 3),
        back_seconds=chance.choice([0.0, 0.0, chance.about(1, 5)]),
        pinned=pinned,
        group=chance.choice(["", "", "", "one", "two"]),
        priority=chance.choice([0, 0, 0, 1, 5]),
        wanted=Cause.PRELOAD if pinned or chance.hits(0.3) else None,
    )


def _known(chance: Chance, true: dict[str, int]) -> Need:
    if chance.hits(0.1):
        return Need(devices={}, source=Source.UNKNOWN)
    if chance.hits(0.4):
        return Need(devices=dict(true), source=Source.MEASURED, runs=1)
    wrong = 1 + ERROR * (2 * chance.random() - 1)
    return Need(devices={each: int(size * wrong) for each, size in true.items()}, source=Source.ESTIMATED)
