"""Cost of a swap of models: `python -m tests.bench.swap [--rounds 10] [--sizes 60,…] [--cold]`.

Six models of different sizes, and memory for two. Each round asks for the model that was used least recently
and measures until its first token, in turn for

- the bare llama-server: the old one is told to stop, the new one starts, is looked at every 2 ms, is asked;
- llamaproxy, through its gateway: it finds out by itself who has to go;
- llama.cpp's own router (`--models-dir`, `--models-max 2`), where the engine has one.

With `--cold` each model's file is read from its disk. Each of the three has files of its own then: pages that
another one has mapped cannot be dropped.

Then 20 clients ask llamaproxy for all six at once: no request may fail.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.supervision import ENGINE_ARGS, quietly_closing
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZES_MB = (60, 64, 68, 72, 76, 80)
FLAGS = [*ENGINE_ARGS, "-ub", "128"]
"""Small batches: an estimate of these models without them is half as much again as what is measured."""
BESIDE_MB = 35
"""Needed by a server beside its weights, with these flags: 32 by the estimate, some 25 as measured."""
ROOM = 2
CLIENTS = 20
LOOKS = 50
"""Pages of a file that are looked at to see whether it is cold."""
BARE, OURS, ROUTER = PLANES = ("bare stop + start", "llamaproxy", "llama.cpp's router")
PAUSE_SECONDS = 1.5
"""Pause before each swap: a server stays for a second after its last request."""
ATTEMPT_SECONDS = 120.0
FILE = """
[memory]
budget_mb = {budget}
min_resident_seconds = 0

[defaults]
host = "127.0.0.1"
args = {args}
"""


Parts = dict[str, list[float]]
"""Seconds of each swap, by the name of the part."""


class Plane(Protocol):
    """A way to have the models answered."""

    def first_token(self, name: str) -> float:
        """Seconds from the request until its first token."""


def note(parts: Parts, began: float, moments: dict[str, float]) -> None:
    for part, at in moments.items():
        parts.setdefault(part, []).append(at - began)
        began = at


def ask(port: int, name: str, tokens: int = 4) -> tuple[float, float]:
    """Send a streamed request; return when it was sent and when its first token came, in Unix seconds.

    Raises HTTPException for an answer that is none.
    """
    body = {
        "model": name,
        "max_tokens": tokens,
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    connection = HTTPConnection("127.0.0.1", port, timeout=ATTEMPT_SECONDS)
    began, first = time.time(), 0.0
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise HTTPException(f"{answer.status}: {answer.read()[:300]!r}")
    ended, last = False, b""
    for line in answer:
        last = line.strip() or last
        if not first and b'"content":"' in line and b'"content":""' not in line:
            first = time.time()
        ended = ended or line.startswith(b"data: [DONE]")
    connection.close()
    if not first or not ended:
        raise HTTPException(f"an answer without tokens, or without an end: {last!r}")
    return began, first


def is_healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError, HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


class Bare:
    """llama-server by hand: the oldest of two is stopped, then the next one is started."""

    def __init__(self, command: Sequence[str], models: dict[str, Path]) -> None:
        self._command, self._models = command, models
        self._running: deque[subprocess.Popen[bytes]] = deque()
        self.parts: Parts = {}

    def first_token(self, name: str) -> float:
        began = time.time()
        if len(self._running) == ROOM:
            oldest = self._running.popleft()
            oldest.terminate()
            oldest.wait()
        ended, port = time.time(), free_port()
        argv = [*self._command, "-m", str(self._models[name]), "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._running.append(server)
        while not is_healthy(port):
            time.sleep(0.002)
        ready, (_, first) = time.time(), ask(port, name)
        note(self.parts, began, {"old one ended": ended, "→ ready": ready, "→ first token": first})
        return first - began

    def close(self) -> None:
        for server in self._running:
            server.terminate()
            server.wait()


class Ours:
    """llamaproxy, with what its history says of each swap."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.parts: Parts = {}

    def first_token(self, name: str) -> float:
        began, first = ask(self._proxy.gateway_port, name)
        self._note(name, began, first)
        return first - began

    def _note(self, name: str, began: float, first: float) -> None:
        held = self._held(name, began)  # by then the runs are on record, too
        run = self._runs(f"name = '{name}'")[0]
        if seconds(run["started_at"]) < began:
            return
        ended = [each for each in self._runs("ended_at IS NOT NULL") if seconds(each["ended_at"]) > began]
        moments = {
            "old one ended": seconds(ended[0]["ended_at"]) if ended else began,
            "→ new one spawned": seconds(run["started_at"]),
            "→ ready": seconds(run["ready_at"]),
            "→ request let in": began + held,
            "→ first token": first,
        }
        note(self.parts, began, moments)

    def _held(self, name: str, began: float) -> float:
        """Seconds that the request waited for its server, by its record."""
        records = self._proxy.wait_for(
            "the request is on record",
            lambda: [
                record
                for record in self._proxy.records(f"model = '{name}'")
                if abs(seconds(record["at"]) - began) < 0.5
            ],
        )
        return float(records[-1]["held_ms"]) / 1000

    def _runs(self, condition: str) -> list[dict[str, Any]]:
        return self._proxy.query(
            "SELECT name, started_at, ready_at, ended_at FROM supervisor_app_run AS run "
            "JOIN supervisor_app_llamaserver AS server ON server.id = run.server_id "
            f"WHERE {condition} ORDER BY run.id DESC LIMIT 3"
        )


class Router:
    """llama-server's own router."""

    def __init__(self, port: int) -> None:
        self._port = port

    def first_token(self, name: str) -> float:
        began, first = ask(self._port, name)
        return first - began


