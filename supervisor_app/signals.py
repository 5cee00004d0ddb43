"""What the event loops of all commands do about signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def on_hangups(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Act when the terminal closes, unless SIGHUP was ignored before: that is what nohup is for."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, act)


def ignore_signals(loop: asyncio.AbstractEventLoop) -> None:
    """At the very end, when nothing is left to be ended: one that finds the loop closed is a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        loop.remove_signal_handler(number)  # else closing the loop would bring the default back
        signal.signal(number, signal.SIG_IGN)
