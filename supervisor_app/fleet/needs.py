"""`core.ports.Footprints` for one node: measured, told by the engine, or estimated; kept in the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from supervisor_app.common.database import DatabaseThread
from supervisor_app.common.storage import StoreError
from supervisor_app.core.diagnosis.told_memory import told_by_log
from supervisor_app.core.machine.devices.survey import PATIENCE, this_machine
from supervisor_app.core.machine.lanes import Lane
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.tasks import Tasks
from supervisor_app.fleet.footprint_record import Known, Record, best, others_of
from supervisor_app.fleet.footprint_rows import Link, load_records, save_records
from supervisor_app.fleet.launches import Launch, Mark, look_at, told_beforehand
from supervisor_app.fleet.told_devices import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.core.sightings import Identity
    from supervisor_app.core.spec import LaunchSpec

log = logging.getLogger(__name__)

DEVICES_SECONDS = 60.0
"""Age up to which a look at the devices counts: which there are, and how much of each GPU is free."""
LOOK_SECONDS = 30.0
"""Time limit of a look at files and engine."""
READ_SECONDS = 2.0
"""Time limit of a read: a start does not wait for a database that hangs."""
MOST_NEWS = 100
"""Kept of one server while the database or a disk is away."""


@dataclass(frozen=True, kw_only=True)
class News:
    """News of a run. `lines`: it is ready, and that is what its engine said."""

    spec: LaunchSpec
    lines: Sequence[str] | None = None
    devices: Mapping[str, int] = field(default_factory=dict)
    out_of_memory: bool = False
    run: str = ""


@dataclass
class _Server:
    """State of a server: news that are not digested yet, and the launch that was looked at last."""

    lane: Lane = field(default_factory=lambda: Lane("the disk of its model", width=2))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    news: deque[News] = field(default_factory=lambda: deque(maxlen=MOST_NEWS))
    launch: Launch | None = None
    asked: Mark = ()
    """Mark of the launch about which the tool beside the engine was asked."""
    running: tuple[str, Launch] | None = None
    """Launch of the process that runs, as it was when that became ready: files may be replaced."""


class NodeFootprints:
    """Footprints of one node's servers. Looks at files in threads of each server; saves when it can.

    For one event loop. Of a launch whose files and engine have not changed, nothing but that is looked at.
    """

    def __init__(
        self,
        node: str,
        *,
        devices: Callable[[], Sequence[Device]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`devices` looks at the machine, blocking; `clock` in Unix seconds."""
        self._node = node
        self._look_at_devices = devices or _devices_of_this_machine()
        self._clock = clock
        self._servers: defaultdict[str, _Server] = defaultdict(_Server)
        self._records: dict[str, dict[str, Record]] = {}
        """Records by identity and build, of every identity that was read."""
        self._links: dict[str, Link] = {}
        """Record that each server goes by."""
        self._unsaved: dict[Link, Record] = {}
        self._unlinked: dict[str, Link] = {}
        self._devices: Sequence[Device] = ()
        self._devices_at = float("-inf")
        self._lane = Lane("the devices", width=1)
        self._reader, self._writer = DatabaseThread("footprints-read"), DatabaseThread("footprints-write")
        self._tasks = Tasks("footprints", _on_bug)
        self._saving = False

    async def need(self, name: str, spec: LaunchSpec) -> Need:
        server = self._servers[name]
        async with server.lock:
            await self._digest(name, server)
            launch = await self._look(server, spec)
            if launch is None:
                return Need(devices={}, source=Source.UNKNOWN)
            await self._read(launch)
            known = self._known(name, launch)
            if known.source is Source.ESTIMATED and await self._ask_tool(server, spec, launch):
                known = self._known(name, launch)
            return launch.need(known)

    def learned(
        self,
        name: str,
        spec: LaunchSpec,
        devices: Mapping[str, int],
        out_of_memory: bool = False,
        run: Identity | None = None,
    ) -> None:
        news = News(spec=spec, devices=dict(devices), out_of_memory=out_of_memory, run=_number(run))
        self._hear(name, news)

    def told(self, name: str, spec: LaunchSpec, lines: Sequence[str], run: Identity | None = None) -> None:
        self._hear(name, News(spec=spec, lines=lines, run=_number(run)))

    def close(self) -> None:
        """Save what is unsaved, if that does not take long."""
        self._tasks.cancel()
        unsaved, unlinked = self._take_unsaved()
        self._writer.close(
            partial(save_records, self._node, unsaved, unlinked) if unsaved or unlinked else None
        )
        self._reader.close()

    async def _ask_tool(self, server: _Server, spec: LaunchSpec, launch: Launch) -> bool:
        """Ask `llama-fit-params`, once for each launch. Was there an answer?"""
        if server.asked == launch.mark:
            return False
        server.asked = launch.mark
        try:
            told = await server.lane.run(told_beforehand, spec, launch, patience=LOOK_SECONDS)
        except CANNOT:
            return False
        devices = placed(told, self._devices) if told is not None else {}
        if devices and launch.fresh.identity in self._records:
            self._note(replace(self._record(launch), told=devices))
        return bool(devices)

    # News

    def _hear(self, name: str, news: News) -> None:
        self._servers[name].news.append(news)
        self._tasks.start(self._digest_soon(name), "news")

    async def _digest_soon(self, name: str) -> None:
        server = self._servers[name]
        async with server.lock:
            await self._digest(name, server)

    async def _digest(self, name: str, server: _Server) -> None:
        """Make records of the news, in their order; what cannot be placed yet waits for the next time."""
        while server.news:
            news = server.news[0]
            launch = await self._launch_of(server, news)
            if launch is None or not await self._read(launch):
                return
            server.news.popleft()
            known, record = self._known(name, launch), self._record(launch)
            if news.lines is not None:
                told = told_by_log(news.lines)
                devices = placed(told, self._devices) if told is not None else {}
                self._note(replace(record, told=devices or record.told))
            elif news.out_of_memory:
                self._note(record.after_want(news.devices, known.devices, self._clock()))
                log.warning(
                    "🧮 [MEMORY] %s ran out of memory: it is taken to need %s",
                    name,
                    self._known(name, launch).sentence,
                    extra={"server": name},
                )
            else:
                self._note(record.after_run(news.devices, news.run, self._clock()))

    async def _launch_of(self, server: _Server, news: News) -> Launch | None:
        """The launch of a run that goes on or has ended, as its files were when it became ready."""
        if server.running is not None and news.run and server.running[0] == news.run:
            return server.running[1]
        launch = await self._look(server, news.spec)
        if launch is not None and news.lines is not None:
            server.running = news.run, launch
        return launch

    async def _look(self, server: _Server, spec: LaunchSpec) -> Launch | None:
        """Look at files and engine; None when that cannot be done now."""
        try:
            await self._refresh_devices()
            launch = await server.lane.run(look_at, spec, self._devices, server.launch, patience=LOOK_SECONDS)
        except CANNOT:
            return None
        server.launch = launch
        return launch if launch.fresh.identity else None

    async def _refresh_devices(self) -> None:
        now = time.monotonic()
        if now >= self._devices_at + DEVICES_SECONDS:
            self._devices_at = now
            self._devices = await self._lane.run(self._look_at_devices, patience=2 * PATIENCE)

    # Records

    async def _read(self, launch: Launch) -> bool:
        """Have all that was kept of this identity been read?"""
        identity = launch.fresh.identity
        if identity in self._records:
            return True
        try:
            async with asyncio.timeout(READ_SECONDS):
                found = await self._reader.call(partial(load_records, self._node, identity))
        except (StoreError, TimeoutError):
            return False
        self._records.setdefault(identity, {record.build: record for record in found})
        return True

    def _record(self, launch: Launch) -> Record:
        """Return what is known of this launch with this build, with the estimate of now."""
        fresh = launch.fresh
        kept = self._records.get(fresh.identity, {}).get(fresh.build)
        if kept is None:
            return fresh
        return replace(kept, estimated=fresh.estimated, model=fresh.model, flags=fresh.flags)

    def _known(self, name: str, launch: Launch) -> Known:
        """The best that is known of the launch; pages show it from now on with the server."""
        record = self._record(launch)
        link = record.identity, record.build
        records = self._records.get(record.identity)
        if records is not None:
            self._note(record)
            if self._links.get(name) != link:
                self._links[name] = self._unlinked[name] = link
                self._save_soon()
        return best(record, others_of(record, (records or {}).values()))

    def _note(self, record: Record) -> None:
        """Keep a record, if it has changed."""
        kept = self._records[record.identity]
        if kept.get(record.build) != record:
            kept[record.build] = record
            self._unsaved[record.identity, record.build] = record
            self._save_soon()

    def _take_unsaved(self) -> tuple[dict[Link, Record], dict[str, Link]]:
        taken = self._unsaved, self._unlinked
        self._unsaved, self._unlinked = {}, {}
        return taken

    def _save_soon(self) -> None:
        if not self._saving:
            self._saving = True
            self._tasks.start(self._save(), "save")

    async def _save(self) -> None:
        """Save until nothing is left. A save that fails is tried again with the next change."""
        try:
            while self._unsaved or self._unlinked:
                records, links = self._take_unsaved()
                try:
                    missing = await self._writer.call(partial(save_records, self._node, records, links))
                except StoreError:
                    self._unsaved, self._unlinked = {**records, **self._unsaved}, {**links, **self._unlinked}
                    return
                for name in missing:  # its state is not saved yet: with the next look
                    self._links.pop(name, None)
        finally:
            self._saving = False


def _number(run: Identity | None) -> str:
    """Tell a process from all others, also after a restart of the machine."""
    return "" if run is None else f"{run.boot_id} {run.pid} {run.start}"


def _devices_of_this_machine() -> Callable[[], Sequence[Device]]:
    surveyor = this_machine()
    return lambda: surveyor.survey(()).devices


def _on_bug(bug: BaseException) -> None:
    log.error("❌ [MEMORY] What servers need could not be noted", exc_info=bug)
