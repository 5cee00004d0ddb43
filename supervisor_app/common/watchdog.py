"""Signs of life for systemd (sd_notify(3), `WatchdogSec=`): a process whose event loop hangs is replaced."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIGNS = 4
"""Signs of life in the time that systemd waits for one."""
READY, ALIVE = "READY=1", "WATCHDOG=1"


class Watchdog:
    """Tells systemd that each event loop of this process goes round; without systemd it does nothing."""

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        send: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`variables`: the environment, in which systemd says what it wants (sd_notify(3))."""
        self._address = variables.get("NOTIFY_SOCKET", "")
        is_for_us = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = variables.get("WATCHDOG_USEC", "") if is_for_us else ""
        self._seconds = int(limit) / 1_000_000 if limit.isdecimal() else None
        self._send = send
        self._clock = clock
        self._beats: dict[str, float] = {}
        """Moment of the last beat of each loop."""
        self._is_ready = False

    async def watch(self, loop: str) -> None:
        """Beat from within an event loop of this name, until cancelled."""
        try:
            while True:
                if (limit := self._beat(loop)) is None:
                    return
                await asyncio.sleep(limit / SIGNS)
        finally:
            self._beats.pop(loop, None)

    def _beat(self, loop: str) -> float | None:
        """Tell systemd, if the other loops go round as well. Return the limit; None: there is none."""
        if not self._address:
            return None
        if not self._is_ready:
            self._is_ready = True
            self._send(self._address, READY)
        if self._seconds is None:
            return None
        now = self._beats[loop] = self._clock()
        if all(now - beat <= self._seconds / 2 for beat in self._beats.values()):
            self._send(self._address, ALIVE)
        return self._seconds


@cache
def watchdog() -> Watchdog:
    """Return the watchdog of this process."""
    return Watchdog(os.environ, send=notify)


def notify(address: str, text: str) -> None:
    """Send a message to systemd's socket: a path, or an abstract name that begins with @."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(text.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
