"""How long strangers can hold supervision up: `python -m tests.bench.strangers [web|gateway] [ATTACK …]`.

The one-process shape with a scripted llama-server, and beside it one process that attacks. Its server is
killed again and again; shown is how much later than the kill its end was noticed, and how long a page and
the gateway took to answer meanwhile. The attack shares the machine: read the column "stir" first, which is
how late a thread of the benchmark itself was woken.
"""

from __future__ import annotations

import argparse
import io
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout, suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from tests.acceptance.harness import Proxy
from tests.bench.strangers.attacks import GATEWAY, WEB, attacked

TICK = 0.005
SETTINGS = {"retry_backoff_ms": 100, "max_backoff_ms": 100, "max_retries": 10_000, "stable_after_ms": 500}
ANSWER_SECONDS = 30.0


class Stir:
    """How late this process is woken, at worst: the noise of the machine."""

    def __init__(self) -> None:
        self.worst = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(TICK)
            self.worst = max(self.worst, time.monotonic() - began - TICK)


def newest_run(proxy: Proxy) -> dict[str, object]:
    return proxy.query("SELECT id, pid, ready_at, ended_at FROM supervisor_app_run ORDER BY id DESC LIMIT 1")[
        0
    ]


def noticed(proxy: Proxy) -> float:
    """Seconds from kill -9 to the moment at which supervision says that it ended."""

    def ready() -> dict[str, object]:
        run = newest_run(proxy)
        is_up = run["ready_at"] and not run["ended_at"] and psutil.pid_exists(int(str(run["pid"])))
        return run if is_up else {}

    run = proxy.wait_for("a run that is ready", ready)
    killed = time.time()
    with suppress(psutil.Error):
        psutil.Process(int(str(run["pid"]))).kill()

    def end() -> object:
        return proxy.query(f"SELECT ended_at FROM supervisor_app_run WHERE id = {run['id']}")[0]["ended_at"]

    ended = datetime.fromisoformat(f"{proxy.wait_for('its end', end, pause=0.01)}+00:00")
    return ended.timestamp() - killed


def answered(port: int, path: str) -> float:
    """Seconds until somebody else has an answer; infinite: none."""
    began = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    with suppress(OSError, HTTPException):
        connection.request("GET", path)
        connection.getresponse().read()
        return time.monotonic() - began
    return float("inf")


def measure(proxy: Proxy, where: str, name: str, rounds: int) -> None:
    delays, pages, gateways = [], [], []
    port = proxy.web_port if where == "web" else proxy.gateway_port
    with attacked(where, name, port):
        time.sleep(2)
        stir = Stir()
        for _ in range(rounds):
            delays.append(noticed(proxy))
            pages.append(answered(proxy.web_port, "/livez"))
            gateways.append(answered(proxy.gateway_port, "/health"))
    shown = [1000 * value for value in (statistics.median(delays), max(delays), max(pages), max(gateways))]
    memory = psutil.Process(proxy.supervisor.pid).memory_info().rss / 1e6
    cells = "".join(f"{value:>10.0f}" for value in (*shown, 1000 * stir.worst, memory))
    print(f"{where:<9}{name:<26}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("where", nargs="?", choices=["web", "gateway"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    titles = ("noticed", "worst", "page", "gateway", "stir", "MB")
    print(f"{'milliseconds':<35}" + "".join(f"{title:>10}" for title in titles))
    chosen = [
        (where, name)
        for where, attacks in (("web", WEB), ("gateway", GATEWAY))
        for name in attacks
        if options.where in (None, where) and (not options.names or name in options.names)
    ]
    for where, name in chosen:
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(Path(directory), **SETTINGS)
            proxy.script()
            try:
                proxy.start().wait_for_status("ready")
                measure(proxy, where, name, options.rounds)
            except AssertionError as error:
                print(f"{where:<9}{name:<26} {str(error).splitlines()[0]}", flush=True)
            finally:
                with redirect_stdout(io.StringIO()), suppress(AssertionError):
                    proxy.close()


if __name__ == "__main__":
    main()
