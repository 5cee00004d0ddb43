"""Keep what runs in here out of coverage: a traced process needs three times as long.

Coverage is what the inner rooms of tests reach. Tests of the whole system show that it holds together.
"""

from __future__ import annotations

import os
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


def environment_of_others(*without: str) -> dict[str, str]:
    """Return the environment for a process that coverage is to leave out; `without` names what else goes."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COVERAGE_") and name not in without
    }
