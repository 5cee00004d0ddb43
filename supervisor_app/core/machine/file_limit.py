"""The limit on open files: all that is allowed for this process, for its children what it found itself.

Most systems start a service with a soft limit of 1024, for the sake of programs that use select(). Each idle
client of the pages is one; with none left nobody could be supervised.
"""

from __future__ import annotations

import resource
from contextlib import suppress

WANTED = 65536
"""Limit that is enough; a higher one would only cost memory of the kernel."""
_FOUND = resource.getrlimit(resource.RLIMIT_NOFILE)
"""Limits with which we were started, and which children get."""


def raise_file_limit() -> int:
    """Raise the limit to what the hard one allows, up to `WANTED`. Return how many files there may be now.

    A system that refuses keeps its limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = WANTED if hard == unlimited else min(WANTED, hard)
    if soft == unlimited:
        return WANTED
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft


def give_back_file_limit(pid: int) -> None:
    """Give a child the limit that we were started with. Where that is impossible the child has ours."""
    with suppress(AttributeError, OSError, ValueError):  # macOS has no prlimit; it may have ended
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _FOUND)
