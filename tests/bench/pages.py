"""Pages as browsers have them: `python -m tests.bench.pages [--tabs 200] [--servers 20] [--rounds 7]`.

*Push*: all servers change at once, and the time runs from when their rendered pushes are handed to the channel layer
until the last tab has the last of them, through Daphne and real sockets. Beside it, in the same process and in
turns, two bare hubs that compare nothing, remember nothing and send each tab each rendered row: a loop over the
sockets, and a Channels group.

*Bytes*: each page with its styles and scripts, as it is served to a browser with an empty cache.

*Overview*: 200 servers with a year of spans, rendered in this process; its queries must not grow with servers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin

import psutil
import requests
from websockets.asyncio.client import ClientConnection, connect

from tests.acceptance.children import MANAGE, environment, listens, wait_for
from tests.pictures import LOGIN
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AIM_RATIO, AIM_BYTES = 1.5, 150_000
GIVE_UP_SECONDS = 60.0
HUBS = {"ours": "llamaproxy", "loop": "a loop", "group": "a group"}
PAGES = ("", "alerts/", "requests/", "servers/{name}/", "servers/{name}/log/", "servers/{name}/requests/")
PAGES += ("servers/{name}/runs/", "servers/{name}/availability", "admin/login/")
NAMES = "from supervisor_app.fleet.models import LlamaServer; print(*LlamaServer.objects.values_list('name', flat=True))"
LINKED = re.compile(r'<(?:link rel="stylesheet" href|script[^>]* src)="([^"]+)"')
IMPORTED = re.compile(r'(?:^|[;\s])import\s*(?:[^"\']*?from\s*)?["\'](\.[^"\']+)["\']', re.MULTILINE)
SHOWN = re.compile(r'id="state-([\w-]+)"[^>]* data-version="(\d+)"')


# --- The served side: the product, and a bare hub beside it --------------------------------------------


def serve(port: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    import daphne.server  # noqa: F401  (the product guards it where it is there before)

    from llamaproxy.asgi import application
    from supervisor_app.web.guarded import GuardedServer

    hub = _bare_hub()
    bare = hub.as_asgi()

    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bare":
            await bare(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/change/"):
            _, _, what, version, *names = scope["path"].split("/")
            pushes = await asyncio.to_thread(_render, names, int(version))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(time.monotonic()).encode()})
            works = {"ours": _publish, "loop": _send_in_a_loop, "group": _send_to_a_group}
            await works[what](pushes)
        else:
            await application(scope, receive, send)

    GuardedServer(application=both, endpoints=[f"tcp:port={port}:interface=127.0.0.1"]).run()


_sockets: list[Any] = []


def _bare_hub() -> Any:
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Bare(AsyncWebsocketConsumer):  # type: ignore[misc]
        groups = ["bare"]

        async def connect(self) -> None:
            await self.accept()
            _sockets.append(self)

        async def bare_message(self, event: dict[str, Any]) -> None:
            await self.send(text_data=event["text"])

    return Bare


async def _send_in_a_loop(pushes: Sequence[Any]) -> None:
    for push in pushes:
        for socket in _sockets:
            await socket.send(text_data=push["row"])


async def _send_to_a_group(pushes: Sequence[Any]) -> None:
    from channels.layers import get_channel_layer

    for push in pushes:
        await get_channel_layer().group_send("bare", {"type": "bare.message", "text": push["row"]})


def _render(names: Sequence[str], version: int) -> list[Any]:
    """Render what a supervisor pushes; it does so in its own process."""
    from supervisor_app.core.status import LlamaStatus, Status
    from supervisor_app.fleet.events import render_push
    from supervisor_app.fleet.snapshots import ServerView

    states = [
        LlamaStatus(name=name, status=Status.READY, detail="Serving 1 model.", version=version)
        for name in names
    ]
    return [render_push(ServerView(status=status)) for status in states]


async def _publish(pushes: Sequence[Any]) -> None:
    from supervisor_app.fleet.events import PUSH_GROUP
    from supervisor_app.fleet.layers import channel_layer

    for push in pushes:
        await channel_layer().group_send(PUSH_GROUP, dict(push))


class Served(NamedTuple):
    """A process that serves pages: its address, the names of its servers, the session of a member of the staff."""

    address: str
    process: psutil.Process
    names: list[str]
    session: str


@contextmanager
def served(servers: int) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="pages-") as directory:
        env, port = environment(LLAMAPROXY_DATA_DIR=f"{directory}/var"), free_port()
        for command in ([str(MANAGE), "migrate", "--verbosity", "0"], ["-m", "tests.scenes", str(servers)]):
            subprocess.run([sys.executable, *command], env=env, cwd=MANAGE.parent, check=True)
        shell = [sys.executable, str(MANAGE), "shell", "--verbosity", "0", "--command", LOGIN + NAMES]
        found = subprocess.run(shell, env=env, cwd=MANAGE.parent, check=True, capture_output=True, text=True)
        command = [sys.executable, "-m", "tests.bench.pages", "--serve", str(port)]
        process = subprocess.Popen(command, env=env, cwd=MANAGE.parent)
        try:
            wait_for("the pages are served", lambda: listens(port), lambda: "")
            session, *names = found.stdout.split()
            yield Served(f"127.0.0.1:{port}", psutil.Process(process.pid), names, session)
        finally:
            process.terminate()
            process.wait()


# --- Push ----------------------------------------------------------------------------------------------


class Tab:
    """A socket that takes all that it is sent."""

    def __init__(self) -> None:
        self.bytes = self.messages = 0
        self.shown: dict[str, int] = {}

    async def listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            assert isinstance(text, str)
            self.bytes += len(text)
            self.messages += 1
            self.shown.update((name, int(version)) for name, version in SHOWN.findall(text))

    def has(self, names: Sequence[str], version: int) -> bool:
        return all(self.shown.get(name, 0) >= version for name in names)


async def settled(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > GIVE_UP_SECONDS:
            raise SystemExit(f"The tabs do not settle in {GIVE_UP_SECONDS:.0f} s.")
        await asyncio.sleep(0.001)


async def open_tabs(address: str, path: str, count: int) -> tuple[list[Tab], list[asyncio.Task[None]]]:
    tabs, tasks = [Tab() for _ in range(count)], []
    for tab in tabs:
        socket = await connect(f"ws://{address}{path}", max_size=None, compression=None, ping_interval=None)
        tasks.append(asyncio.create_task(tab.listen(socket)))
    return tabs, tasks


async def push(address: str, process: psutil.Process, names: list[str], count: int, rounds: int) -> float:
    """Print what a push costs, and return its ratio to that of the bare hub."""
    ours, tasks = await open_tabs(address, "/llamaproxws?view=rows", count)
    bare, more = await open_tabs(address, "/bare", count)
    await settled(lambda: all(len(tab.shown) == len(names) for tab in ours))
    took, cpu = {key: list[float]() for key in HUBS}, {key: list[float]() for key in HUBS}
    sent = dict.fromkeys(HUBS, "")
    for turn in range(2, rounds + 3):
        for place, hub in enumerate(HUBS):
            version = turn * len(HUBS) + place
            await asyncio.sleep(0.5)
            for tab in (*ours, *bare):
                tab.bytes = tab.messages = 0
            used = sum(process.cpu_times()[:2])
            url = f"http://{address}/change/{hub}/{version}/{'/'.join(names)}"
            answer = await asyncio.to_thread(requests.get, url, timeout=GIVE_UP_SECONDS)
            began = float(answer.text)  # by the clock of both: rendering is the supervisor's
            tabs = ours if hub == "ours" else bare
            await settled(lambda: all(tab.has(names, version) for tab in tabs))  # noqa: B023
            if turn > 2:  # the first turn warms up
                took[hub].append(time.monotonic() - began)
                cpu[hub].append(sum(process.cpu_times()[:2]) - used)
            sent[hub] = f"{tabs[0].messages} messages, {tabs[0].bytes / 1000:.0f} kB"
    for task in (*tasks, *more):
        task.cancel()
    print(f"push of {len(names)} servers to the last of {count} tabs")
    for hub, title in HUBS.items():
        spent, worked = 1000 * statistics.median(took[hub]), 1000 * statistics.median(cpu[hub])
        print(f"  {title:<15}{spent:>7.0f} ms, CPU {worked:>5.0f} ms, {sent[hub]} to each tab")
    ratio = statistics.median(took["ours"]) / statistics.median(took["loop"])
    print(f"  ratio {ratio:.2f} to the faster bare hub (aim: at most {AIM_RATIO}); median of {rounds}")
    return ratio


# --- Bytes ---------------------------------------------------------------------------------------------


def weigh(address: str, names: Sequence[str], session: str) -> None:
    print(f"bytes of a page, nothing cached (aim: below {AIM_BYTES // 1000} kB)")
    for page in PAGES:
        url = f"http://{address}/{page.format(name=names[0])}"
        files = page_files(url, session)
        total = sum(files.values())
        print(f"  {total / 1000:>6.1f} kB in {len(files):>2} files   /{page.format(name=names[0])}")


def page_files(url: str, session: str) -> dict[str, int]:
    """Map the address of a page, and of each file that it loads, to the bytes that are sent."""
    sizes: dict[str, int] = {}
    todo = [url]
    while todo:
        each = todo.pop()
        if each in sizes:
            continue
        cookies = {"sessionid": session}
        answer = requests.get(each, cookies=cookies, timeout=GIVE_UP_SECONDS, stream=True)
        sizes[each] = len(answer.raw.read(decode_content=False))
        plain = requests.get(each, cookies=cookies, timeout=GIVE_UP_SECONDS).text
        found = (LINKED if each == url else IMPORTED).findall(plain)
        todo += [urljoin(answer.url, one) for one in found if each == url or each.endswith(".js")]
    return sizes


# --- Overview ------------------------------------------------------------------------------------------


def overview() -> None:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from tests.bench.bars import SERVERS, prepare

    prepare()
    client, took, count = Client(), [], 0
    for _ in range(7):
        with CaptureQueriesContext(connection) as captured:
            began = time.process_time()
            answer = client.get("/")
            took.append(1000 * (time.process_time() - began))
        count = len(captured)
    print(f"overview of {SERVERS} servers with a year of spans: {statistics.median(took):.0f} ms of CPU, "
          f"{count} queries, {len(answer.content) / 1000:.0f} kB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=200)
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    print(f"{os.cpu_count()} cores; Python {sys.version.split()[0]}")
    with served(options.servers) as (address, process, names, session):
        asyncio.run(push(address, process, names, options.tabs, options.rounds))
        weigh(address, names, session)
    overview()


if __name__ == "__main__":
    main()
