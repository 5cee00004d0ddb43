"""`core.ports.Store` on the ORM, with every transaction of the supervisor."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from supervisor_app.common.database import DatabaseThread, Rows, Unchanged
from supervisor_app.common.moments import moment, seconds
from supervisor_app.common.storage import storable
from supervisor_app.core.changes import (
    Change,
    ContextCounted,
    Remembered,
    RoomCounted,
    RunClosed,
    RunEvent,
    RunOpened,
    RunReady,
)
from supervisor_app.core.context.rules import not_kept
from supervisor_app.core.loaded import Loaded
from supervisor_app.core.status import Status
from supervisor_app.core.timeline import LENGTH
from supervisor_app.engine.build import told_build
from supervisor_app.fleet import retention, span_record, turns
from supervisor_app.fleet.conf import LAUNCH_FIELDS, Overlay, apply_overlay, resolve
from supervisor_app.fleet.engines import UnknownEngineError, engine_of
from supervisor_app.fleet.models import LlamaServer, RestartTurn, Run, ServerState, default_of, ports_of
from supervisor_app.fleet.planned import KnownPlans
from supervisor_app.fleet.snapshots import (
    columns_of,
    failure_from_json,
    identity_of_row,
    replacement_from_json,
    summary_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.memory_rules import MemoryRules
    from supervisor_app.core.ports import TurnHolder
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.fleet.lease import Lease

PAST_LOADS = 20
DEFAULT_LAUNCH = {name: default_of(name) for name in LAUNCH_FIELDS}
"""Launch in which fields stand that a run of an older version does not tell of."""
FOLLOWED = ("name", "node", "desired_running", "stable_after_ms", "api_key", "own_key")
"""Columns of a server that those who follow its state go by: it has fifty more, and each save reads it."""
ISOLATED = not_kept("an API key isolates its prompts here, so nobody is served from the cache")


class Follow(Protocol):
    def __call__(self, server: LlamaServer, change: Change, *, now: float) -> None:
        """See what a change means; `now` in Unix seconds. Raises what the database raises."""


class EngineCommand(Protocol):
    """The command of an engine: of `binary`, else of the node; empty without one."""

    def __call__(self, binary: str = ...) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True)
class StoreHooks:
    """Parts that apps above this one have in the store: they know the fleet, which does not know them."""

    follow: Follow
    """Called in the transaction that saves a change."""
    explained: Callable[[datetime], Mapping[str, frozenset[int]]]
    """Pids that a request in quarantine has killed, by the name of their server."""
    isolated: Callable[[LlamaServer], bool]
    """Is the server shared with a key whose prompts nobody else may find in its cache?"""
    rows: Sequence[Callable[[], QuerySet[Any, Any]]]
    """Rows on which `explained` and `isolated` depend."""
    prune: Callable[[datetime], bool]
    """Delete some rows that are too old. True: there may be more to delete."""


class OrmStore:
    """Reads and writes in two threads of its own.

    Not in the thread that all consumers share: a database that is locked for seconds would freeze every
    page. Not in one thread: what should run can be read while a write waits for the lock.
    """

    def __init__(
        self,
        *,
        node: str,
        overlay: Callable[[], Overlay],
        command: EngineCommand,
        lease: Lease,
        hooks: StoreHooks,
    ) -> None:
        self._node = node
        self._hooks = hooks
        self._lease = lease
        self._overlay = overlay
        self._command = command
        self._cwd = os.getcwd()
        self.memory_rules: MemoryRules | None = None
        self.reader = DatabaseThread("store-read")
        rows = Rows(lambda: LlamaServer.objects.order_by("pk").values_list(), _ports, *hooks.rows)
        self._known = Unchanged(self._configs, rows=rows, beside=self._files)
        self._writer = DatabaseThread("store-write")
        self.plans = KnownPlans()
        """Maintenance, as the last heartbeat has seen it."""

    async def configs(self) -> Sequence[ServerConfig]:
        return await self.reader.call(self._known)

    async def remember(self, name: str) -> Remembered:
        return await self.reader.call(lambda: _remember(name))

    async def save(self, change: Change) -> None:
        await self._writer.call(lambda: _save(self._node, change, self._hooks.follow))

    async def heartbeat(self, names: Sequence[str], devices: Survey | None = None) -> None:
        await self._writer.call(lambda: _heartbeat(self._lease, names, devices))
        await self.reader.call(self.plans.look)

    async def acquire_turn(self, name: str, aliases: Sequence[str]) -> TurnHolder | None:
        return await self._writer.call(lambda: turns.acquire(name, aliases))

    async def release_turn(self, name: str) -> None:
        await self._writer.call(lambda: turns.release(name))

    async def prune(self) -> bool:
        return await self._writer.call(self._prune)

    def close(self) -> None:
        self.reader.close()
        self._writer.close()

    def _prune(self) -> bool:
        now = timezone.now()
        return retention.prune(self._node, now) or self._hooks.prune(now)

    def _files(self) -> tuple[Overlay, Sequence[tuple[str, ...]]]:
        """Return what files say, and the engines of theirs that are there by now."""
        overlay = self._overlay()
        binaries = {engine.binary for engine in overlay.engines.values()}
        binaries |= {server.binary for server in overlay.servers.values()}
        return overlay, [self._command(), *map(self._command, sorted(binaries - {""}))]

    def _configs(self) -> list[ServerConfig]:
        overlay, command = self._overlay(), self._command()
        self.memory_rules = overlay.memory
        fleet = list(LlamaServer.objects.all())
        servers = [server for server in fleet if server.node == self._node]
        for server in fleet:
            apply_overlay(server, overlay)
        names = {server.name: turns.names_of(server) for server in fleet}
        explained = self._hooks.explained(timezone.now())
        taken = ports_of(self._node)
        spare = tuple(port for port in overlay.ports if port not in taken)
        configs = []
        for server in servers:
            engine = self._engine_of(server, overlay, command)
            config = resolve(server, overlay, command=engine, cwd=self._cwd)
            refusal = config.context_refusal
            if config.keeps_context and self._hooks.isolated(server):
                refusal = ISOLATED
            known = explained.get(server.name, frozenset())
            ports = (server.port, *spare) if server.port_is_chosen else ()
            configs.append(
                replace(
                    config,
                    explained=known,
                    context_refusal=refusal,
                    spare_ports=ports,
                    shared_names=turns.shared_names(server.name, names),
                )
            )
        return configs

    def _engine_of(self, server: LlamaServer, overlay: Overlay, command: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command of a server's engine, by default that of the node; empty: there is none."""
        try:
            binary = engine_of(server, overlay).binary
        except UnknownEngineError:
            return ()
        return self._command(binary) if binary else command