def seconds(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


@contextmanager
def bare(command: Sequence[str], models: dict[str, Path]) -> Iterator[Bare]:
    plane = Bare([*command, *FLAGS], models)
    try:
        yield plane
    finally:
        plane.close()


@contextmanager
def router(command: Sequence[str], models: dict[str, Path]) -> Iterator[Router]:
    port, folder = free_port(), next(iter(models.values())).parent
    where = ["--host", "127.0.0.1", "--port", str(port)]
    argv = [*command, "--models-dir", str(folder), "--models-max", str(ROOM), *where, *FLAGS]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_healthy(port):
            time.sleep(0.05)
            if server.poll() is not None:
                raise SystemExit("llama-server has no router mode")
        yield Router(port)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def proxy(directory: Path, models: dict[str, Path]) -> Iterator[Proxy]:
    directory.mkdir()
    budget = ROOM * (max(path.stat().st_size for path in models.values()) // 2**20 + BESIDE_MB)
    tables = "".join(
        f'[servers.{name}]\nmodel_path = "{path}"\nport = {free_port()}\n' for name, path in models.items()
    )
    text = FILE.format(budget=budget, args=json.dumps(FLAGS)) + tables
    (directory / "llamaproxy.toml").write_text(text)
    with quietly_closing(Proxy(directory)) as found:
        found.start()
        found.wait_for("two are loaded", lambda: len(found.said("✅ [LLAMA] Service ready")) >= ROOM)
        found.wait_for("the gateway answers", lambda: is_healthy(found.gateway_port))
        yield found


def make_cold(path: Path) -> None:
    """Drop a file from the page cache. Raises SystemExit where its pages stay: somebody has them mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size = path.stat().st_size
        warm = [at for at in range(0, size, size // LOOKS + 1) if is_cached(file.fileno(), at)]
    if warm:
        raise SystemExit(
            f"{len(warm)} of {LOOKS} pages of {path} stay in the page cache: is its disk a memory?"
        )


def is_cached(fd: int, at: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False


def swaps(
    planes: dict[str, Plane], files: dict[str, dict[str, Path]], rounds: int, *, cold: bool
) -> dict[str, list[float]]:
    """`files`: of the models, by plane."""
    found: dict[str, list[float]] = {name: [] for name in planes}
    names = cycle(next(iter(files.values())))
    for number in range(rounds + ROOM):
        model = next(names)
        for name, plane in planes.items():
            time.sleep(PAUSE_SECONDS)
            if cold and number >= ROOM:  # before that, it may be loaded there
                make_cold(files[name][model])
            took = plane.first_token(model)
            if number >= ROOM:  # before that, memory is not full with what this bench has asked for
                found[name].append(1000 * took)
    return found


def copied(models: dict[str, Path], folder: Path) -> dict[str, Path]:
    folder.mkdir()
    return {name: Path(shutil.copy(path, folder)) for name, path in models.items()}


def crowd(port: int, names: Sequence[str]) -> tuple[list[float], int]:
    """Milliseconds to the first token of each client's six requests, and how many failed."""

    def client(number: int) -> list[float | None]:
        start = number % len(names)
        return [attempt(name) for name in [*names[start:], *names[:start]]]

    def attempt(name: str) -> float | None:
        try:
            began, first = ask(port, name)
        except (OSError, HTTPException) as error:
            print(f"failed: {name}: {error}", file=sys.stderr)
            return None
        return 1000 * (first - began)

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for answers in pool.map(client, range(CLIENTS)) for answer in answers]
    return [answer for answer in answers if answer is not None], answers.count(None)


def line(what: str, milliseconds: Sequence[float], note: str = "") -> None:
    middle, worst = statistics.median(milliseconds), max(milliseconds)
    print(f"{what:<34}{middle:>10.0f}{worst:>10.0f}   {note}", flush=True)


def report(found: dict[str, list[float]], parts: dict[str, Parts]) -> None:
    base = statistics.median(found[BARE])
    for name, times in found.items():
        ratio = statistics.median(times) / base
        aim = f"aim ≤ {1.15 * base + 50:.0f} (1.15 × + 50)" if name == OURS else ""
        line(name, times, f"{ratio:.2f} ×  {aim}")
        for part, durations in parts.get(name, {}).items():
            line(f"    {part}", [1000 * duration for duration in durations])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES_MB)), help="of the models, in MB")
    parser.add_argument(
        "--cold", action="store_true", help="each model's file is dropped from the page cache first"
    )
    parser.add_argument("--no-crowd", action="store_true", help="without the 20 clients at the end")
    options = parser.parse_args()
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("No llama-server found.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "models"
        models = {
            f"model-{number}": make_demo_model(folder / f"model-{number}.gguf", int(size))
            for number, size in enumerate(options.sizes.split(","))
        }
        files = {plane: copied(models, Path(name) / plane) if options.cold else models for plane in PLANES}
        print(
            f"{engine.describe}, {options.rounds} rounds, {os.cpu_count()} cores; milliseconds to the first token"
        )
        print(f"{'':<34}{'median':>10}{'worst':>10}")
        with (
            bare(engine.command, files[BARE]) as by_hand,
            proxy(Path(name) / "proxy", files[OURS]) as ours,
            router(engine.command, files[ROUTER]) as own,
        ):
            seen = Ours(ours)
            planes: dict[str, Plane] = {BARE: by_hand, OURS: seen, ROUTER: own}
            found = swaps(planes, files, options.rounds, cold=options.cold)
            report(found, {BARE: by_hand.parts, OURS: seen.parts})
            if not options.no_crowd:
                answers, failed = crowd(ours.gateway_port, list(models))
                line(
                    f"{CLIENTS} clients, {len(models)} models",
                    answers,
                    f"{failed} of {len(answers) + failed} failed",
                )


if __name__ == "__main__":
    main()
