"""The gateway against nginx and against nothing: `python -m tests.bench.gateway [--rounds 5]`.

All planes take turns in every round, on the same upstream, so that a busy machine is busy for all of them:

- a mock upstream in C, for what a plane adds and costs;
- the real engine, for what its users see;
- the real engine killed under waiting requests: from ready to the first byte of each answer.

The gateway has every feature on: an API key, records, metrics. nginx does nothing but forward.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.acceptance.harness import Proxy
from tests.bench.gateway.held import tell_recovery
from tests.bench.gateway.load import Load, compile_c
from tests.bench.gateway.measure import EngineSteps, MockSteps, Step, Steps
from tests.bench.gateway.planes import (
    DIRECT,
    GATEWAY,
    NAMES,
    NGINX,
    NO_NGINX,
    Plane,
    find_nginx,
    gateway,
    make_key,
    nginx,
)
from tests.bench.gateway.report import Table
from tests.bench.supervision import BACKOFF, quietly_closing

ENGINE_ARGS = ["-c", "2048", "-np", "8", "-t", "1"]


def start(stack: ExitStack, directory: Path, **config: Any) -> tuple[Proxy, str]:
    """A supervisor with its server ready, without pages; and the model's name."""
    directory.mkdir()
    proxy = stack.enter_context(quietly_closing(Proxy(directory, **config)))
    ready = proxy.start(web=False).wait_for_status("ready")
    return proxy, ready["models"][0]["id"]


def open_planes(stack: ExitStack, proxy: Proxy, names: list[str]) -> list[Plane]:
    """In front of the proxy's server."""
    planes = [Plane(name=DIRECT, port=proxy.engine_port)]
    program = find_nginx()
    if NGINX in names and program is not None:
        planes.append(stack.enter_context(nginx(program, proxy.directory, proxy.engine_port)))
    if GATEWAY in names:
        planes.append(gateway(proxy, make_key(proxy)))
    return planes


def measure(load: Load, steps: list[Step], planes: list[Plane], rounds: int) -> Table:
    table = Table([plane.name for plane in planes])
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for step in steps:
            first = number % len(planes)  # nobody is always the first
            for plane in planes[first:] + planes[:first]:
                table.add(plane.name, step(plane))
    return table


def tell_failures(load: Load, planes: list[Plane]) -> None:
    for what, streamed in (("requests that failed", False), ("streams that failed or were cut short", True)):
        kinds = [(plane.name, streamed) for plane in planes]
        told = (f"{kind[0]} {load.failed[kind]:,} of {load.requests[kind]:,}" for kind in kinds)
        print(f"{what:<40}{', '.join(told)}", flush=True)


def compare(kind: type[Steps], directory: Path, names: list[str], rounds: int, **config: Any) -> None:
    with ExitStack() as stack:
        proxy, model = start(stack, directory / kind.__name__, **config)
        planes = open_planes(stack, proxy, names)
        load = Load(directory / "load")
        table = measure(load, kind(load, model).steps, planes, rounds)
        table.print(kind.title, kind.rows)
        tell_failures(load, planes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crashes", type=int, default=20, help="of the engine, under waiting requests")
    parser.add_argument(
        "--planes", nargs="+", choices=NAMES, default=list(NAMES), help="direct always takes part"
    )
    return parser.parse_args()


def mock_config(directory: Path) -> dict[str, Any]:
    model = directory / "mock.gguf"
    model.write_bytes(b"not read by anybody")
    binary = compile_c("mock_upstream.c", directory / "llama-server")
    return {"llama_model_path": str(model), "llama_server_binary": str(binary)}


def engine_config(directory: Path) -> dict[str, Any]:
    return {
        "llama_model_path": str(make_demo_model(directory / "demo.gguf")),
        "llama_server_args": ENGINE_ARGS,
        "llama_api_key": "",  # asked directly, too
        "retry_backoff_ms": round(1000 * BACKOFF),
        "max_backoff_ms": round(1000 * BACKOFF),
        "max_retries": 100_000,
    }


def main() -> None:
    options = parse()
    if NGINX in options.planes and find_nginx() is None:
        print(NO_NGINX)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        compile_c("load.c", directory / "load")
        busy = os.getloadavg()[0]
        print(f"{options.rounds} rounds, {os.cpu_count()} cores, load {busy:.1f} before, medians")
        compare(MockSteps, directory, options.planes, options.rounds, **mock_config(directory))
        engine = find_engine(None)
        if engine is None:
            raise SystemExit("No llama-server found: the mock's figures are all there is.")
        print(f"\n{engine.describe}")
        config = engine_config(directory)
        compare(EngineSteps, directory, options.planes, options.rounds, **config)
        if GATEWAY in options.planes:
            tell_recovery(directory, options.crashes, **config)


if __name__ == "__main__":
    main()