def _ports() -> QuerySet[ServerState, Any]:
    return ServerState.objects.order_by("pk").values_list("pk", "port")


@dataclass(frozen=True, kw_only=True)
class _Past:
    """Runs of a server that are remembered for more than the list of the newest."""

    open: Run | None
    """Not always one of the newest: an adopted process may be older than all that we have started."""
    good: Run | None
    """The last one that was ready."""
    loads: Sequence[Run]
    """Runs of our own starts that were ready, newest first."""

    @classmethod
    def of_all(cls, runs: Sequence[Run]) -> _Past:
        """Choose among all runs of a server, newest first."""
        ready = [run for run in runs if run.ready_at is not None]
        return cls(
            open=next((run for run in runs if run.ended_at is None), None),
            good=next(iter(ready), None),
            loads=[run for run in ready if not run.adopted],
        )

    @classmethod
    def load(cls, name: str) -> _Past:
        runs = Run.objects.filter(server__name=name)
        ready = runs.reached_ready()
        loads = ready.filter(adopted=False).only("argv", "started_at", "ready_at")
        return cls(open=runs.open().first(), good=ready.first(), loads=list(loads[:PAST_LOADS]))


def _remember(name: str) -> Remembered:
    state = ServerState.objects.filter(server__name=name).first()
    runs = list(Run.objects.filter(server__name=name)[:LENGTH])
    past = _Past.of_all(runs) if len(runs) < LENGTH else _Past.load(name)
    open_run, good = past.open, past.good
    return Remembered(
        version=state.version if state else 0,
        generation=state.generation if state else 0,
        status=Status(state.status) if state else Status.INITIAL,
        seen_at=state.seen_at.timestamp() if state else None,
        down_since=seconds(state.down_since) if state else None,
        retries=state.retries if state else 0,
        deaths=tuple(run.pid or 0 for run in reversed(runs) if run.ended_at and run.failure_kind),
        failure=failure_from_json(state.failure) if state else None,
        identity=identity_of_row(open_run) if open_run else None,
        run_open=open_run is not None,
        adopted=open_run.adopted if open_run else False,
        argv=tuple(open_run.argv) if open_run else (),
        secrets=open_run.secrets if open_run else "",
        replacement=replacement_from_json(state.replacement) if state else None,
        port=state.port if state else None,
        runs=tuple(summary_of(run) for run in runs),
        last_good={**DEFAULT_LAUNCH, **good.launch} if good and good.launch else None,
        holds_turn=RestartTurn.objects.filter(holder__name=name).exists(),
        loads=tuple(
            (tuple(run.argv), (run.ready_at - run.started_at).total_seconds())
            for run in past.loads[:PAST_LOADS]
            if run.ready_at
        ),
    )


