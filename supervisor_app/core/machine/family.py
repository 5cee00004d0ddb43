"""A process with its children, and what they have used. Blocking: not for the event loop.

The parents of all processes are read at once, and all who ask within a moment share the table: to read one
for each look at each of many servers would cost more than all else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import psutil

from supervisor_app.core.machine.shared_look import SharedLook
from supervisor_app.core.machine.sock_diag import connected
from supervisor_app.core.machine.sockets import sockets_of
from supervisor_app.core.sightings import ProcessUsage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE_SECONDS = 1.0
"""Greatest age of the table for a look that is taken again anyway."""
TRUSTED_SECONDS = 10.0
"""Time for which a table is trusted while nobody is seen to have made a process: a container may be told of
the pids of its machine late.
"""
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Errors of a file in `/proc`: the process has ended, or is not for us to see."""
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12
"""Fields of `/proc/PID/stat` behind the name."""
_STAT_BYTES = 4096
_IS_LINUX = sys.platform.startswith("linux")


def family_of(pid: int, *, now: bool = False) -> list[int]:
    """List a process and its children, itself first; empty when it is gone. Raises OSError.

    `now`: by a table that is read after this call.
    """
    if not _exists(pid):
        return []
    found = [pid]
    children = _children.get(0.0 if now else TABLE_SECONDS)
    for member in found:  # grows as it goes
        found += [child for child in children.get(member, ()) if child not in found]
    return found


def _exists(pid: int) -> bool:
    """Tell whether there is such a process. psutil reads a file of five calls for that."""
    return os.access(f"/proc/{pid}", os.F_OK) if _IS_LINUX else psutil.pid_exists(pid)


def read_children() -> dict[int, list[int]]:
    found = defaultdict(list)
    for pid in psutil.pids():
        if (parent := _parent(pid)) is not None:
            found[parent].append(pid)
    return dict(found)


def newest_pid() -> bytes:
    """Return the pid that was given last, to a process or a thread; empty where that is not told."""
    try:
        file = os.open("/proc/loadavg", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, _STAT_BYTES).split()[-1].lstrip(b"0")
    finally:
        os.close(file)


class Children:
    """Children of each process. Read again once there may be new ones: all have a pid of their own."""

    def __init__(
        self,
        read: Callable[[], dict[int, list[int]]],
        newest: Callable[[], bytes] = newest_pid,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._newest = newest
        self._clock = clock
        self._seen = b""
        self._read_at = 0.0
        self._known: dict[int, list[int]] = {}

    def __call__(self) -> dict[int, list[int]]:
        newest, now = self._newest(), self._clock()  # before reading: what is made meanwhile
        if not newest or newest != self._seen or now - self._read_at >= TRUSTED_SECONDS:
            self._known, self._read_at = self._read(), now
            self._seen = newest
        return self._known


_children = SharedLook(Children(read_children))
"""Children of each process."""


def _parent(pid: int) -> int | None:
    try:
        return int(_stat(pid)[_PARENT]) if _IS_LINUX else psutil.Process(pid).ppid()
    except (*GONE, psutil.Error):
        return None


def _stat(pid: int) -> list[bytes]:
    """Fields behind the name, which may hold whatever it likes.

    In as few calls as can be: with each of them the interpreter goes to another thread, and comes back late.
    """
    file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        return os.read(file, _STAT_BYTES).rpartition(b")")[2].split()
    finally:
        os.close(file)


def usage_of(pid: int, port: int) -> ProcessUsage:
    """Usage of a process that listens on `port`, and of its children; zeros when it is gone."""
    family = family_of(pid)
    seconds = sum(map(cpu_seconds_of, family))
    return ProcessUsage(cpu_seconds=seconds, connections=_connections(family, port))


def cpu_seconds_of(pid: int) -> float:
    try:
        if not _IS_LINUX:
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system)
        fields = _stat(pid)
    except (*GONE, psutil.Error):
        return 0.0
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")


def _connections(family: list[int], port: int) -> int:
    """Clients that it has. A process with a single socket has none: it listens with that one."""
    if not _IS_LINUX:
        return sum(map(connections_by_psutil, family, [port] * len(family)))
    opened = set[int]().union(*(sockets_of(pid) or () for pid in family))
    if len(opened) <= 1:
        return 0
    try:
        return sum(inode in opened for inode in connected(port))
    except OSError:  # a sandbox that has no sock_diag
        return sum(map(connections_by_psutil, family, [port] * len(family)))


def connections_by_psutil(pid: int, port: int) -> int:
    with contextlib.suppress(psutil.Error):
        return sum(
            bool(each.laddr) and each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
            for each in psutil.Process(pid).net_connections("tcp")
        )
    return 0


def resident_bytes(pid: int) -> int:
    """Memory of it and its children, file pages included."""
    total = 0
    for member in family_of(pid):
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(member).memory_info().rss
    return total


def written_bytes(pid: int, log: Path | None) -> int:
    """Bytes of what it writes into files; where none can be seen, of its log."""
    sizes = {}
    for member in family_of(pid):
        with contextlib.suppress(psutil.Error):
            for file in psutil.Process(member).open_files():
                if getattr(file, "mode", "r") != "r":
                    with contextlib.suppress(FileNotFoundError):
                        sizes[file.path] = os.stat(file.path).st_size
    said = sizes.pop(str(log), 0)
    return sum(sizes.values()) if sizes else said
