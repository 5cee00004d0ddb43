"""The gateway's link to the rest: what it hears from the database and the pushes, what it tells them.

Level-triggered, as the supervisor is: everything is read again every second, and at once after a push.
Neither the channel layer nor the database has to be there for requests to be answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from supervisor_app.common.database import DatabaseThread, Rows, Unchanged
from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.common.words import MISTAKE
from supervisor_app.core.machine.sockets import realm
from supervisor_app.core.tasks import Tasks
from supervisor_app.fleet.events import GATEWAYS_GROUP, PUSH_GROUP, STATUS_GROUP
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.metrics import render_metrics
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing
from supervisor_app.gateway.edge import api_keys, quarantine, sights, survey
from supervisor_app.gateway.edge.lookout import Lookout
from supervisor_app.gateway.edge.model_lists import ModelLists
from supervisor_app.gateway.edge.news import Own, adds_nothing, after_news, says_all
from supervisor_app.gateway.edge.recent_runs import RecentRuns
from supervisor_app.gateway.edge.slots import SlotCounts
from supervisor_app.gateway.edge.supervisors import Supervisors
from supervisor_app.gateway.edge.writer import RecordWriter
from supervisor_app.gateway.records.metrics import GatewayMetrics
from supervisor_app.gateway.servers.scrape import metrics_of
from supervisor_app.gateway.workers.shared_counts import SAVE_SECONDS, SharedCounts
from supervisor_app.traffic.budgets import month_of
from supervisor_app.traffic.models import quarantined_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.gateway.llama.listing import Listing
    from supervisor_app.gateway.plane.gateway import Gateway
    from supervisor_app.gateway.records.counts import Occupancy
    from supervisor_app.gateway.records.record import QuarantineEntry, Record
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts

log = logging.getLogger(__name__)

GROUPS = (STATUS_GROUP, PUSH_GROUP, GATEWAYS_GROUP)
"""The news at once; a push says that it is saved, with the number of its run and how the last one ended; a
nudge, that somebody wishes the end of a request.
"""
REFRESH_SECONDS = 1.0
HASTE_SECONDS = 0.2
"""Interval between two looks at the database after a request has lost its server, for `IN_HASTE_SECONDS`.

