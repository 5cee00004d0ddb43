"""Records of servers, in memory: configurations, histories, footprints, contexts, announcements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.common.storage import StoreError
from supervisor_app.core.changes import Change, Remembered
from supervisor_app.core.context.saved import Kept
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.ports import TurnHolder

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Mapping, Sequence

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.sightings import (
        Identity,
    )
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.status import LlamaStatus


@dataclass
class InMemoryStore:
    """`down`: every call fails, as of a database that is away. `full`: every write, as on a full disk."""

    servers: list[ServerConfig] = field(default_factory=list)
    memory: dict[str, Remembered] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    beats: list[list[str]] = field(default_factory=list)
    surveys: list[Survey] = field(default_factory=list)
    memory_rules: MemoryRules | None = None
    prunable: int = 0
    """Number of times that there is something to prune."""
    prunes: int = 0
    turns: dict[str, TurnHolder] = field(default_factory=dict)
    """Server that has the turn of an alias."""
    asked: list[str] = field(default_factory=list)
    """Servers that asked for their turn."""
    released: list[str] = field(default_factory=list)
    answering: asyncio.Event | None = None
    """Answers to who asks for a turn are given once this is set; None: at once."""
    releasing: bool = True
    """False: no turn can be released."""
    down: bool = False
    full: bool = False

    async def configs(self) -> Sequence[ServerConfig]:
        self._check()
        return list(self.servers)

    async def remember(self, name: str) -> Remembered:
        self._check()
        return self.memory.get(name, Remembered())

    async def save(self, change: Change) -> None:
        self._check(writing=True)
        self.changes.append(change)

    async def heartbeat(self, names: Sequence[str], devices: Survey | None = None) -> None:
        self._check(writing=True)
        self.beats.append(list(names))
        if devices is not None:
            self.surveys.append(devices)

    async def prune(self) -> bool:
        self._check(writing=True)
        self.prunes += 1
        self.prunable -= self.prunable > 0
        return self.prunable > 0

    async def acquire_turn(self, name: str, aliases: Sequence[str]) -> TurnHolder | None:
        self.asked.append(name)
        if self.answering is not None:
            await self.answering.wait()
        self._check(writing=True)
        for alias in aliases:
            holder = self.turns.get(alias)
            if holder is not None and holder.server != name:
                return holder
        self.turns.update({alias: TurnHolder(server=name, alias=alias) for alias in aliases})
        return None

    async def release_turn(self, name: str) -> None:
        self._check(writing=True)
        if not self.releasing:
            raise StoreError("The database is locked.")
        self.released.append(name)
        self.turns = {alias: holder for alias, holder in self.turns.items() if holder.server != name}

    def _check(self, *, writing: bool = False) -> None:
        if self.down or (self.full and writing):
            raise StoreError("The database is locked.")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A call of `FakeFootprints.learned`."""

    name: str
    devices: Mapping[str, int]
    out_of_memory: bool
    run: Identity | None


@dataclass
class FakeFootprints:
    """Knows the needs that it was given, and keeps what it is taught."""

    needs: dict[str, Need] = field(default_factory=dict)
    lessons: list[Lesson] = field(default_factory=list)
    heard: dict[str, list[str]] = field(default_factory=dict)
    """Lines of what the engine said, by server."""

    async def need(self, name: str, spec: LaunchSpec) -> Need:
        return self.needs.get(name, Need(devices={}, source=Source.UNKNOWN))

    def learned(
        self,
        name: str,
        spec: LaunchSpec,
        devices: Mapping[str, int],
        out_of_memory: bool = False,
        run: Identity | None = None,
    ) -> None:
        self.lessons.append(Lesson(name=name, devices=devices, out_of_memory=out_of_memory, run=run))

    def told(self, name: str, spec: LaunchSpec, lines: Sequence[str], run: Identity | None = None) -> None:
        self.heard[name] = list(lines)


@dataclass
class FakeContexts:
    """Saves and restores what it was told to; `holding` saves nothing until it is let go."""

    saved: Kept = field(default_factory=Kept)
    restored: Kept = field(default_factory=Kept)
    trouble: str = ""
    """Reason for which the folder cannot be made."""
    cached: list[int] = field(default_factory=list)
    saves: list[str] = field(default_factory=list)
    restores: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    prunes: int = 0
    holding: asyncio.Event | None = None

    async def prepare(self, name: str, spec: LaunchSpec) -> str:
        return self.trouble

    async def save(self, name: str, spec: LaunchSpec, started_at: float, seconds: float) -> Kept:
        self.saves.append(name)
        if self.holding is not None:
            await self.holding.wait()
        return self.saved

    async def restore(self, name: str, spec: LaunchSpec, seconds: float) -> Kept:
        self.restores.append(name)
        return self.restored

    async def forget(self, names: Collection[str]) -> None:
        self.forgotten += sorted(names)

    async def prune(self) -> None:
        self.prunes += 1

    async def answers(self, name: str, since: float, count: int) -> Sequence[int]:
        return self.cached[:count]


@dataclass
class FakeRoom:
    """Room that is asked for only while it `is_on`; whoever asks gets an answer from the test."""

    is_on: bool = False
    in_turn: bool = False
    nudges: int = 0
    fits: bool = False
    """Answer to the question whether a server that was refused may fit now."""
    beside: str = ""
    """Reason for which a second process of a server has no room."""

    def nudge(self) -> None:
        self.nudges += 1

    async def may_fit(self, name: str) -> bool:
        return self.fits

    async def fits_beside(self, name: str, spec: LaunchSpec) -> str:
        return self.beside


@dataclass
class RecordingPublisher:
    """Keeps what pages would have seen."""

    announced: list[LlamaStatus] = field(default_factory=list)
    snapshots: list[LlamaStatus] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    async def announce(self, snapshot: LlamaStatus) -> None:
        self.announced.append(snapshot)

    async def publish(self, snapshot: LlamaStatus) -> None:
        self.snapshots.append(snapshot)

    async def removed(self, name: str) -> None:
        self.gone.append(name)
