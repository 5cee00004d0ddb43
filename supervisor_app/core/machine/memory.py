"""Memory of a process and its machine, read where Linux tells it: /proc, control groups, the kernel's log.

Elsewhere psutil answers what it can. Nothing here raises, and nothing waits: nvidia-smi, which hangs when
its driver does, runs in a thread that nobody waits for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from supervisor_app.core.machine.cgroups import group_of, limit_of, oom_kills_in, used_in
from supervisor_app.core.machine.family import family_of
from supervisor_app.core.machine.shared_look import SharedLook
from supervisor_app.core.sightings import Autopsy, GpuMemory, MemorySample

if TYPE_CHECKING:
    from collections.abc import Iterable

GPU_INTERVAL = 10.0
"""Seconds between two questions to nvidia-smi."""
GPU_TIMEOUT = 5.0
GPU_FRESH = 30.0
"""Seconds after which an answer is no longer shown."""
HOST_SECONDS = 0.1
"""Age of a look at the machine's memory that will do for a process: servers of one beat share one."""
OOM_WINDOW = 60.0
"""Seconds: OOM kills of the control group that happened before are somebody else's."""
MAX_KERNEL_LINES = 5
MAX_RECORDS = 100_000
RECORD_BYTES = 8192
PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
KERNEL_LOG = Path("/dev/kmsg")
_A_PID = re.compile(r"(?:[Pp]rocess |pid[=: ] ?|\[)(\d+)\b")
"""A pattern for all pids: of a pattern for each, `re` would cache hundreds."""


