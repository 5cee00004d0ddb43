"""Stops the threads of a process that compute, as a wedged kernel or a lost GPU does; the others go on.

    python freezer.py PID

Linux only. Writes `frozen TID…` once they stand still, or why it cannot, and lives until the process has ended:
when a tracer ends, what it holds goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WALL = 0x40000000
"""Flag of waitpid that waits also for threads."""
LOOK_SECONDS = 0.3
REFUSED = "cannot freeze"
BUSY = 0.5
"""Part of what the busiest thread uses, from which on a thread counts as computing."""


def ptrace(request: int, tid: int) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    none = ctypes.c_void_p(0)
    if libc.ptrace(ctypes.c_long(request), ctypes.c_int(tid), none, none) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def used(pid: int) -> dict[int, int]:
    """Return the CPU time of each thread so far, in ticks."""
    ticks = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            ticks[int(task.name)] = int(fields[11]) + int(fields[12])
    return ticks


def computing(pid: int) -> list[int]:
    """The threads that use the CPU now."""
    while True:
        before = used(pid)
        time.sleep(LOOK_SECONDS)
        burnt = {tid: ticks - before.get(tid, ticks) for tid, ticks in used(pid).items()}
        most = max(burnt.values())
        if most > 0:
            return [tid for tid, ticks in burnt.items() if ticks >= BUSY * most]


def freeze(tid: int) -> None:
    """Freeze a thread until we end or it does. Raises OSError."""
    ptrace(PTRACE_SEIZE, tid)
    ptrace(PTRACE_INTERRUPT, tid)
    os.waitpid(tid, WALL)


def reap() -> None:
    """Wait until all that we hold are gone: a thread whose tracer does not look keeps its process alive."""
    try:
        while True:
            os.waitpid(-1, WALL)
    except ChildProcessError:
        return


def main() -> None:
    pid = int(sys.argv[1])
    try:
        threads = computing(pid)
        for tid in threads:
            freeze(tid)
    except PermissionError as error:
        sys.exit(f"{REFUSED}: {error}")
    print("frozen", *threads, flush=True)
    reap()


if __name__ == "__main__":
    main()
