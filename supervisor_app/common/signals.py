"""Signals, as the event loops of all commands treat them."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


AT_ONCE_SECONDS = 0.005
"""The same signal within so long is the same wish.

`timeout` of GNU coreutils signals the process, then its group: 40 µs apart, in 4 of 10 tries as two signals.
"""


@dataclass
class Heard:
    """Signals and when each came last, by a loop's clock. `since`: when any of them may have come before."""

    since: float = -math.inf
    _at: dict[int, float] = field(default_factory=dict)

    def is_new(self, number: int, now: float) -> bool:
        """Note a signal, and tell whether it is a wish of its own."""
        before, self._at[number] = self._at.get(number, self.since), now
        return now - before >= AT_ONCE_SECONDS


def on_ends(loop: asyncio.AbstractEventLoop, act: Callable[[], None], *, since: float = -math.inf) -> None:
    """Act at each SIGTERM and SIGINT that is a wish of its own.

    `since`: when others may have heard one, by the loop's clock.
    """
    heard = Heard(since)

    def hear(number: int) -> None:
        if heard.is_new(number, loop.time()):
            act()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)


def on_hangups(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Act when the terminal closes, unless SIGHUP was ignored before: that is what nohup is for."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, act)


def ignore_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Ignore signals at the very end of a command: a signal that finds the loop closed prints a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        loop.remove_signal_handler(number)  # else closing the loop would bring the default back
        signal.signal(number, signal.SIG_IGN)
