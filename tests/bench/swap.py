"""What a swap costs: `python -m tests.bench.swap [--swaps 20] [--padding-mb 200]`.

Two models, and room for one. A request for the model that is not loaded, through the gateway: until its first token,
and each part of that, by the client's clock and the history. In turns with it, in the same run, the bare work: end
the same llama-server, start the other, ask it as soon as it answers 200.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import requests

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.supervision import quietly_closing
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("one", "two")
ARGS = ["-c", "512", "-t", "1"]
PARTS = ("ended", "spawned", "ready", "first token")
POLL = 0.005
DEADLINE = 120.0


def write_file(proxy: Proxy, model: Path) -> None:
    """Describe both servers; each model in a file of its own, so that neither is read for the other."""
    tables = "".join(f'[servers.{name}]\nmodel_path = "{model.with_name(name)}.gguf"\n' for name in NAMES)
    rules = "[memory]\nmax_loaded = 1\nmin_resident_seconds = 0\n"
    text = f'{rules}[defaults]\nhost = "127.0.0.1"\nargs = {json.dumps(ARGS)}\n{tables}'
    (proxy.directory / "llamaproxy.toml").write_text(text)


def first_token(url: str, name: str) -> float:
    """Ask for a stream; return when its first token came, in Unix seconds."""
    body = {"model": name, "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with requests.post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=DEADLINE) as answer:
        for line in answer.iter_lines():
            if b'"content":"' in line:
                return time.time()
    raise SystemExit(f"{name} did not answer: {answer.status_code}")


def swap(proxy: Proxy, name: str) -> tuple[float, dict[str, float]]:
    """Seconds of a swap, and of its parts."""
    asked = time.time()
    told = first_token(proxy.gateway_url, name)
    proxy.wait_for("the run is written down", lambda: proxy.runs()[-1]["ready_at"])
    before, run = proxy.runs()[-2:]
    moments = [*map(_unix, (before["ended_at"], run["started_at"], run["ready_at"])), told]
    return told - asked, dict(zip(PARTS, _differences([asked, *moments]), strict=True))


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment + "+00:00").timestamp()


def _differences(moments: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(moments)]


class Bare:
    """llama-server alone, on a port of its own."""

    def __init__(self, command: Sequence[str], model: Path) -> None:
        self._command, self._model, self._port = command, model, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def swap(self, name: str) -> float:
        """Seconds from the end of the other one to the first token of this one."""
        began = time.time()
        self.stop()
        where = ("--host", "127.0.0.1", "--port", str(self._port))
        argv = [*self._command, "-m", f"{self._model.with_name(name)}.gguf", *where, *ARGS]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{self._port}"
        while not self._answers(url):
            time.sleep(POLL)
        return first_token(url, name) - began

    def _answers(self, url: str) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return requests.get(f"{url}/health", timeout=DEADLINE).ok
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--padding-mb", type=int, default=200, help="size of each model")
    options = parser.parse_args()
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("No llama-server found.")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        for name in NAMES:
            make_demo_model(model.with_name(f"{name}.gguf"), options.padding_mb)
        (Path(folder) / "proxy").mkdir()
        with quietly_closing(Proxy(Path(folder) / "proxy")) as proxy:
            write_file(proxy, model)
            proxy.start().wait_for_line("Service ready")
            bare = Bare(engine.command, model)
            took, parts, alone = [], [], []
            for number in range(options.swaps + 2):
                name = NAMES[(number + 1) % 2]
                whole, each = swap(proxy, name)
                alone.append(bare.swap(name))
                took.append(whole)
                parts.append(each)
            bare.stop()
    took, parts, alone = took[2:], parts[2:], alone[2:]
    print(f"{engine.describe}, {options.padding_mb} MB, {options.swaps} swaps; milliseconds, medians")
    print(f"bare: end, start, first token {1000 * median(alone):10.1f}")
    print(f"swap through the gateway      {1000 * median(took):10.1f}")
    for part in PARTS:
        print(f"  until {part:<22}{1000 * median(each[part] for each in parts):10.1f}")
    over = median(one - other for one, other in zip(took, alone, strict=True))
    print(f"ratio {median(took) / median(alone):.2f}, {1000 * over:.0f} ms more; aim: 1.15 x + 50 ms")


if __name__ == "__main__":
    main()
