"""Memory while llama-server dies again and again: `python -m tests.bench.soak [--minutes 10] [--kill-every 5]`.

The one-process shape with open pages and requests, as in everyday use; llama-server is killed with -9 every so
often, or with `--kill-every 0` as soon as it is ready again. Printed over time: kills, resident memory, threads,
descriptors. At the end how much the last half grew for each kill; exit status 1 when that is no plateau.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import requests
from websockets.exceptions import WebSocketException

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.supervision import ENGINE_ARGS, quietly_closing

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKOFF_MS = 50
SAMPLE_SECONDS = 1.0
LINES = 20
"""Printed over the whole time."""
ASKERS = 32
"""Requests under way at most: while the server is down they are held."""
LIMITS = {"KiB": 32.0, "threads": 0.2, "descriptors": 0.2}
"""Growth for each kill that is still a plateau. A leak of one thread is 1.0; the heap of the C library creeps a
few KiB, which would be 8 MB in an hour of a kill every 15 s if it went on.
"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the process used, after so many kills."""

    seconds: float
    kills: int
    kib: float
    threads: int
    descriptors: int


class Load:
    """Open pages and requests, until `close`. Requests that fail because the server is down are no matter."""

    def __init__(self, proxy: Proxy, *, tabs: int, rate: float) -> None:
        """`rate`: requests per second."""
        self.asked = 0
        self._proxy = proxy
        self._pause = 1 / rate if rate else 0.0
        self._over = threading.Event()
        works = [self._watch] * tabs + [self._ask] * bool(rate)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            with suppress(WebSocketException, OSError), self._proxy.events("") as page:
                while not self._over.is_set():
                    with suppress(TimeoutError):
                        page.next(1)
                    page.messages.clear()

    def _ask(self) -> None:
        askers: list[threading.Thread] = []
        while not self._over.wait(self._pause):
            askers = [asker for asker in askers if asker.is_alive()]
            if len(askers) < ASKERS:
                askers.append(threading.Thread(target=self._ask_once, args=(self.asked,), daemon=True))
                askers[-1].start()
                self.asked += 1

    def _ask_once(self, number: int) -> None:
        # Each asks something else: what is asked at two deaths ends up in quarantine.
        body = {"messages": [{"role": "user", "content": f"Say {number}"}], "max_tokens": 4}
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False
            session.post(f"{self._proxy.gateway_url}/v1/chat/completions", json=body, timeout=30)


class Killer:
    """Kills llama-server every `pause` seconds, once it is ready again."""

    def __init__(self, proxy: Proxy, pause: float) -> None:
        self.kills = 0
        self._proxy = proxy
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        killed = 0
        while not self._over.wait(0.05):
            seen = self._proxy.status()
            if seen.get("status") != "ready" or seen["pid"] == killed or self._over.wait(self._pause):
                continue
            with suppress(psutil.NoSuchProcess):
                psutil.Process(seen["pid"]).kill()
                self.kills += 1
            killed = seen["pid"]


def soak(proxy: Proxy, options: argparse.Namespace) -> list[Sample]:
    """Samples of the whole time, printed now and then."""
    process, samples = psutil.Process(proxy.supervisor.pid), list[Sample]()
    began, length = time.monotonic(), 60 * options.minutes
    load = Load(proxy, tabs=options.tabs, rate=options.rate)
    killer = Killer(proxy, options.kill_every)
    shown_at = 0.0
    with closing(load), closing(killer):
        while (passed := time.monotonic() - began) < length:
            time.sleep(SAMPLE_SECONDS)
            if not proxy.supervisor.alive:
                raise SystemExit(
                    f"The supervisor has ended after {killer.kills} kills.\n{proxy.console[-2000:]}"
                )
            samples.append(
                Sample(
                    seconds=passed,
                    kills=killer.kills,
                    kib=process.memory_info().rss / 1024,
                    threads=process.num_threads(),
                    descriptors=process.num_fds(),
                )
            )
            if passed >= shown_at:
                show(samples[-1], load.asked)
                shown_at += length / LINES
        show(samples[-1], load.asked)
    return samples


def show(sample: Sample, asked: int) -> None:
    print(
        f"{sample.seconds:>7.0f} s{sample.kills:>7}{asked:>10}{sample.kib / 1024:>10.1f} MB"
        f"{sample.threads:>9}{sample.descriptors:>13}",
        flush=True,
    )


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each thing that may grow, how much for each kill, by least squares."""
    kills = [sample.kills for sample in samples]
    if len(set(kills)) < 2:
        raise SystemExit("Too few kills to tell: more minutes, or a shorter --kill-every.")
    series = {
        "KiB": [sample.kib for sample in samples],
        "threads": [sample.threads for sample in samples],
        "descriptors": [sample.descriptors for sample in samples],
    }
    return {name: statistics.linear_regression(kills, values).slope for name, values in series.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--tabs", type=int, default=5, help="open pages")
    parser.add_argument("--rate", type=float, default=12.0, help="requests per second")
    options = parser.parse_args()
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("No llama-server found.")
    with tempfile.TemporaryDirectory() as name:
        config = {
            "llama_model_path": str(make_demo_model(Path(name) / "demo.gguf")),
            "llama_server_args": ENGINE_ARGS,
            "retry_backoff_ms": BACKOFF_MS,
            "max_backoff_ms": BACKOFF_MS,
            "max_retries": 1_000_000,
        }
        print(f"{engine.describe}, {options.tabs} pages, {options.rate:g} requests/s")
        print(f"{'time':>9}{'kills':>7}{'requests':>10}{'memory':>13}{'threads':>9}{'descriptors':>13}")
        with quietly_closing(Proxy(Path(name), **config)) as proxy:
            proxy.start().wait_for_status("ready")
            samples = soak(proxy, options)
    grown = growth(samples[len(samples) // 2 :])
    for what, by in grown.items():
        print(f"last half, {what} for each kill: {by:+.2f} (a plateau is below {LIMITS[what]:g})")
    sys.exit(any(by >= LIMITS[what] for what, by in grown.items()))


if __name__ == "__main__":
    main()
