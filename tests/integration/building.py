"""Rows, snapshots and sockets for tests, with no more said than the test is about."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import DatabaseError, connection
from django.utils import timezone

from supervisor_app.core.changes import Change, RunEvent
from supervisor_app.core.sightings import Identity
from supervisor_app.core.status import Failure, FailureKind, LlamaStatus, Model, Status
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.publish import ChannelPublisher
from supervisor_app.gateway.access.keys import digest_of, shown_part
from supervisor_app.gateway.records.record import Outcome, Record
from supervisor_app.traffic.models import ApiKey
from tests.deadline import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STARTED = 1_750_000_000.0
"""Unix seconds, some time ago."""
IDENTITY = Identity(pid=4242, start=99, boot_id="boot-1")
OUT_OF_MEMORY = Failure(
    kind=FailureKind.OUT_OF_MEMORY,
    permanent=False,
    title="Out of memory",
    detail="failed to allocate 5.1 GiB",
    hint="Try a smaller context (-c) or model.",
)
MODEL = Model(id="m.gguf", name="m.gguf", size=5, modified_at=1_700_000_000)
JSON = "/llamaproxws?format=json"
SECRET = "sk-do-not-tell"
"""An API key that no page, error or command line may tell."""
"""Path of the socket for programs."""


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def make_server(name: str = "default", **fields: Any) -> LlamaServer:
    """The second and later ones get a port of their own."""
    fields.setdefault("port", 8134 + LlamaServer.objects.count())
    return LlamaServer.objects.create(name=name, **fields)


def make_state(server: LlamaServer, status: str = "initial", **fields: Any) -> ServerState:
    """A supervisor reports right now, unless `seen_at` says otherwise."""
    if status == "ready":
        fields.setdefault("started_at", timezone.now())
    return ServerState.objects.create(server=server, status=status, **fields)


def make_run(server: LlamaServer, **fields: Any) -> Run:
    """Make a run that ended long ago, unless `ended_at` is None."""
    fields.setdefault("started_at", at(STARTED))
    fields.setdefault("ended_at", at(STARTED + 60))
    return Run.objects.create(server=server, **fields)


def make_ready_server(name: str = "default", **fields: Any) -> LlamaServer:
    server = make_server(name)
    make_state(server, "ready", detail="Serving 1 model.", version=1, **fields)
    return server


def make_key(name: str = "chat", secret: str = "", **fields: Any) -> ApiKey:
    """Make a key that works, of a secret that does not matter unless it is given."""
    secret = secret or f"lp-{name}"
    digest = digest_of(secret).hex()
    return ApiKey.objects.create(name=name, prefix=shown_part(secret), digest=digest, **fields)


def make_record(**fields: Any) -> Record:
    """A request that was answered, of which no more is known than there must be."""
    known: dict[str, Any] = {
        "at": STARTED,
        "server": "default",
        "model": "qwen3",
        "key": None,
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": Outcome.OK,
    }
    return Record(**known | fields)


def long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def change(
    name: str = "default",
    *events: RunEvent,
    status: Status = Status.INITIAL,
    identity: Identity | None = None,
    generation: int = 0,
    **fields: Any,
) -> Change:
    return Change(
        snapshot=LlamaStatus(name=name, status=status, **fields),
        identity=identity,
        generation=generation,
        run_events=events,
    )


def let_everybody_in(path: Path) -> None:
    """Open it to other users, and every folder of this test run on the way to it."""
    for each in (path, *path.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)


def environment_without(*names: str) -> dict[str, str]:
    """Return this process's environment, for another one, without these variables."""
    return {name: value for name, value in os.environ.items() if name not in names}


def wait_until(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait until the condition is true, and return what it returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


async def eventually(condition: Callable[[], Any], seconds: float = DEADLINE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def db(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A synchronous call of the ORM from a coroutine."""
    return await database_sync_to_async(call)(*args, **kwargs)


@contextlib.asynccontextmanager
async def database_away() -> AsyncIterator[list[str]]:
    """Let every statement of the thread that sockets share fail; yield those that did."""
    failed: list[str] = []

    def fail(execute: Any, sql: str, *rest: Any) -> None:
        failed.append(sql)
        raise DatabaseError("gone")

    await db(lambda: connection.execute_wrappers.append(fail))
    try:
        yield failed
    finally:
        await db(lambda: connection.execute_wrappers.clear())


class PatientSocket(WebsocketCommunicator):  # type: ignore[misc]  # channels has no types
    """A WebSocket whose messages may take as long as a busy machine needs, not one second."""

    async def receive_output(self, timeout: float = DEADLINE) -> Any:
        return await super().receive_output(timeout)

    async def receive_from(self, timeout: float = DEADLINE) -> Any:
        return await super().receive_from(timeout)

    async def disconnect(self, code: int = 1000, timeout: float = DEADLINE) -> None:
        await super().disconnect(code, timeout)


@contextlib.asynccontextmanager
async def socket_to(
    path: str = "/llamaproxws", headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[WebsocketCommunicator]:
    """An open WebSocket."""
    from llamaproxy.asgi import application

    client = PatientSocket(application, path, headers)
    accepted, code = await client.connect(timeout=DEADLINE)
    assert accepted, code
    try:
        yield client
    finally:
        await client.disconnect()


async def push(name: str = "default", version: int = 2, **fields: Any) -> None:
    await ChannelPublisher().publish(LlamaStatus(name=name, version=version, **fields))


async def everything(client: WebsocketCommunicator, quiet: float = 0.3) -> list[str]:
    """All that it is sent until it is quiet."""
    said = []
    while not await client.receive_nothing(quiet):
        said.append(await client.receive_from())
    return said


async def until(client: WebsocketCommunicator, wanted: str) -> str:
    """The first message with that in it."""
    async with asyncio.timeout(DEADLINE):
        while wanted not in (said := await client.receive_from(timeout=DEADLINE)):
            pass
    return said
