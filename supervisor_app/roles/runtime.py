"""Puts a node's supervisor together: the real clock, processes, probe, store and publisher."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channels.routing import ChannelNameRouter
from channels.worker import Worker
from django.conf import settings

from supervisor_app.alerts.log_watcher import LogWatcher
from supervisor_app.alerts.sender import AlertSender
from supervisor_app.common.database import Unchanged
from supervisor_app.common.loops import run_in
from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.common.watchdog import watchdog
from supervisor_app.core.machine.clock import SystemClock
from supervisor_app.core.machine.contexts import LocalContexts
from supervisor_app.core.machine.cpus import usable_cpus
from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.ports import NodeTakenError
from supervisor_app.engine.resolve import HOW_TO_GET_ONE, Engine, EngineMissing, find_engine
from supervisor_app.fleet.conf import CONTEXTS
from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.fleet.file_servers import FileServers
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.needs import NodeFootprints
from supervisor_app.fleet.publish import ChannelPublisher
from supervisor_app.fleet.sampling import Sampler
from supervisor_app.fleet.store import OrmStore
from supervisor_app.modelfiles.keeper import ModelKeeper
from supervisor_app.roles.nudges import SupervisorConsumer
from supervisor_app.roles.store_hooks import STORE_HOOKS
from supervisor_app.traffic.passed import Tally
from supervisor_app.traffic.reuse import cached_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.fleet.lease import Lease
    from supervisor_app.gateway.edge.service import Service

log = logging.getLogger(__name__)

WORKER_RETRY_SECONDS = 1.0
WORKER_SETTLED_SECONDS = 10.0
"""A Channels worker that runs for so long has its connection: without one it fails within 5 s."""
WORKER_CHECK_SECONDS = 5.0
"""Pause between looks for consumers that failed. Channels' default, 0.1 s, is a third of all idle CPU."""


class EngineSource:
    """The command of an engine, found once: another one on PATH tomorrow must not restart a server today.

    While none is found it looks again on every call, so that installing one is all it takes.
    """

    def __init__(self, overlay: Callable[[], Overlay]) -> None:
        self._overlay = overlay
        self._engines: dict[str | None, Engine] = {}
        self._complaints: dict[str | None, str] = {}

    def __call__(self, binary: str = "") -> tuple[str, ...]:
        """`binary`: what a server names; empty: that of the node."""
        configured = binary or self._overlay().binary
        engine = self._engines.get(configured) or self._find(configured)
        if engine is not None:
            return engine.command
        # Starting a configured one that is missing fails with its name.
        return (configured,) if configured else ()

    def _find(self, configured: str | None) -> Engine | None:
        try:
            engine = find_engine(configured)
        except EngineMissing as error:
            self._complain(configured, str(error))
            return None
        if engine is None:
            self._complain(configured, f"No llama-server found. {HOW_TO_GET_ONE}")
            return None
        self._complaints.pop(configured, None)
        self._engines[configured] = engine
        log.info("🔧 [ENGINE] Using %s", engine.describe)
        return engine

    def _complain(self, configured: str | None, text: str) -> None:
        if text != self._complaints.get(configured):
            log.error("❌ [ENGINE] %s", text)
        self._complaints[configured] = text