class GpuMeter:
    """Asks nvidia-smi, where there is one, in the background."""

    COMMAND = ("--query-gpu=memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")

    def __init__(self) -> None:
        self._path = shutil.which("nvidia-smi")
        self._asked_at = -GPU_INTERVAL
        self._answered_at = 0.0
        self._answer: tuple[GpuMemory, ...] = ()
        self._asking: threading.Thread | None = None

    @property
    def is_asking(self) -> bool:
        """Is a question on its way to the driver?"""
        return self._asking is not None and self._asking.is_alive()

    def latest(self, now: float) -> tuple[GpuMemory, ...]:
        """Return the last answer, and ask anew if that is due. `now`: monotonic seconds."""
        if self._path is not None and not self.is_asking and now - self._asked_at >= GPU_INTERVAL:
            self._asked_at = now
            self._asking = threading.Thread(target=self._ask, args=(self._path,), daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread to spare: the next time
                self._asking.start()
        return self._answer if now - self._answered_at <= GPU_FRESH else ()

    def _ask(self, path: str) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(
                [path, *self.COMMAND], capture_output=True, timeout=GPU_TIMEOUT, check=True, text=True
            )
            self._answer = parse_gpus(said.stdout)
            self._answered_at = time.monotonic()


def parse_gpus(text: str) -> tuple[GpuMemory, ...]:
    """Lines of `used, total, percent`, the first two in MiB; one with `[N/A]` for memory is left out."""
    found = re.findall(r"(?m)^\s*(\d+),\s*(\d+)(?:,\s*(?:(\d+)|\[?N/A\]?))?\s*$", text)
    return tuple(
        GpuMemory(used=int(used) * 2**20, total=int(total) * 2**20, percent=int(percent or 0))
        for used, total, percent in found
    )


class MemoryMeter:
    """Meter of one process with its children, from its start to after its end."""

    def __init__(self, pid: int, gpu: GpuMeter | None = None) -> None:
        self._pid = pid
        self._pids = {pid}
        self._gpu = gpu
        self._kills: deque[tuple[float, Path, int]] = deque()
        self._kernel_log = _open_kernel_log(KERNEL_LOG)
        self._note_kills(time.monotonic())

    def sample(self) -> MemorySample | None:
        """Sample the memory of the process; None when it is gone."""
        now = time.monotonic()
        family = family_of(self._pid)
        self._pids.update(family)
        readings = [reading for pid in family if (reading := _used_by(pid)) is not None]
        if not readings:
            return None
        group = self._note_kills(now)
        host, limit = _host.get(HOST_SECONDS), limit_of(group)
        return MemorySample(
            at=time.time(),
            anon=sum(used.anon for used in readings),
            swap=sum(used.swap for used in readings),
            file=sum(used.file for used in readings),
            host_total=host.total,
            host_available=host.available,
            host_swap_free=host.swap_free,
            limit=limit,
            limit_used=used_in(group) if limit is not None else 0,
            gpus=self._gpu.latest(now) if self._gpu else (),
        )

    def autopsy(self) -> Autopsy:
        """Read what the kernel says of the end of the process. Call only once."""
        kills = 0
        if self._kills:
            # Not of the control group it is in now: it is in none any more.
            group = self._kills[-1][1]
            before = min(count for _, path, count in self._kills if path == group)
            kills = max(0, (oom_kills_in(group) or 0) - before)
        return Autopsy(oom_kills=kills, kernel=self._kernel_lines())

    def close(self) -> None:
        log, self._kernel_log = self._kernel_log, None
        if log is not None:
            os.close(log)

    def _note_kills(self, now: float) -> Path | None:
        group = control_group(self._pid)
        count = oom_kills_in(group)
        if group is not None and count is not None:
            self._kills.append((now, group, count))
            while len(self._kills) > 1 and self._kills[1][0] <= now - OOM_WINDOW:
                self._kills.popleft()
        return group

    def _kernel_lines(self) -> tuple[str, ...]:
        log, self._kernel_log = self._kernel_log, None
        if log is None:
            return ()
        try:
            return naming(_records(log), self._pids)
        finally:
            os.close(log)


class _Host(NamedTuple):
    """Bytes of the machine."""

    total: int
    available: int
    swap_free: int


def read_host() -> _Host:
    memory = psutil.virtual_memory()
    return _Host(memory.total, memory.available, psutil.swap_memory().free)


_host = SharedLook(read_host)


class _Used(NamedTuple):
    """Bytes of one process: without a file behind them, in swap, and pages of files."""

    anon: int
    swap: int = 0
    file: int = 0


def _used_by(pid: int) -> _Used | None:
    """None when it is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        try:
            return _Used(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return None
    found = dict(re.findall(r"(?m)^(RssAnon|RssFile|VmSwap):\s+(\d+) kB$", status))
    if "RssAnon" not in found:  # a zombie has no memory, and no lines about it
        return None
    return _Used(*(int(found.get(key, 0)) * 1024 for key in ("RssAnon", "VmSwap", "RssFile")))


def control_group(pid: int) -> Path | None:
    """Return the control group in which the kernel accounts for the memory of a process."""
    return group_of(pid, PROC, CGROUPS)


# --- The kernel's log ----------------------------------------------------------------------------------


def _open_kernel_log(path: Path) -> int | None:
    """Open the kernel's log from now on; None where it is not for us to read."""
    try:
        log = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.lseek(log, 0, os.SEEK_END)
    return log


def _records(log: int) -> Iterable[str]:
    """The messages that have come since: one a read, `priority,number,microseconds,flags;message`."""
    for _ in range(MAX_RECORDS):
        try:
            record = os.read(log, RECORD_BYTES)
        except BrokenPipeError:  # some were overwritten before we came
            continue
        except OSError:
            return
        if not record:
            return
        yield record.decode("utf-8", "replace").partition(";")[2].partition("\n")[0]


def naming(lines: Iterable[str], pids: Iterable[int]) -> tuple[str, ...]:
    """The last lines that name one of these processes."""
    ours = {str(pid) for pid in pids}
    named = (line for line in lines if not ours.isdisjoint(_A_PID.findall(line)))
    return tuple(deque(named, MAX_KERNEL_LINES))
