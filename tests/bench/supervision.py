"""How fast, and at what cost: `python -m tests.bench.supervision`.

Everything is measured on the real command with a real engine, each figure beside what this machine does
without us in the same run:

- kill -9 → noticed, against a bare pidfd in a process that does nothing else;
- noticed → the last of 1, 20, 200 open pages has the new fragment, against a bare asyncio server that
  writes as many bytes to as many sockets;
- start → ready, against the bare llama-server on the same model;
- memory and idle CPU of the one-process shape, against Daphne with the same project and no supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy, environment
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_ARGS = ["-c", "512", "-t", "1"]
BACKOFF = 0.2
"""Seconds between death and retry: long enough for every page to have heard of the death first."""
CRASHED = b'data-status="crashed"'
HANDSHAKE = (
    "GET /llamaproxws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def row(what: str, ours: list[float], base: list[float], unit: str, against: str, aim: str) -> None:
    ours_mid, base_mid = statistics.median(ours), statistics.median(base)
    worst = max(ours)
    ratio = f"{ours_mid / base_mid:.2f}×" if base_mid >= 0.05 else "–"
    print(
        f"{what:<34}{ours_mid:>9.1f}{worst:>9.1f} {unit:<4}{base_mid:>9.1f} {unit:<4}"
        f"{ratio:>9}  {against:<32}{aim}",
        flush=True,
    )


# Baselines


def bare_pidfd(rounds: int) -> list[float]:
    """Milliseconds from kill -9 to a wake-up of an event loop that only watches."""

    async def one() -> float:
        loop = asyncio.get_running_loop()
        child = subprocess.Popen(["sleep", "60"])
        noticed: asyncio.Future[float] = loop.create_future()
        pidfd = os.pidfd_open(child.pid)

        def readable() -> None:
            loop.remove_reader(pidfd)
            noticed.set_result(time.time())

        loop.add_reader(pidfd, readable)
        killed = time.time()
        child.kill()
        late = 1000 * (await noticed - killed)
        os.close(pidfd)
        child.wait()
        return late

    return [asyncio.run(one()) for _ in range(rounds)]


def bare_server(command: list[str], rounds: int) -> list[float]:
    """Milliseconds from exec to the first 200 of /health, looked at every 2 ms."""
    times = []
    for _ in range(rounds):
        port = free_port()
        began = time.monotonic()
        argv = [*command, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (URLError, OSError):
                time.sleep(0.002)
        times.append(1000 * (time.monotonic() - began))
        server.kill()
        server.wait()
    return times


async def bare_fanout(count: int, size: int, rounds: int) -> list[float]:
    """Milliseconds until the last of `count` plain sockets has `size` bytes."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    while len(writers) < count:
        await asyncio.sleep(0.01)
    times = []
    for _ in range(rounds):

        async def arrival(reader: asyncio.StreamReader) -> float:
            await reader.readexactly(size)
            return time.time()

        waiting = [asyncio.create_task(arrival(reader)) for reader, _ in clients]
        await asyncio.sleep(0.05)
        began = time.time()
        for writer in writers:
            writer.write(b"x" * size)
        times.append(1000 * (max(await asyncio.gather(*waiting)) - began))
    for writer in [*writers, *(writer for _, writer in clients)]:
        writer.close()
    server.close()
    return times


# Ours


class Pages:
    """Open pages: sockets that notice when the fragment of a crash has arrived whole."""

    def __init__(self) -> None:
        self._readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.size = 0

    async def open(self, port: int, count: int) -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
            writer.write(HANDSHAKE.encode())
            await reader.readuntil(b"\r\n\r\n")
            self._readers.append(reader)
            self._writers.append(writer)
        await asyncio.sleep(1)

    async def _arrival(self, reader: asyncio.StreamReader) -> float:
        seen = b""
        while CRASHED not in seen:
            seen = seen[-len(CRASHED) :] + await reader.read(65536)
        self.size = max(self.size, len(seen))
        return time.time()

    async def last_arrival(self, kill: int) -> tuple[float, float]:
        """When it was killed, when the last page knew. Unix seconds."""
        waiting = [asyncio.create_task(self._arrival(reader)) for reader in self._readers]
        await asyncio.sleep(0.05)
        killed = time.time()
        os.kill(kill, signal.SIGKILL)
        return killed, max(await asyncio.gather(*waiting))

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def last_runs(proxy: Proxy) -> tuple[float, float, float]:
    """When the last death was noticed, when its successor started and was ready. Unix seconds."""
    newest, before = proxy.query(
        "SELECT started_at, ready_at, ended_at FROM supervisor_app_run ORDER BY id DESC LIMIT 2"
    )

    def seconds(text: str) -> float:
        return datetime.fromisoformat(text + "+00:00").timestamp()

    return seconds(before["ended_at"]), seconds(newest["started_at"]), seconds(newest["ready_at"])


