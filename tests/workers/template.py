"""A process that has loaded the product, with probes where they were asked for, and forks for each order."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from tests import measuring  # before the product, where the probes go
from tests.acceptance.template import load, serve, take_over

OF_TESTS = ("anthropic", "openai", "playwright.sync_api", "redis")
"""Libraries of tests that take long to load. Tests say what is missing."""


def become(order: dict[str, Any]) -> None:
    """Run the code of an order, as `python -c` would."""
    take_over(order)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop(measuring.VARIABLE, None)
    sys.argv = ["-c"]
    sys.stdin = os.fdopen(0)
    exec(order["code"], {"__name__": "__main__"})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the run, which ends this process
    load()
    for name in OF_TESTS:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    order = serve(socket.socket(fileno=os.dup(0)), leash=int(sys.argv[1]))
    if order is not None:
        become(order)
