"""The workers of a gateway behind one address: the kernel spreads the connections (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor_app.common.signals import on_ends, on_hangups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("supervisor_app.gateway")

FORCE = signal.SIGUSR1
"""Sent by the first process to its workers: wait no longer. Not a second SIGTERM, because Ctrl+C reaches the
workers from the terminal, too, besides the signal that the first process passes on."""
RESTART_SECONDS = 1.0
QUICK_SECONDS = 5.0
"""A worker whose first start fails so soon has a reason that another start will not mend."""
ORPHAN_SECONDS = 1.0


class Workers:
    """Worker processes. A worker that dies is replaced, until SIGTERM or SIGINT, which is passed on."""

    def __init__(self, command: Callable[[int], Sequence[str]]) -> None:
        """`command`: the command line of worker number 1 and so on; a replacement has the same number."""
        self._command = command
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    async def run(self, count: int) -> int:
        """Run until stopped; return the exit code."""
        loop = asyncio.get_running_loop()
        on_ends(loop, self.stop)
        on_hangups(loop, self._hang_up)
        return max(await asyncio.gather(*(self._keep(number) for number in range(1, count + 1))))

    def _hang_up(self) -> None:
        """End because the terminal closed, without haste however often that is reported."""
        if not self._stopping.is_set():
            self.stop()

    def stop(self) -> None:
        """Let the workers finish their requests and end; a second call ends them at once."""
        number = FORCE if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        for process in self._running:
            _signal(process, number)

    async def _keep(self, number: int) -> int:
        loop = asyncio.get_running_loop()
        is_first = True
        while True:
            began = loop.time()
            code = await self._run_one(number)
            if self._stopping.is_set():
                return max(0, code)  # less: by a signal, perhaps ours, before it was there to take it
            if is_first and code > 0 and loop.time() - began < QUICK_SECONDS:
                self.stop()
                return code
            is_first = False
            log.error("❌ [GATEWAY] Worker %d ended with %d: starting it again", number, code)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESTART_SECONDS):
                    await self._stopping.wait()
                    return 0

    async def _run_one(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(*self._command(number))
        self._running.add(process)
        try:
            if self._stopping.is_set():  # while it was being started
                _signal(process, signal.SIGTERM)
            return await process.wait()
        finally:
            self._running.discard(process)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal a worker without `Process.send_signal`, whose poll would take the exit code from asyncio."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


async def until_orphaned(parent: int) -> None:
    """Wait until the first process, which has this pid, has gone: nobody would end this worker any more."""
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(ORPHAN_SECONDS)
    log.warning("⚠️ [GATEWAY] The process that looked after this worker has gone: ending, too")