async def crashes(proxy: Proxy, count: int, rounds: int) -> tuple[list[float], list[float], list[float], int]:
    """Milliseconds: kill → noticed, noticed → last page, noticed → ready again less the backoff."""
    noticed, pushed, ready = [], [], []
    pages = Pages()
    await pages.open(proxy.web_port, count)
    for _ in range(rounds):
        pid = (await asyncio.to_thread(proxy.wait_for_status, "ready"))["pid"]
        killed, known = await pages.last_arrival(pid)
        await asyncio.to_thread(proxy.wait_for_new_pid, pid)
        died, _, up = last_runs(proxy)
        noticed.append(1000 * (died - killed))
        pushed.append(1000 * (known - died))
        ready.append(1000 * (up - died - BACKOFF))
        await asyncio.sleep(0.2)
    pages.close()
    return noticed, pushed, ready, pages.size


def idle(pid: int, seconds: float) -> tuple[float, float]:
    """Percent of a core, and MB of memory that is its own (PSS)."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return 100 * used / seconds, process.memory_full_info().pss / 1e6


def daphne_alone(directory: Path, seconds: float) -> tuple[float, float]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "daphne",
        "-b",
        "127.0.0.1",
        "-p",
        str(port),
        "llamaproxy.asgi:application",
    ]
    env = environment(
        LLAMAPROXY_DATA_DIR=str(directory / "var"), DJANGO_SETTINGS_MODULE="llamaproxy.settings"
    )
    server = subprocess.Popen(
        command, cwd=directory, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
            except (URLError, OSError):
                time.sleep(0.1)
        time.sleep(2)
        return idle(server.pid, seconds)
    finally:
        server.kill()
        server.wait()


@contextmanager
def quietly_closing(proxy: Proxy) -> Iterator[Proxy]:
    """`close` prints what a failed test needs; a benchmark does not."""
    try:
        yield proxy
    finally:
        with redirect_stdout(io.StringIO()):
            proxy.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    options = parser.parse_args()
    rounds = options.rounds
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("No llama-server found.")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        model = make_demo_model(directory / "demo.gguf")
        bare = bare_server([*engine.command, "-m", str(model), *ENGINE_ARGS], rounds)
        pidfd = bare_pidfd(rounds)
        config = {
            "llama_model_path": str(model),
            "llama_server_args": ENGINE_ARGS,
            "retry_backoff_ms": round(1000 * BACKOFF),
            "max_backoff_ms": round(1000 * BACKOFF),
            "max_retries": 10_000,
        }
        print(f"{engine.describe}, {rounds} rounds, {os.cpu_count()} cores")
        print(f"{'':<34}{'median':>9}{'worst':>9}     {'baseline':>9}         ratio")
        with quietly_closing(Proxy(directory, **config)) as proxy:
            proxy.start().wait_for_status("ready")
            for count in (1, 20, 200):
                noticed, pushed, ready, size = asyncio.run(crashes(proxy, count, rounds))
                fanout = asyncio.run(bare_fanout(count, size, rounds))
                row(f"kill -9 → noticed, {count} pages", noticed, pidfd, "ms", "bare pidfd", "aim < 50 ms")
                row(
                    f"noticed → last of {count} pages",
                    pushed,
                    fanout,
                    "ms",
                    f"bare sockets, {size} bytes",
                    "aim < 100 ms at 200",
                )
                row(
                    f"start → ready, {count} pages",
                    ready,
                    bare,
                    "ms",
                    "bare server",
                    "aim ≤ 1.2 × bare + 50 ms",
                )
            cpu, memory = idle(proxy.supervisor.pid, options.idle_seconds)
        base_cpu, base_memory = daphne_alone(directory, options.idle_seconds / 2)
        row("idle CPU, % of a core", [cpu], [base_cpu], "%", "Daphne without a supervisor", "aim < 1 %")
        row("memory (PSS)", [memory], [base_memory], "MB", "Daphne without a supervisor", "aim < 120 MB")


if __name__ == "__main__":
    main()
