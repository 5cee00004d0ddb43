"""Work beside an event loop, in a thread that looks again and again and that nobody waits for. Needs Django.

Not in the loop, where nothing may wait; not in a pool, because a pool's threads are waited for at the end of
a process, and a disk or an address that hangs must not hold that up.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Callable

LOW = 10
"""Niceness of work that nobody waits for."""


class Beside:
    """A thread that calls `look` every `seconds`, and `leave` at the end. Neither may raise: see `Guard`."""

    def __init__(
        self,
        name: str,
        look: Callable[[], object],
        seconds: float,
        *,
        leave: Callable[[], object] = lambda: None,
        pause: Callable[[float], object] | None = None,
        wake: Callable[[], object] = lambda: None,
        patience: float = 1.0,
        nice: int = 0,
    ) -> None:
        """`pause`: waits between two looks, in the place of a mere wait, until `wake` interrupts it.

        `patience`: seconds for the work at hand at the end.
        """
        self._name = name
        self._look = look
        self._seconds = seconds
        self._leave = leave
        self._pause = pause or self.rest
        self._wake = wake
        self._patience = patience
        self._nice = nice
        self._leaving = threading.Event()

    async def run(self) -> None:
        """Look until cancelled: at once, so that a lack of connections shows at the start."""
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        thread.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._leaving.set()
            self._wake()
            await asyncio.to_thread(thread.join, self._patience)

    def rest(self, seconds: float) -> bool:
        """Wait in the thread. False: it is to end."""
        return not self._leaving.wait(seconds)

    def _work(self) -> None:
        if sys.platform == "linux" and self._nice:  # where a thread has a priority of its own
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        try:
            while not self._leaving.is_set():
                self._look()
                self._pause(self._seconds)
            self._leave()
        finally:
            connection.close()