class Runtime:
    """The supervisor of a node with its ear on the channel layer, as one task to run and to shut down."""

    def __init__(
        self,
        strangers: asyncio.AbstractEventLoop | None = None,
        *,
        node: str,
        overlay: Callable[[], Overlay],
        log_dir: Path,
        lease: Lease,
        keep_servers: bool = False,
        gateway: Service | None = None,
    ) -> None:
        """`strangers`: the event loop of pages and gateway, where it is not this one."""
        self.keep_servers = keep_servers
        """True: leave the servers running at the end."""
        self.gateway = gateway
        self._strangers = strangers
        self._node = node
        self._overlay = overlay
        self._probe = HttpProbe()
        self._store = OrmStore(
            node=node,
            overlay=FileServers(node, overlay),
            command=EngineSource(overlay),
            lease=lease,
            hooks=STORE_HOOKS,
        )
        self._footprints = NodeFootprints(node)
        tally = Tally()
        passed = Unchanged(tally, rows=tally.rows)
        self._sampler = Sampler(node, lambda: self.supervisor.vitals(), passed)
        self._contexts = LocalContexts(Path(settings.DATA_DIR, CONTEXTS), answers=self._answers)
        self.supervisor = NodeSupervisor(
            store=self._store,
            publisher=ChannelPublisher(strangers, plans=self._store.plans),
            processes=LocalProcesses(log_dir=log_dir, no_engine=HOW_TO_GET_ONE),
            probe=self._probe,
            clock=SystemClock(),
            footprints=self._footprints,
            contexts=self._contexts,
            cpus=usable_cpus(),
        )

    async def run(self) -> None:
        """Supervise until cancelled; then finish what the gateway began, and stop servers that are not kept.

        Raises what supervision (NodeTakenError among it) or the gateway raised: then the servers go on, for
        the next supervisor to take over.
        """
        beside = [
            asyncio.create_task(self._keep_hearing(), name="worker"),
            asyncio.create_task(AlertSender(node=self._node).run(), name="alerts"),
            asyncio.create_task(LogWatcher(self._node).run(), name="log-watch"),
            asyncio.create_task(ModelKeeper(self._node, self._overlay).run(), name="models"),
            asyncio.create_task(self._sampler.run(), name="samples"),
            asyncio.create_task(watchdog().watch("supervision"), name="watchdog"),
        ]
        supervision = asyncio.create_task(self.supervisor.run(), name="servers")
        vital = [supervision]
        if self.gateway is not None:
            vital.append(asyncio.create_task(run_in(self._strangers, self.gateway.serve), name="gateway"))
        try:
            done, _ = await asyncio.wait(vital, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            if self.gateway is not None:
                await run_in(self._strangers, self.gateway.stop)
            await _end(supervision)
            await (self.supervisor.release() if self.keep_servers else self.supervisor.shutdown())
            raise
        except Exception as error:
            if isinstance(error, NodeTakenError):
                log.error("❌ [NODE] %s has node %r now: ending, the servers go on", error, self._node)
            await _end(supervision)
            await self.supervisor.release()
            raise
        finally:
            await _end(*vital, *beside)
            self._probe.close()
            self._footprints.close()
            self._sampler.close()
            self._contexts.close()
            self._store.close()

    async def _answers(self, server: str, since: float, count: int) -> list[int]:
        try:
            return await self._store.reader.call(lambda: cached_tokens(server, since, count))
        except StoreError:
            return []

    def force(self) -> None:
        """End at once: somebody asked twice."""
        if self.gateway is not None:
            (self._strangers or asyncio.get_running_loop()).call_soon_threadsafe(self.gateway.force)
        self.supervisor.force()

    async def _keep_hearing(self) -> None:
        """Hear nudges over the channel layer, which is where pages and gateway are."""
        loop, supervisor = asyncio.get_running_loop(), self.supervisor

        def nudge() -> None:
            loop.call_soon_threadsafe(supervisor.nudge)

        def moved(servers: list[str]) -> None:
            loop.call_soon_threadsafe(supervisor.moved, servers)

        def waits(gateway: str, counts: dict[str, int]) -> None:
            loop.call_soon_threadsafe(supervisor.waits, gateway, counts)

        def closed(gateway: str, server: str, version: int, in_flight: int) -> None:
            loop.call_soon_threadsafe(supervisor.closed, gateway, server, version, in_flight)

        consumer: Any = SupervisorConsumer.as_asgi(nudge=nudge, moved=moved, waits=waits, closed=closed)
        await run_in(self._strangers, partial(self._keep_listening, consumer))

    async def _keep_listening(self, consumer: Any) -> None:
        """The Channels worker. It dies with its connection and of a bad message, so it is made anew."""
        channel = supervisor_channel(self._node)
        application = ChannelNameRouter({channel: consumer})
        outage = Outage(
            log,
            "⚠️ [NUDGE] Wishes are heard up to a second late: {error}",
            "✅ [NUDGE] Wishes are heard at once again",
        )
        loop = asyncio.get_running_loop()
        while True:
            settled = loop.call_later(WORKER_SETTLED_SECONDS, outage.over)
            try:
                worker = Worker(application, [channel], channel_layer())
                worker.application_checker_interval = WORKER_CHECK_SECONDS
                await worker.arun()
            except Exception as error:  # any client library's own kind: nudges are a convenience
                outage.failed(error)
            finally:
                settled.cancel()
            await asyncio.sleep(WORKER_RETRY_SECONDS)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
