"""Signals, as the event loops of all commands treat them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def on_hangups(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Act when the terminal closes, unless SIGHUP was ignored before: that is what nohup is for."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, act)


def ignore_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Ignore signals at the very end of a command: a signal that finds the loop closed prints a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        loop.remove_signal_handler(number)  # else closing the loop would bring the default back
        signal.signal(number, signal.SIG_IGN)
