"""`core.ports.Store` on the ORM. Every transaction of the supervisor is in this file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from channels.db import DatabaseSyncToAsync
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from supervisor_app.conf import Overlay, resolve
from supervisor_app.core.ports import (
    Change,
    Remembered,
    RunClosed,
    RunEvent,
    RunOpened,
    RunReady,
    ServerConfig,
    StoreError,
)
from supervisor_app.core.timeline import LENGTH
from supervisor_app.models import LlamaServer, Run, ServerState
from supervisor_app.snapshots import columns_of, identity_of_row, moment, summary_of

T = TypeVar("T")
PAST_LOADS = 5


class OrmStore:
    """Reads and writes in two threads of its own, each with its own connection.

    Not in the thread that all consumers share: a database that is locked for seconds would freeze every
    page. Not in one thread: what should run can be read while a write waits for the lock.
    """

    def __init__(
        self, *, node: str, overlay: Callable[[], Overlay], command: Callable[[], tuple[str, ...]]
    ) -> None:
        self._node = node
        self._overlay = overlay
        self._command = command
        self._cwd = os.getcwd()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._writers = ThreadPoolExecutor(1, thread_name_prefix="store-write")

    async def configs(self) -> Sequence[ServerConfig]:
        return await _call(self._readers, self._configs)

    async def remember(self, name: str) -> Remembered:
        return await _call(self._readers, lambda: _remember(name))

    async def save(self, change: Change) -> None:
        await _call(self._writers, lambda: _save(self._node, change))

    async def heartbeat(self, names: Sequence[str]) -> None:
        await _call(self._writers, lambda: _heartbeat(names))

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=False, cancel_futures=True)

    def _configs(self) -> list[ServerConfig]:
        servers = LlamaServer.objects.on_node(self._node)
        overlay, command = self._overlay(), self._command()
        return [resolve(server, overlay, command=command, cwd=self._cwd) for server in servers]


async def _call(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    def guarded() -> T:
        try:
            return work()
        except (DatabaseError, InterfaceError) as error:
            raise StoreError(f"The database failed: {error}") from error

    result: T = await DatabaseSyncToAsync(guarded, thread_sensitive=False, executor=threads)()
    return result


def _remember(name: str) -> Remembered:
    state = ServerState.objects.filter(server__name=name).first()
    runs = list(Run.objects.filter(server__name=name)[:LENGTH])
    # Not always one of the newest: an adopted process may be older than all that we have started.
    open_run = Run.objects.filter(server__name=name).open().first()
    loads = (
        Run.objects.filter(server__name=name, adopted=False)
        .reached_ready()
        .values_list("started_at", "ready_at")[:PAST_LOADS]
    )
    return Remembered(
        version=state.version if state else 0,
        generation=state.generation if state else 0,
        retries=state.retries if state else 0,
        identity=identity_of_row(open_run) if open_run else None,
        run_open=open_run is not None,
        adopted=open_run.adopted if open_run else False,
        argv=tuple(open_run.argv) if open_run else (),
        runs=tuple(summary_of(run) for run in runs),
        load_seconds=tuple((ready - started).total_seconds() for started, ready in loads if ready),
    )


@transaction.atomic
def _save(node: str, change: Change) -> None:
    """State and history in one transaction: after a kill -9 they tell the same story."""
    server = LlamaServer.objects.filter(name=change.snapshot.name, node=node).first()
    if server is None:
        return
    columns = columns_of(change.snapshot, change.identity, change.generation)
    ServerState.objects.update_or_create(server=server, defaults=storable(columns))
    for event in change.run_events:
        _write(server, event)


def _write(server: LlamaServer, event: RunEvent) -> None:
    open_run = server.runs.open()
    match event:
        case RunOpened():
            # One that nobody closed belongs to a life that nobody saw the end of.
            open_run.update(ended_at=moment(event.started_at))
            identity = event.identity
            Run.objects.create(
                server=server,
                pid=identity.pid if identity else None,
                process_start=identity.start if identity else None,
                boot_id=identity.boot_id if identity else "",
                argv=storable(list(event.argv)),
                adopted=event.adopted,
                retry=event.retry,
                started_at=datetime.fromtimestamp(event.started_at, UTC),
            )
        case RunReady():
            open_run.filter(ready_at=None).update(ready_at=moment(event.at))
        case RunClosed():
            failure = event.failure
            open_run.update(
                ended_at=moment(event.at),
                exit_code=event.exit.code,
                signal=event.exit.signal,
                failure_kind=failure.kind.value if failure else "",
                failure_title=failure.title if failure else "",
                failure_detail=storable(failure.detail) if failure else "",
                failure_hint=failure.hint if failure else "",
                last_lines=storable("\n".join(event.last_lines)),
            )


def storable(value: Any) -> Any:
    """Without what no database takes but a command line or an answer may hold: NULs, half surrogate pairs."""
    match value:
        case str():
            return value.replace("\0", "").encode("utf-8", "replace").decode()
        case list():
            return [storable(item) for item in value]
        case dict():
            return {key: storable(item) for key, item in value.items()}
    return value


def _heartbeat(names: Sequence[str]) -> None:
    ServerState.objects.filter(server__name__in=names).update(seen_at=timezone.now())
