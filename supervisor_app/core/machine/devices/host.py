"""The memory of the host, or as much of it as the control groups leave us."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST, Device, Survey
from supervisor_app.core.machine.cgroups import ancestors, group_of, limit_of, used_in

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NOT_OF_FILES = re.compile(r"(?m)^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$")


def host_memory(proc: Path, cgroups: Path, ours: frozenset[int]) -> Survey:
    """Read `meminfo` and the limits of our control group and of all those around it.

    Free is what can be had without swapping: pages of files, those of models among them, count as free.
    """
    try:
        text = (proc / "meminfo").read_text()
    except OSError as error:
        return Survey(problems=(f"The host's memory cannot be read: {error.strerror}.",))
    told = {key: int(value) * 1024 for key, value in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text)}
    if not {"MemTotal", "MemAvailable"} <= told.keys():
        return Survey(problems=("The host's memory cannot be read: /proc/meminfo does not say it.",))
    total, free, name = told["MemTotal"], told["MemAvailable"], "Host memory"
    group = group_of("self", proc, cgroups)
    for each in ancestors(group, cgroups) if group is not None else ():
        limit = limit_of(each)
        if limit is not None:
            free = min(free, max(0, limit - used_in(each)))
            if limit < total:
                total, name = limit, "Memory of our control group"
    return Survey(
        (Device(id=HOST, name=name, total=total, free=min(free, total), ours=_used_by(proc, ours)),)
    )


def _used_by(proc: Path, pids: Iterable[int]) -> int:
    """Bytes that no file backs, in memory or swap; a process that is gone has none."""
    total = 0
    for pid in pids:
        try:
            status = (proc / str(pid) / "status").read_text()
        except OSError:
            continue
        total += sum(int(kilobytes) for kilobytes in _NOT_OF_FILES.findall(status)) * 1024
    return total
