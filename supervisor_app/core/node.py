"""All servers of one node: reconcile what should run with the supervisors that run."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.common.outage import Outage
from supervisor_app.common.storage import StoreError
from supervisor_app.core.beat import beat_after
from supervisor_app.core.chores import Chores
from supervisor_app.core.lifecycle.tries import spread
from supervisor_app.core.recorder import Recorder
from supervisor_app.core.room.room import Room
from supervisor_app.core.supervisor import ServerSupervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from supervisor_app.core.ports import Clock, Contexts, Footprints, Probe, Processes, Publisher, Store
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.vitals import Vitals

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Longest delay of a command whose nudge was lost."""
HEARTBEAT_SECONDS = 5.0
PRUNE_SECONDS = 3600.0
FIRST_PRUNE_SECONDS = 60.0
"""Delay of the first pruning: a start has enough to do."""
FLUSH_SECONDS = 5.0
"""Time for saving the last states at the end."""


@dataclass
class Watched:
    """Supervisor and recorder of one server, with the tasks that run them."""

    supervisor: ServerSupervisor
    recorder: Recorder
    tasks: tuple[asyncio.Task[None], ...]

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()


class NodeSupervisor:
    """Read what should run every second and on every nudge, and make it so.

    The database may be away: then the servers go on as they were last told to.
    """

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        processes: Processes,
        probe: Probe,
        clock: Clock,
        footprints: Footprints,
        contexts: Contexts,
        chance: Callable[[], float] = random.random,
        cpus: int = 1,
    ) -> None:
        """`chance` gives a number from 0 to 1, by which servers that died together start apart.

        `cpus`: those that we may use, on which depends how many servers load at a time.
        """
        self._chance = chance
        self._store = store
        self._publisher = publisher
        self._processes = processes
        self._probe = probe
        self._clock = clock
        self._footprints = footprints
        self._contexts = contexts
        self._without_context: set[str] = set()
        """Servers of which nothing is saved: what there was is deleted."""
        self._tidying: set[asyncio.Task[None]] = set()
        self._watched: dict[str, Watched] = {}
        self._nudged = asyncio.Event()
        self._forced = False
        self._store_outage = Outage(
            log,
            "❌ [STORE] {reason}. The servers go on as they are.",
            "✅ [STORE] What should run is read again, and heartbeats are written",
            level=logging.ERROR,
        )
        self._heartbeat_at = 0.0
        self._prune_at = clock.monotonic() + FIRST_PRUNE_SECONDS
        self._ports: set[int] = set()
        """Ports that were chosen for second processes of servers."""
        self.room = Room(
            clock=clock,
            look=processes.devices,
            read=processes.read_ahead,
            footprints=footprints,
            tenants=self._supervisors,
            cpus=cpus,
        )
        self._making_room: asyncio.Task[None] | None = None
        self._chores = Chores(processes, clock, self._supervisors)
        self._doing_chores: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """Reconcile now instead of within a second: something may have changed."""
        self._nudged.set()

    def moved(self, names: Iterable[str]) -> None:
        """Note that answers of these servers are passing a gateway."""
        for name in names:
            if name in self._watched:
                self._watched[name].supervisor.moved()

    def waits(self, gateway: str, counts: Mapping[str, int]) -> None:
        """Take from a gateway that it is there, and how many requests wait for servers that are not ready."""
        self.room.waits(gateway, counts)

    def closed(self, gateway: str, server: str, version: int, in_flight: int) -> None:
        """Take from a gateway that it sends a server nothing more, since this version of its snapshot."""
        self.room.closed(gateway, server, version, in_flight)

    def _spread(self) -> float:
        """Return the seconds by which a retry is later than its pause, as other servers wait for theirs."""
        waiting = sum(supervisor.state.retry_at is not None for supervisor in self._supervisors().values())
        return spread(waiting, self._chance())

    def _supervisors(self) -> Mapping[str, ServerSupervisor]:
        return {name: watched.supervisor for name, watched in self._watched.items()}

    def _neighbours(self, name: str) -> Mapping[str, ServerSupervisor]:
        """Return the supervisors of all servers but this one."""
        return {other: supervisor for other, supervisor in self._supervisors().items() if other != name}

    def vitals(self) -> Mapping[str, Vitals]:
        """Return the vital signs of the servers that run, by name."""
        return {
            name: vitals
            for name, watched in self._watched.items()
            if (vitals := watched.supervisor.vitals) is not None
        }

    def force(self) -> None:
        """End everything at once: the shutdown was asked for a second time."""
        self._forced = True
        for watched in self._watched.values():
            watched.supervisor.kill()

    async def run(self) -> None:
        """Reconcile until cancelled; `shutdown` comes after that. Raises what a task of a server raised."""
        self._doing_chores = asyncio.create_task(self._chores.run(), name="chores")
        self._doing_chores.add_done_callback(lambda _: self.nudge())
        try:
            while True:
                await self.reconcile()
                self._raise_failures()
                await self._pause()
        finally:
            self._doing_chores.cancel()

    async def reconcile(self) -> None:
        """Reconcile once."""
        self._nudged.clear()
        try:
            configs = await self._store.configs()
            await self._apply(configs)
            await self._heartbeat()
            await self._prune()
        except StoreError as error:
            self._store_outage.failed(error)

    async def shutdown(self, note: str = "The supervisor was stopped.") -> None:
        """Stop all servers together, tell every page, save. Servers that we found running stay."""
        for watched in self._watched.values():
            watched.supervisor.stop(note, spare_adopted=True)
        if self._forced:
            self.force()
        await asyncio.gather(*(watched.supervisor.idle() for watched in self._watched.values()))
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(watched.recorder.flush(FLUSH_SECONDS) for watched in self._watched.values()))
        for watched in self._watched.values():
            watched.cancel()
        self._chores.close()
        for task in (self._making_room, *self._tidying):
            if task is not None:
                task.cancel()
        tasks = [task for watched in self._watched.values() for task in watched.tasks]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def release(self) -> None:
        """End without ending the servers: save what is known; the next supervisor takes them over."""
        # A process that is just being started is written down first; one that is not is found by its port.
        settling = [asyncio.ensure_future(watched.supervisor.settled()) for watched in self._watched.values()]
        if settling:
            await asyncio.wait(settling, timeout=FLUSH_SECONDS)
        log.info("👋 The servers are left running for the next supervisor")
        await self._close()

    async def _apply(self, configs: Sequence[ServerConfig]) -> None:
        names = {config.name for config in configs}
        rules = self._store.memory_rules
        self.room.govern(rules, configs, complete=names <= self._watched.keys())
        if self._making_room is None and (self.room.is_on or self.room.in_turn):
            self._making_room = asyncio.create_task(self.room.run(), name="room")
            self._making_room.add_done_callback(lambda _: self.nudge())
        for config in configs:
            watched = self._watched.get(config.name)
            if watched is None:
                await self._add(config)
            elif watched.supervisor.leaving:  # deleted and made anew: the old one goes first
                await self._remove(config.name)
            else:
                watched.supervisor.apply(config)
        for name in self._watched.keys() - names:
            await self._remove(name)
        self._forget_contexts(configs)
        self.room.govern(rules, configs, complete=True)

    async def _add(self, config: ServerConfig) -> None:
        remembered = await self._store.remember(config.name)
        recorder = Recorder(store=self._store, publisher=self._publisher, clock=self._clock)
        supervisor = ServerSupervisor(
            config,
            remembered,
            processes=self._processes,
            probe=self._probe,
            clock=self._clock,
            footprints=self._footprints,
            contexts=self._contexts,
            recorder=recorder,
            room=self.room,
            turns=self._store,
            ports=self._ports,
            spread=self._spread,
            neighbours=lambda: self._neighbours(config.name),
        )
        tasks = (
            asyncio.create_task(supervisor.run(), name=f"{config.name}-supervisor"),
            asyncio.create_task(recorder.run(), name=f"{config.name}-recorder"),
        )
        self._watched[config.name] = Watched(supervisor, recorder, tasks)
        for task in tasks:
            task.add_done_callback(lambda _: self.nudge())

    async def _remove(self, name: str) -> None:
        """End the process of a server whose row was deleted, then forget the server."""
        watched = self._watched[name]
        if not watched.supervisor.leaving:
            log.info("🗑️ [LLAMA] %s was deleted or renamed: stopping it", name, extra={"server": name})
            watched.supervisor.leave("It was deleted or renamed.")
        elif watched.supervisor.is_idle:
            watched.cancel()
            self._chores.forget(name)
            del self._watched[name]
            self._tidy(self._contexts.forget([name]))
            await self._publisher.removed(name)

    def _forget_contexts(self, configs: Sequence[ServerConfig]) -> None:
        """Delete the conversations of servers that keep none, once they do not."""
        without = {config.name for config in configs if not config.keeps_context}
        if now_off := without - self._without_context:
            self._tidy(self._contexts.forget(now_off))
        self._without_context = without

    def _tidy(self, work: Coroutine[None, None, None]) -> None:
        """Do it beside everything else: a disk that hangs must delay nobody."""
        task = asyncio.create_task(work, name="tidy")
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    def _raise_failures(self) -> None:
        of_servers = [task for watched in self._watched.values() for task in watched.tasks]
        own = [task for task in (self._making_room, self._doing_chores) if task is not None]
        for task in (*of_servers, *own):
            if task.done() and not task.cancelled():
                task.result()

    async def _heartbeat(self) -> None:
        now = self._clock.monotonic()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            await self._store.heartbeat(list(self._watched), self._chores.take_survey())
            # Not before: on a full disk reading goes on, and each failure would be logged as the first one.
            self._store_outage.over()

    async def _prune(self) -> None:
        """Prune a portion each time until nothing is left: a save never waits for the whole."""
        now = self._clock.monotonic()
        if now < self._prune_at:
            return
        self._prune_at = now + PRUNE_SECONDS
        self._tidy(self._contexts.prune())
        if await self._store.prune():
            self._prune_at = now

    async def _pause(self) -> None:
        nudge = asyncio.create_task(self._nudged.wait())
        due = beat_after(self._clock.monotonic(), POLL_SECONDS)
        alarm = asyncio.create_task(self._clock.sleep_until(due))
        try:
            await asyncio.wait({nudge, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nudge.cancel()
            alarm.cancel()
