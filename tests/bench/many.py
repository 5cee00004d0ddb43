"""Many servers on one node: `python -m tests.bench.many [--servers 150] [--real]`.

Each figure beside the same servers without us, in the same run:

- start of all → the last one is ready, against a shell's way: all started at once, each asked until it says 200;
- CPU of llamaproxy until then, for each server;
- CPU of llamaproxy while nothing happens, for each server, against a loop that asks each /health every second.

The servers are the tests' fake, or with `--real` the engine with the demo model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.supervision import ENGINE_ARGS
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTLE_SECONDS = 8.0
"""Between the last server's start and the look at idleness."""
GIVE_UP_SECONDS = 400.0


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def answers(port: int) -> bool:
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
        return True
    return False


def bare(command: Sequence[str], ports: Sequence[int], idle_seconds: float) -> tuple[float, float]:
    """Seconds until all are ready, and seconds of CPU a second that a loop costs which asks each of them."""
    began = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    servers = [
        subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], **quiet)  # type: ignore[call-overload]
        for port in ports
    ]
    try:
        left = list(ports)
        while left:
            left = [port for port in left if not answers(port)]
            time.sleep(0.02)
        took = time.monotonic() - began
        asking, until, rounds = cpu(os.getpid()), time.monotonic() + idle_seconds, 0
        while time.monotonic() < until:
            for port in ports:
                answers(port)
            rounds += 1
            time.sleep(max(0.0, until - idle_seconds + rounds - time.monotonic()))
        return took, (cpu(os.getpid()) - asking) / max(1, rounds)
    finally:
        for server in servers:
            server.kill()
        for server in servers:
            server.wait()


def add_servers(proxy: Proxy, ports: Sequence[int], model: Path) -> None:
    proxy.manage("migrate", "--verbosity", "0")
    proxy.python(
        "from supervisor_app.fleet.models import LlamaServer",
        f"rows = [dict(name=f's{{port}}', host='127.0.0.1', port=port, model_path={str(model)!r},"
        f" args={ENGINE_ARGS!r}) for port in {list(ports)!r}]",
        "LlamaServer.objects.bulk_create(LlamaServer(**row) for row in rows)",
    )


def ready(proxy: Proxy) -> int:
    rows = proxy.query("SELECT count(*) AS count FROM supervisor_app_serverstate WHERE status = 'ready'")
    return int(rows[0]["count"])


def all_ready(proxy: Proxy, count: int) -> tuple[float, float]:
    """Seconds until `count` are ready since the supervisor began with the first, and its CPU until then."""
    proxy.start()
    pid = proxy.supervisor.pid
    proxy.wait_for_line("Starting Llama service")
    began, used = time.monotonic(), cpu(pid)
    while ready(proxy) < count:
        if time.monotonic() - began > GIVE_UP_SECONDS:
            raise SystemExit(f"only {ready(proxy)} of {count} are ready")
        time.sleep(0.2)
    return time.monotonic() - began, cpu(pid) - used


def idle(pid: int, seconds: float) -> float:
    """Seconds of CPU a second."""
    time.sleep(SETTLE_SECONDS)
    before = cpu(pid)
    time.sleep(seconds)
    return (cpu(pid) - before) / seconds


@contextmanager
def quietly_closing(proxy: Proxy) -> Iterator[Proxy]:
    try:
        yield proxy
    finally:
        with redirect_stdout(StringIO()), ThreadPoolExecutor() as pool:
            list(pool.map(lambda engine: engine.kill(), proxy.engines()))
            proxy.close()


def row(what: str, ours: float, base: float, unit: str, aim: str) -> None:
    print(f"{what:<40}{ours:>9.2f} {unit:<4}{base:>9.2f} {unit:<4}{ours / base:>7.2f}×  {aim}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=150)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--real", action="store_true", help="the engine instead of the tests' fake")
    options = parser.parse_args()
    count = options.servers
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        model = make_demo_model(directory / "demo.gguf")
        proxy = Proxy(directory)
        engine = find_engine(None)
        if options.real and engine is None:
            raise SystemExit("No llama-server found.")
        command = list(engine.command) if options.real and engine else [str(proxy.write_script())]
        ports = [free_port() for _ in range(count)]
        bare_took, bare_idle = bare(
            [*command, "-m", str(model), *ENGINE_ARGS], ports, options.idle_seconds / 3
        )
        with quietly_closing(proxy):
            proxy.configure(
                llama_server_host="127.0.0.1",
                llama_server_port=free_port(),
                llama_model_path=str(model),
                llama_server_binary=command[0],
                llama_server_args=ENGINE_ARGS,
            )
            add_servers(proxy, ports, model)
            took, used = all_ready(proxy, count + 1)
            resting = idle(proxy.supervisor.pid, options.idle_seconds)
    print(f"{command[0]}, {count} servers, {os.cpu_count()} cores; Python {sys.version.split()[0]}")
    print(f"{'':<40}{'ours':>9}     {'bare':>9}       ratio")
    row("all started → all ready", took, bare_took, "s", "")
    print(f"{'CPU of ours until then, a server':<40}{1000 * used / count:>9.1f} ms")
    row("idle CPU a server, % of a core", 100 * resting / count, 100 * bare_idle / count, "%", "aim < 0.1 %")
    print(json.dumps({"took": took, "bare": bare_took, "cpu": used, "idle": resting, "bare_idle": bare_idle}))


if __name__ == "__main__":
    main()
