"""Control groups: where the kernel accounts for the memory of a process, version 1 or 2. Nothing raises."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NO_LIMIT = 2**60


def group_of(pid: int | str, proc: Path, root: Path) -> Path | None:
    """Return the directory of the group, under the root of the version that accounts for memory."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    version_2 = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _visible(root / "memory", path)
        if not controllers:
            version_2 = path
    return None if version_2 is None else _visible(root, version_2)


def ancestors(group: Path, root: Path) -> Iterator[Path]:
    """Yield the group and all that it is in: a limit of each holds."""
    while group != root and group.is_relative_to(root):
        yield group
        group = group.parent
    yield root


def _visible(root: Path, path: str) -> Path:
    """Find a group: in a container the path may be the host's, while the root is the container's own."""
    group = root / path.lstrip("/")
    return group if group.is_dir() else root


def limit_of(group: Path | None) -> int | None:
    """Bytes that it may have; None without a limit."""
    text = _read(group, "memory.max", "memory.limit_in_bytes").strip()
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def used_in(group: Path | None) -> int:
    """Bytes, without the pages of files that the kernel can drop."""
    text = _read(group, "memory.current", "memory.usage_in_bytes").strip()
    stat = dict(re.findall(r"(?m)^(\w+) (\d+)$", _read(group, "memory.stat")))
    return max(0, int(text or 0) - _droppable(stat)) if text.isdigit() else 0


def cpus_of(group: Path | None) -> float | None:
    """Return the CPUs whose time it may use; None without a limit, and of version 1."""
    quota, _, period = _read(group, "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def oom_kills_in(group: Path | None) -> int | None:
    """OOM kills so far; None when it does not say."""
    found = re.search(r"(?m)^oom_kill (\d+)$", _read(group, "memory.events", "memory.oom_control"))
    return int(found[1]) if found else None


def _read(group: Path | None, *names: str) -> str:
    """The first of these files that can be read: version 2 names it one way, version 1 another."""
    for name in names if group is not None else ():
        with contextlib.suppress(OSError):
            return (group / name).read_text() if group else ""
    return ""


def _droppable(stat: Mapping[str, str]) -> int:
    return sum(int(stat.get(f"total_{name}", stat.get(name, 0))) for name in ("inactive_file", "active_file"))
