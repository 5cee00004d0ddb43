"""Kill the engine under waiting requests: how long after it is ready again is each of them answered?

In both shapes: the gateway in the supervisor's process, and in its own with Redis in between. Without Redis one
of its own hears of the world once a second.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.acceptance.children import listens, wait_for
from tests.acceptance.harness import Proxy
from tests.bench.gateway.load import chat
from tests.bench.gateway.planes import DIRECT, GATEWAY, Plane, gateway
from tests.bench.recovery import quantiles
from tests.bench.supervision import last_runs, quietly_closing
from tests.deadline import DEADLINE
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELD = 8
"""Requests, one every 10 ms from the kill on; as many as the engine has slots, so that none waits for another."""


@dataclass
class Held:
    """Milliseconds from ready to the first byte; how many were not answered with 200."""

    after_ready: list[float] = field(default_factory=list)
    failed: int = 0


async def ask(port: int, request: bytes) -> tuple[float, int]:
    """When the first byte came (Unix seconds), and the status; 0 when there was no answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0.0, 0
    try:
        writer.write(request)
        first = await reader.readexactly(1)
        at = time.time()
        head = first + await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError):
        return 0.0, 0
    finally:
        writer.close()
    return at, int(head.split(b" ", 2)[1])


async def ask_until_answered(port: int, request: bytes) -> tuple[float, int]:
    """What a client must do without a gateway."""
    while True:
        at, status = await ask(port, request)
        if status == 200:
            return at, status
        await asyncio.sleep(0.001)


def make_request(plane: Plane, model: str) -> bytes:
    body = chat(model)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{plane.port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def crash_under(proxy: Proxy, plane: Plane, rounds: int) -> Held:
    held = Held()
    served = (await asyncio.to_thread(proxy.wait_for_status, "ready"))["models"]
    request = make_request(plane, served[0]["id"])
    asking = ask_until_answered if plane.name == DIRECT else ask

    async def later(seconds: float) -> tuple[float, int]:
        await asyncio.sleep(seconds)
        return await asyncio.wait_for(asking(plane.port, request), DEADLINE)

    for _ in range(rounds):
        pid = (await asyncio.to_thread(proxy.wait_for_status, "ready"))["pid"]
        os.kill(pid, signal.SIGKILL)
        answers = await asyncio.gather(*(later(number / 100) for number in range(HELD)))
        await asyncio.to_thread(proxy.wait_for_new_pid, pid)
        _, _, ready = last_runs(proxy)
        held.failed += sum(status != 200 for _, status in answers)
        held.after_ready += [1000 * (at - ready) for at, status in answers if status == 200]
    return held


@contextmanager
def in_one_process(directory: Path, **config: Any) -> Iterator[tuple[Proxy, Plane]]:
    with quietly_closing(Proxy(directory, **config)) as proxy:
        port = free_port()
        proxy.start("--gateway", f"127.0.0.1:{port}")
        wait_for("the gateway listens", lambda: listens(port), proxy.evidence)
        yield proxy, Plane(name=GATEWAY, port=port, pid=proxy.supervisor.pid)


@contextmanager
def with_redis(program: str, directory: Path, **config: Any) -> Iterator[tuple[Proxy, Plane]]:
    with quietly_closing(Proxy(directory, **config)) as proxy:
        port = free_port()
        proxy.env["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        proxy.beside(program, "--bind", "127.0.0.1", "--save", "", "--port", str(port), port=port)
        proxy.start(web=False).wait_for_status("ready")
        yield proxy, gateway(proxy)


def tell(what: str, proxy: Proxy, plane: Plane, rounds: int, aim: str = "") -> None:
    held = asyncio.run(crash_under(proxy, plane, rounds))
    failed = f"failed {held.failed} of {rounds * HELD}"
    if held.after_ready:
        quantiles(what, held.after_ready, f"{aim}{failed}")
    else:
        print(f"{what:<34}{failed}")


def tell_recovery(directory: Path, rounds: int, **config: Any) -> None:
    """`rounds` crashes for each line; milliseconds, negative when the answer came before the word of it."""
    one, own = directory / "one-process", directory / "own-process"
    one.mkdir()
    own.mkdir()
    print(f"\n{'killed: ms from ready to answer':<34}{'p50':>10}{'p90':>10}{'p99':>10}{'worst':>10}")
    with in_one_process(one, **config) as (proxy, plane):
        direct = Plane(name=DIRECT, port=proxy.engine_port)
        tell("direct, asking again each ms", proxy, direct, rounds)
        tell("gateway, one process", proxy, plane, rounds, "aim ≤ 20; ")
    redis = shutil.which("redis-server")
    if redis is None:
        print("redis-server is not on PATH: that line is left out. On Debian: apt install redis-server")
        return
    with with_redis(redis, own, **config) as (proxy, plane):
        tell("gateway, own process, Redis", proxy, plane, rounds, "aim ≤ 20; ")
