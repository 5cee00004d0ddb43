"""Pages of many servers in many tabs: `python -m tests.bench.tabs [--servers 1 50 150] [--tabs 1 200]`.

Rows in a SQLite database, the hub and the sockets of all tabs in one process, without a network. All tabs open at
once; then every server changes a few times in a row. It is settled once each tab shows the last of each server.
The ratio is to the first line: of a page that grows with its servers alone, `seconds` grows with their product at
most, and bytes a tab and server do not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

CHANGES = 5
"""Changes of each server in the burst."""
GIVE_UP_SECONDS = 120.0
SHOWN = re.compile(r'data-name="([\w-]+)"[^>]* data-version="(\d+)"')


class Tab:
    """A page with a socket: it takes all that it is sent, and notes what it shows."""

    def __init__(self) -> None:
        self.bytes = 0
        self.messages = 0
        self.shown: dict[str, int] = {}
        self._begun = False

    async def receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "websocket.connect"}
        return await asyncio.Future()

    async def send(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        if text:
            self.bytes += len(text.encode())
            self.messages += 1
            self.shown.update((name, int(version)) for name, version in SHOWN.findall(text))


@dataclass(frozen=True)
class Cost:
    """The cost of one step, until all tabs have settled."""

    seconds: float
    cpu: float
    bytes: int
    messages: int


async def cost_of(
    work: Callable[[], Awaitable[object]], tabs: Sequence[Tab], version: int, servers: int
) -> Cost:
    for tab in tabs:
        tab.bytes = tab.messages = 0
    began, used = time.monotonic(), time.process_time()
    await work()
    while not all(len(tab.shown) == servers and min(tab.shown.values()) >= version for tab in tabs):
        if time.monotonic() - began > GIVE_UP_SECONDS:
            raise SystemExit(
                f"{servers} servers in {len(tabs)} tabs do not settle in {GIVE_UP_SECONDS:.0f} s"
            )
        await asyncio.sleep(0.005)
    return Cost(
        time.monotonic() - began,
        time.process_time() - used,
        sum(tab.bytes for tab in tabs),
        sum(tab.messages for tab in tabs),
    )


def make_rows(servers: int) -> list[str]:
    from django.utils import timezone

    from supervisor_app.fleet.models import LlamaServer, ServerState

    LlamaServer.objects.all().delete()
    rows = [LlamaServer(name=f"s{number:03}", port=10_000 + number) for number in range(servers)]
    rows = LlamaServer.objects.bulk_create(rows)
    ServerState.objects.bulk_create(
        ServerState(server=row, status="ready", version=1, started_at=timezone.now()) for row in rows
    )
    return [row.name for row in rows]


async def measure(names: Sequence[str], count: int) -> tuple[Cost, Cost]:
    from llamaproxy.asgi import application
    from supervisor_app.core.status import LlamaStatus, Status
    from supervisor_app.fleet.publish import ChannelPublisher

    scope = {"type": "websocket", "path": "/llamaproxws", "query_string": b"", "headers": []}
    tabs = [Tab() for _ in range(count)]
    sockets: list[asyncio.Future[Any]] = []
    publisher = ChannelPublisher()

    async def open_all() -> None:
        sockets.extend(asyncio.ensure_future(application(dict(scope), tab.receive, tab.send)) for tab in tabs)

    async def change_all() -> None:
        for version in range(2, 2 + CHANGES):
            for name in names:
                status = LlamaStatus(name=name, status=Status.STARTING, detail="Loading.", version=version)
                await publisher.publish(status)

    try:
        opened = await cost_of(open_all, tabs, 1, len(names))
        await asyncio.sleep(0.5)
        changed = await cost_of(change_all, tabs, 1 + CHANGES, len(names))
    finally:
        for socket in sockets:
            socket.cancel()
        await asyncio.gather(*sockets, return_exceptions=True)
    return opened, changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 50, 150])
    parser.add_argument("--tabs", type=int, nargs="+", default=[1, 200])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ.update(DJANGO_SETTINGS_MODULE="llamaproxy.settings", LLAMAPROXY_DATA_DIR=directory)
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        print(f"{os.cpu_count()} cores; Python {sys.version.split()[0]}; {CHANGES} changes of each server")
        print(f"{'servers':>7} {'tabs':>4}  {'step':<6}{'seconds':>8}{'ratio':>7}{'CPU':>8}{'MB':>8}{'messages':>9}"
              f"{'bytes a tab and server':>24}")  # fmt: skip
        first: dict[str, Cost] = {}
        for servers in options.servers:
            names = make_rows(servers)
            for tabs in options.tabs:
                opened, changed = asyncio.run(measure(names, tabs))
                for step, cost in (("open", opened), ("change", changed)):
                    base = first.setdefault(step, cost)
                    each = cost.bytes / tabs / servers
                    print(f"{servers:>7} {tabs:>4}  {step:<6}{cost.seconds:>8.2f}{cost.seconds / base.seconds:>6.0f}×"
                          f"{cost.cpu:>8.2f}{cost.bytes / 1e6:>8.1f}{cost.messages:>9}{each:>24.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
