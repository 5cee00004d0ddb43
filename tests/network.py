"""The network of this machine: tests that change its interfaces, and browsers, which give up what they load then."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = Path(tempfile.gettempdir()) / f"llamaproxy-tests-{os.getuid()}.network"


@contextmanager
def network(*, changes: bool) -> Iterator[None]:
    """Have the network as it is, beside others, or change it (`changes`), alone.

    Chromium fails what it loads with ERR_NETWORK_CHANGED when an interface comes or goes, also from 127.0.0.1.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if changes else fcntl.LOCK_SH)
        yield
