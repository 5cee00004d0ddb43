"""Work beside supervision: a thread of low priority that looks again and again, and that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import connection

from supervisor_app.common.guard import Guard
from supervisor_app.common.outage import Outage
from supervisor_app.common.words import MISTAKE

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

LEAVE_SECONDS = 1.0
"""Time for the work at hand at the end. A disk that hangs is not waited for: the thread is a daemon."""
NICE = 10


class Beside:
    """A thread that calls `look` every `seconds`, and `leave` at the end."""

    def __init__(
        self,
        name: str,
        look: Callable[[], object],
        seconds: float,
        leave: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._look = look
        self._leave = leave
        self._seconds = seconds
        self._leaving = threading.Event()
        what = f"[{name.upper()}]"
        outage = Outage(
            log,
            f"⚠️ {what} The database failed ({{reason}}). Supervision goes on.",
            f"✅ {what} The database answers again",
        )
        mistakes = Outage(log, f"❌ {what} {MISTAKE}. Supervision goes on.", None, level=logging.ERROR)
        self._guard = Guard(outage, mistakes)

    async def run(self) -> None:
        """Look until cancelled."""
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        thread.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._leaving.set()
            await asyncio.to_thread(thread.join, LEAVE_SECONDS)

    def rest(self, seconds: float) -> bool:
        """Wait in the thread. False: it is to end."""
        return not self._leaving.wait(seconds)

    def _work(self) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            # At once, so that a lack of connections shows at the start.
            self._guard.call(self._look)
            while self.rest(self._seconds):
                self._guard.call(self._look)
            self._guard.call(self._leave)
        finally:
            connection.close()