@transaction.atomic
def _save(node: str, change: Change, follow: Follow) -> None:
    """State and history in one transaction: after a kill -9 they tell the same story."""
    server = LlamaServer.objects.only(*FOLLOWED).filter(name=change.snapshot.name, node=node).first()
    if server is None:
        return
    row = ServerState.objects.filter(server=server)
    columns = columns_of(change.snapshot, change.identity, change.generation) | {"port": change.port}
    columns = storable(columns) | _counted(row, change.run_events)
    if not row.update(**columns, seen_at=Now()):
        ServerState.objects.create(server=server, **columns)
        row.update(seen_at=Now())
    for event in change.run_events:
        _write(server, event)
    span_record.record(server, change.spans)
    follow(server, change, now=time.time())


def _counted(row: QuerySet[ServerState], events: Sequence[RunEvent]) -> dict[str, Any]:
    """Return the counters that events change, and their new values.

    Only this supervisor writes the row, so what was read a moment ago still holds.
    """
    starts = sum(isinstance(event, RunOpened) and not event.adopted for event in events)
    failures = Counter(
        event.failure.kind.value for event in events if isinstance(event, RunClosed) and event.failure
    )
    contexts, loads = Counter[str](), Counter[str]()
    for event in events:
        match event:
            case ContextCounted():
                contexts.update(event.counts)
            case RoomCounted():
                loads[event.outcome.value] += 1
            case RunReady(loaded=Loaded() as loaded):
                loads.update(loads=1, room_ms=loaded.room_ms, load_ms=loaded.load_ms)
    news = {"failures": failures, "contexts": contexts, "loads": loads}
    if not (starts or any(news.values())):
        return {}
    known = row.values("starts", *news).first() or {}
    counters = {name: dict(Counter(known.get(name, {})) + more) for name, more in news.items()}
    return {"starts": known.get("starts", 0) + starts, **counters}


def _write(server: LlamaServer, event: RunEvent) -> None:
    open_run = server.runs.open()
    match event:
        case RunOpened():
            # A run that nobody closed belongs to a process whose end nobody saw.
            open_run.update(ended_at=moment(event.started_at))
            identity = event.identity
            Run.objects.create(
                server=server,
                pid=identity.pid if identity else None,
                process_start=identity.start if identity else None,
                boot_id=identity.boot_id if identity else "",
                argv=storable(list(event.argv)),
                launch=storable(dict(event.launch)),
                secrets=event.secrets,
                environment=storable(dict(event.environment)),
                build=told_build(event.argv),
                adopted=event.adopted,
                retry=event.retry,
                started_at=moment(event.started_at),
            )
        case RunReady():
            open_run.filter(ready_at=None).update(
                ready_at=moment(event.at), loaded=event.loaded.as_json() if event.loaded else {}
            )
        case ContextCounted() | RoomCounted():
            pass  # counted beside the history
        case RunClosed():
            failure = event.failure
            _name_build(open_run)
            open_run.update(
                ended_at=moment(event.at),
                exit_code=event.exit.code,
                signal=event.exit.signal,
                failure_kind=failure.kind.value if failure else "",
                failure_title=failure.title if failure else "",
                failure_detail=storable(failure.detail) if failure else "",
                failure_hint=failure.hint if failure else "",
                last_lines=storable("\n".join(event.last_lines)),
                evidence=storable(dict(event.evidence)),
                note=storable(event.note),
            )


def _name_build(runs: QuerySet[Run]) -> None:
    """Note the build of runs that began before their engine had said it."""
    for run in runs.filter(build="").exclude(argv=[]):
        runs.filter(pk=run.pk).update(build=told_build(run.argv))


@transaction.atomic
def _heartbeat(lease: Lease, names: Sequence[str], devices: Survey | None) -> None:
    lease.renew(None if devices is None else storable(devices.as_json()))
    ServerState.objects.filter(server__name__in=names).update(seen_at=Now())
