"""TCP ports for what tests start."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

LOWEST, HIGHEST = 12_000, 32_000
"""Below those that the kernel gives to outgoing connections, which could take a port first."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_given: set[int] = set()


def free_port() -> int:
    """Find a port that nobody has: none is given twice, and none that a parallel worker may give."""
    share = (HIGHEST - LOWEST) // WORKERS
    first = LOWEST + WORKER * share
    while True:
        port = random.randrange(first, first + share)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def port_of(bound):
    """Return the port of a bound socket."""
    return bound.getsockname()[1]
