"""The two C programs: compiled on demand, the load run as a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.gateway.planes import Plane

SOURCES = Path(__file__).parent
EVENTS_BESIDE_TOKENS = 3
"""Of a stream: the role, the reason of its end, [DONE]."""


def compile_c(source: str, program: Path) -> Path:
    """Ends the benchmark with what to install when it cannot be compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        raise SystemExit("Needs Linux and a C compiler: on Debian `apt install gcc libc6-dev`.")
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", str(program), str(SOURCES / source)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{source} does not compile (on Debian `apt install libc6-dev`):\n{done.stderr}")
    return program


def chat(model: str, *, tokens: int = 1, padding: int = 0, **fields: Any) -> bytes:
    """Body of a chat completion, its short fields first; `padding` bytes make it long."""
    messages = [{"role": "user", "content": "hello" + padding * "x"}]
    return json.dumps({"model": model, "max_tokens": tokens, **fields, "messages": messages}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one load has seen. Times in microseconds, except `seconds`; `first` is to a body's first byte."""

    whole: int
    failed: int
    events: int
    seconds: float
    latency_p50: float
    latency_p99: float
    first_p50: float
    first_p99: float


class Load:
    """Runs the load generator against planes and remembers how much of it failed."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._body = program.with_suffix(".json")
        self.requests: Counter[tuple[str, bool]] = Counter()
        """By name of the plane, and whether they were streams."""
        self.failed: Counter[tuple[str, bool]] = Counter()

    def run(self, plane: Plane, body: bytes, **options: float) -> Result:
        """To its end. The options are those of load.c."""
        with self._process(plane, body, **options) as process:
            output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"The load on {plane.name} ended with {process.returncode}.")
        result = Result(**json.loads(output))
        if not result.whole:
            raise SystemExit(f"{plane.name} answers nothing: {result.failed} requests failed.")
        kind = plane.name, "events" in options
        self.requests[kind] += result.whole + result.failed
        self.failed[kind] += result.failed
        return result

    def streams(
        self, plane: Plane, model: str, tokens: int, interval_us: int = 0, **options: float
    ) -> Result:
        """Streams of so many tokens, each on a connection of its own. The interval is for the mock alone."""
        body = chat(model, tokens=tokens, stream=True, mock_interval_us=interval_us)
        return self.run(plane, body, fresh=1, events=tokens + EVENTS_BESIDE_TOKENS, **options)

    @contextmanager
    def open_streams(self, plane: Plane, model: str, count: int) -> Iterator[None]:
        """While this is open, so are all of them, each with its first token and one more every second."""
        body = chat(model, tokens=600, stream=True, mock_interval_us=1_000_000)
        with self._process(plane, body, connections=count, fresh=1, announce=1) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            try:
                if said != "open\n":
                    raise SystemExit(f"{plane.name} does not hold {count} streams: {said}")
                yield
            finally:
                process.kill()

    def _process(self, plane: Plane, body: bytes, **options: float) -> subprocess.Popen[str]:
        self._body.write_bytes(body)
        given = {"port": plane.port, "body": self._body, **options}
        if plane.key:
            given["key"] = plane.key
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        return subprocess.Popen([str(self._program), *arguments], stdout=subprocess.PIPE, text=True)
