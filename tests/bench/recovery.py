"""How it recovers, as a distribution: `python -m tests.bench.recovery [--kills 50] [--cycles 20]`.

- kill -9 of llama-server, over and over, with 20 pages open: noticed, respawned, ready, last page updated;
  for a child and for a server that was found running;
- kill -9 of the supervisor, over and over: from the start of the next one's process to the takeover; and
  whether anything was doubled or lost.

Beside it, in the same run, the bare llama-server's own start. The backoff is subtracted: it is a choice.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.supervision import BACKOFF, ENGINE_ARGS, Pages, bare_server, last_runs, quietly_closing

PAGES = 20


def quantiles(name: str, milliseconds: list[float], aim: str = "") -> None:
    ordered = sorted(milliseconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    figures = "".join(f"{at(share):10.1f}" for share in (0.5, 0.9, 0.99)) + f"{ordered[-1]:10.1f}"
    print(f"{name:<34}{figures}   {aim}", flush=True)


async def kills(proxy: Proxy, count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"noticed": [], "respawned": [], "ready": [], "last page": []}
    pages = Pages()
    await pages.open(proxy.web_port, PAGES)
    for _ in range(count):
        pid = (await asyncio.to_thread(proxy.wait_for_status, "ready"))["pid"]
        killed, known = await pages.last_arrival(pid)
        await asyncio.to_thread(proxy.wait_for_new_pid, pid)
        noticed, started, ready = last_runs(proxy)
        found["noticed"].append(1000 * (noticed - killed))
        found["respawned"].append(1000 * (started - killed - BACKOFF))
        found["ready"].append(1000 * (ready - killed - BACKOFF))
        found["last page"].append(1000 * (known - killed))
        await asyncio.sleep(0.1)
    pages.close()
    return found


def adopted_kills(proxy: Proxy, command: list[str], count: int) -> list[float]:
    """Milliseconds from the kill -9 of a server that we did not start to its being noticed."""
    found = []
    for _ in range(count):
        argv = [*command, "--host", "127.0.0.1", "--port", str(proxy.engine_port)]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        proxy.start(web=False).wait_for_status("ready", pid=server.pid)
        killed = time.time()
        server.kill()
        server.wait()
        proxy.wait_for_new_pid(server.pid)
        noticed, _, _ = last_runs(proxy)
        found.append(1000 * (noticed - killed))
        proxy.stop()
    return found


def takeovers(proxy: Proxy, cycles: int) -> tuple[list[float], int, int]:
    """Milliseconds from the next supervisor's start to the takeover; servers doubled; servers lost."""
    found, doubled, lost = [], 0, 0
    pid = proxy.start(web=False).wait_for_status("ready")["pid"]
    for cycle in range(cycles):
        proxy.supervisor.kill()
        began = time.time()
        proxy.start(web=False).wait_for_line("✅ [LLAMA] Service ready", times=2 + cycle)
        seen = proxy.query("SELECT seen_at FROM supervisor_app_serverstate")[0]["seen_at"]
        found.append(1000 * (datetime.fromisoformat(seen + "+00:00").timestamp() - began))
        doubled += len(proxy.engines()) > 1
        lost += not psutil.pid_exists(pid)
    return found, doubled, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cycles", type=int, default=20, help="of the supervisor; 1000 for the long run")
    options = parser.parse_args()
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("No llama-server found.")
    with tempfile.TemporaryDirectory() as name:
        model = make_demo_model(Path(name) / "demo.gguf")
        bare_command = [*engine.command, "-m", str(model), *ENGINE_ARGS]
        config = {
            "llama_model_path": str(model),
            "llama_server_args": ENGINE_ARGS,
            "retry_backoff_ms": round(1000 * BACKOFF),
            "max_backoff_ms": round(1000 * BACKOFF),
            "max_retries": 100_000,
        }

        def fresh(where: str) -> Proxy:
            directory = Path(name) / where
            directory.mkdir()
            return Proxy(directory, **config)

        print(f"{engine.describe}, {options.kills} kills, {options.cycles} supervisor kills; milliseconds")
        print(f"{'':<34}{'p50':>10}{'p90':>10}{'p99':>10}{'worst':>10}")
        quantiles("bare server: start → 200", bare_server(bare_command, 10))
        with quietly_closing(fresh("child")) as proxy:
            proxy.start().wait_for_status("ready")
            child = asyncio.run(kills(proxy, options.kills))
        quantiles("kill -9 → noticed (child)", child["noticed"], "aim p99 < 50")
        quantiles("kill -9 → respawned, less backoff", child["respawned"])
        quantiles("kill -9 → ready, less backoff", child["ready"])
        quantiles(f"kill -9 → last of {PAGES} pages", child["last page"])
        with quietly_closing(fresh("adopted")) as proxy:
            adopted = adopted_kills(proxy, bare_command, max(5, options.kills // 5))
        quantiles("kill -9 → noticed (adopted)", adopted, "aim p99 < 100")
        with quietly_closing(fresh("takeover")) as proxy:
            taken, doubled, lost = takeovers(proxy, options.cycles)
        quantiles("supervisor kill -9 → taken over", taken, "aim < 2000 after its process starts")
        print(f"doubled {doubled}, lost {lost} in {options.cycles} cycles")


if __name__ == "__main__":
    main()
