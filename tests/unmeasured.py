"""Keep what runs in here out of coverage: a traced process needs three times as long.

Coverage is what the inner rooms of tests reach. Tests of the whole system show that it holds together.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import coverage

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unmeasured() -> Iterator[None]:
    running = coverage.Coverage.current()
    if running is None:
        yield
        return
    running.stop()
    yield
    running.start()
