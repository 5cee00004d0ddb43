"""Several gateway processes behind one address: the kernel spreads the connections (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress

log = logging.getLogger("supervisor_app.gateway")

RESTART_SECONDS = 1.0
QUICK_SECONDS = 5.0
"""A worker that ends so soon has a reason that another start will not mend."""


async def run_workers(count: int, arguments: list[str]) -> int:
    """Until SIGTERM or SIGINT, which are passed on. A worker that dies is replaced. Returns the exit code."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    running: dict[int, asyncio.subprocess.Process] = {}

    def pass_on(number: signal.Signals) -> None:
        stopping.set()
        for process in running.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, pass_on, number)

    async def keep(index: int) -> int:
        while True:
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
            running[index] = process
            began = loop.time()
            code = await process.wait()
            del running[index]
            if stopping.is_set() or loop.time() - began < QUICK_SECONDS:
                return code
            log.error("❌ [GATEWAY] Worker %d ended with %d: starting it again", index + 1, code)
            await asyncio.sleep(RESTART_SECONDS)

    codes = await asyncio.gather(*(keep(index) for index in range(count)))
    return max(codes)
