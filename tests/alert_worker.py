"""A process among several that share a database: makes incidents, or sends what is due."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
django.setup()

from supervisor_app.alerts.models import AlertChannel, Delivery  # noqa: E402
from supervisor_app.alerts.sender import AlertSender  # noqa: E402
from supervisor_app.core.changes import Change  # noqa: E402
from supervisor_app.core.diagnosis.explanations import failure_of  # noqa: E402
from supervisor_app.core.status import FailureKind, LlamaStatus, Status  # noqa: E402
from supervisor_app.fleet.models import LlamaServer  # noqa: E402
from supervisor_app.fleet.store import _save  # noqa: E402
from supervisor_app.roles.store_hooks import STORE_HOOKS  # noqa: E402

DEATH = failure_of(FailureKind.EXITED, "with code 1")


def save(server: LlamaServer, status: Status) -> None:
    failure = DEATH if status is Status.CRASHED else None
    now = time.time() if status is Status.READY else None
    snapshot = LlamaStatus(name=server.name, status=status, failure=failure, started_at=now, ready_at=now)
    _save(server.node, Change(snapshot=snapshot, identity=None, generation=1), STORE_HOOKS.follow)


def seed(url: str, servers: int, channels: int) -> None:
    """Every server went down, came up, went down and came up."""
    for number in range(channels):
        AlertChannel.objects.create(name=f"channel-{number}", url=f"{url}/{number}")
    for number in range(servers):
        server = LlamaServer.objects.create(name=f"server-{number}", port=9000 + number, stable_after_ms=3000)
        for status in (Status.CRASHED, Status.STARTING, Status.READY, Status.CRASHED, Status.READY):
            save(server, status)


async def work(seconds: float, count: int) -> None:
    """Send until so many are sent, at most so long."""
    end = time.monotonic() + seconds
    task = asyncio.create_task(AlertSender(node=f"node-{os.getpid()}").run())
    while time.monotonic() < end and await Delivery.objects.filter(state="sent").acount() < count:
        await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["seed", url, servers, channels]:
            seed(url, int(servers), int(channels))
        case ["work", seconds, count]:
            asyncio.run(work(float(seconds), int(count)))