The next process may be ready a second later (`retry_backoff_ms`). Before another worker sees it, this one
must know why the last one died, or the same request kills both.
"""
IN_HASTE_SECONDS = 3.0
REST = 4
"""Pause after reading everything, in units of the time that it took: many servers that change one after the
other are read together.
"""
RETRY_SECONDS = 1.0


class Link:
    """`outside.Outside`. `attach` it to its gateway, then `load`, then `run`."""

    def __init__(self, overlay: Callable[[], Overlay], counts: Path | None = None) -> None:
        """`counts`: the file of this worker, when several count together."""
        self._overlay = overlay
        self._counts = counts
        self._database = DatabaseThread("gateway-read")
        self._recent = RecentRuns()
        rows = Rows(*survey.ROWS, *api_keys.ROWS, quarantined_rows, sights.wishes)
        self._known = Unchanged(self._read, rows=rows, beside=lambda: (overlay(), *self._now()))
        self._gateway: Gateway
        self._writer: RecordWriter
        self._metrics: GatewayMetrics
        self._changed = asyncio.Event()
        self._gathered: asyncio.Task[bytes] | None = None
        """The metrics, the last time that somebody asked."""
        self._name = uuid4().hex
        """Tells this gateway from others."""
        self._unsaved: list[QuarantineEntry] = []
        """Entries that the other gateways do not know yet."""
        self._database_outage = Outage(
            log,
            "⚠️ [GATEWAY] {reason}. It goes on with what it knew.",
            "✅ [GATEWAY] The database answers again",
        )
        self._news_outage = Outage(
            log,
            "⚠️ [GATEWAY] News of servers comes up to 1 s late: {reason}",
            "✅ [GATEWAY] News of servers comes at once again",
        )
        self._own = Own(uid=os.getuid(), realm=realm())
        self._in_haste_until = 0.0
        """Monotonic seconds."""
        self._was_open: bool | None = None
        """True: there were no keys at the last look."""
        self._tasks = Tasks("gateway", _complain)
        self._slots = SlotCounts(self._tasks)

    def attach(self, gateway: Gateway) -> None:
        self._gateway = gateway
        showcase = sights.Showcase(self._name, gateway.sight)
        self._supervisors = Supervisors(gateway, self._name, self._database, self._overlay, self._tasks)
        self._writer = RecordWriter(in_use=self._supervisors.in_use, publish=showcase.publish)
        shared = SharedCounts(self._counts) if self._counts is not None else None
        self._lookout = Lookout(gateway, self._changed.set)
        self._lists = ModelLists(gateway, self._keep_listing)
        self._metrics = GatewayMetrics(id_of=self._id_of, shared=shared)

    async def load(self) -> None:
        """Everything, once. Raises StoreError."""
        servers, keys, quarantined, unwanted = await self._database.call(self._known)
        gateway = self._gateway
        gateway.learn(self._lookout.judge(servers))
        self._supervisors.introduce()
        self._learn_keys(keys)
        if unwanted:
            gateway.cancel(unwanted)
        gateway.limiter.forget_others(gateway.door.keys.ids)
        gateway.inquest.quarantined.replace([*quarantined, *self._unsaved])
        for backend in gateway.backends.values():
            self._slots.look(backend)
            self._lists.look(backend)
            self._wake_if_asked_for(backend)

    def _learn_keys(self, keys: list[KeyPolicy]) -> None:
        door = self._gateway.door
        self._gateway.learn_keys(KeyRing(keys))
        if self._was_open not in (None, door.keys.is_open):  # who starts it says how it begins
            log.log(*door.who_may())
        self._was_open = door.keys.is_open

    def _now(self) -> tuple[date, bool]:
        """Return what else is read by: the month, and whether anything is in flight."""
        return month_of(self._gateway.wall_time()).first, bool(self._gateway.exchanges)

    def _read(
        self,
    ) -> tuple[dict[str, ServerFacts], list[KeyPolicy], list[QuarantineEntry], frozenset[str]]:
        servers = survey.load_facts(self._overlay(), self._recent)
        unwanted = sights.unwanted() if self._gateway.exchanges else frozenset()
        now = self._gateway.wall_time()
        return servers, api_keys.load(now), quarantine.load(now), unwanted

    async def run(self) -> None:
        """Run until cancelled; then the last records are written."""
        self._writer.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._refresh(), name="gateway-refresh")
                group.create_task(self._listen(), name="gateway-listen")
                group.create_task(self._supervisors.stop_idle(), name="gateway-idle")
                group.create_task(self._lookout.run(), name="gateway-lookout")
                group.create_task(self._supervisors.report(), name="gateway-moved")
                if self._counts is not None:
                    group.create_task(self._share_counts(), name="gateway-counts")
        finally:
            self._metrics.save({})
            await self._writer.aclose()
            self.close()

    def close(self) -> None:
        """Close the link, also one that never ran."""
        self._tasks.cancel()
        if self._gathered is not None:
            self._gathered.cancel()
        self._lists.close()
        self._database.close()

    # Messages and reads

    async def _refresh(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._changed.wait()
            self._changed.clear()
            began = monotonic()
            try:
                await self.load()
                await self._save_quarantine()
            except StoreError as error:
                self._database_outage.failed(error)
            else:
                self._database_outage.over()
            await asyncio.sleep(min(REFRESH_SECONDS, REST * (monotonic() - began)))

    @property
    def _pause(self) -> float:
        """Seconds between two looks at the database."""
        in_haste = monotonic() < self._in_haste_until
        return min(HASTE_SECONDS, REFRESH_SECONDS) if in_haste else REFRESH_SECONDS

    async def _listen(self) -> None:
        """News from supervisors: the quick way. A lost message is made good by the next refresh."""
        while True:
            try:
                layer = channel_layer()
                channel = await layer.new_channel()
                for group in GROUPS:
                    await layer.group_add(group, channel)
                self._news_outage.over()
                try:
                    while True:
                        self._hear(await layer.receive(channel))
                finally:
                    with suppress(Exception):  # a layer that is away must not swallow a cancellation
                        for group in GROUPS:
                            await layer.group_discard(group, channel)
            except Exception as error:  # any client library's own kind
                self._news_outage.failed(error)
            await asyncio.sleep(RETRY_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        """Take news as they are. Where the database may know more than a message, read it."""
        kind, backend = message["type"], self._gateway.backends.get(message.get("server", ""))
        if kind == "status.news" and self._take(message, backend):
            pass
        elif kind == "status.push" and backend is not None and adds_nothing(message, backend.facts):
            self._wake_if_asked_for(backend)
        else:
            self._changed.set()
        if message.get("draining"):
            self._supervisors.confirm(message["server"])

    def _take(self, news: dict[str, Any], backend: Backend | None) -> bool:
        """Learn from the news of a supervisor. False: the database may know more."""
        now = self._gateway.loop.time()
        before = None if backend is None else backend.facts
        after = None if before is None else after_news(before, news, now, self._own)
        if backend is None or before is None or after is None:
            return False
        self._gateway.hear(after)
        self._slots.look(backend)
        self._lists.look(backend)
        return says_all(before, after)

    def _wake_if_asked_for(self, backend: Backend) -> None:
        """Have a server started that was put to sleep while requests came."""
        if backend.facts.asleep and any(visitor.wakes for visitor in backend.gate.waiting):
            self.wake(backend.facts.name)

    # outside.Outside: for the gateway

    def wake(self, server: str) -> None:
        self._supervisors.wake(server)

    def server_lost(self) -> None:
        self._in_haste_until = monotonic() + IN_HASTE_SECONDS
        self._changed.set()

    def record(self, record: Record) -> None:
        self._metrics.observe(record)
        if record.is_kept:
            record.model_id = self._id_of(record.server, record.model)
            self._writer.put(record)

    def quarantined(self, entry: QuarantineEntry) -> None:
        log.warning("🚫 [GATEWAY] A request that %s died of is not sent again for an hour", entry.server)
        self._unsaved.append(entry)
        self._changed.set()

    async def read_models(self, *, now: bool = False, reload: bool = False) -> None:
        await self._lists.read_again(now=now, reload=reload)

    def models_changed(self, server: str) -> None:
        self._lists.forget(server)

    async def _keep_listing(self, facts: ServerFacts, listing: Listing) -> None:
        await self._database.call(partial(survey.keep_listing, facts.name, facts.launch, listing))

    async def _save_quarantine(self) -> None:
        """Raises StoreError: then the next refresh tries again."""
        while self._unsaved:
            entry = self._unsaved[0]
            await self._database.call(partial(quarantine.put, entry))
            del self._unsaved[0]
            for server in {server for server, _ in entry.deaths}:
                await self._supervisors.nudge(server)  # what it died of uses up none of its retries

    async def _share_counts(self) -> None:
        while True:
            await asyncio.to_thread(self._metrics.save, self._load())
            await asyncio.sleep(SAVE_SECONDS)

    def _load(self) -> Occupancy:
        return self._metrics.load_of(self._gateway.load())

    async def metrics(self) -> bytes:
        """Ours, each server's own, and what the database knows of all.

        Gathered once for all who ask meanwhile: nobody needs a key for it, and servers have few threads.
        """
        if self._gathered is None or self._gathered.done():
            self._gathered = asyncio.create_task(self._gather_metrics())
        return await asyncio.shield(self._gathered)

    async def _gather_metrics(self) -> bytes:
        ready = [backend for backend in self._gateway.backends.values() if backend.facts.ready]
        theirs = await asyncio.gather(*(metrics_of(backend) for backend in ready))
        try:
            known = (await self._database.call(render_metrics)).decode()
        except StoreError:
            known = ""
        return (await asyncio.to_thread(self._metrics.render, self._load(), known, *theirs)).encode()

    def _id_of(self, server: str, model: str) -> str:
        backend = self._gateway.backends.get(server)
        return backend.facts.id_of(model) if backend else ""


def _complain(error: BaseException) -> None:
    if isinstance(error, StoreError):
        log.warning("⚠️ [GATEWAY] %s", error)
    else:
        log.error("❌ [GATEWAY] %s.", MISTAKE, exc_info=error)
