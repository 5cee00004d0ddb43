"""A stand-in for llama-server to spawn, and how long to wait for what a process does."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from supervisor_app.core.spec import LaunchSpec
from tests.deadline import DEADLINE
from tests.ports import free_port

FAKE = Path(__file__).parents[1] / "fake_llama_server.py"


def fake_spec(*flags: str, port: int | None = None, host: str = "127.0.0.1", **more) -> LaunchSpec:
    port = port or free_port()
    args = ("-m", "model.gguf", "--host", host, "--port", str(port), *flags)
    return LaunchSpec(
        host=host, port=port, command=(sys.executable, str(FAKE)), args=args, model_path="model.gguf", **more
    )


async def until_async(check) -> None:
    deadline = time.monotonic() + DEADLINE
    while not await check():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


async def until(check) -> None:
    async def asked():
        return check()

    await until_async(asked)
