"""CPUs that this process and its servers may use. Nothing raises."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from supervisor_app.core.machine.cgroups import ancestors, cpus_of, group_of
from supervisor_app.core.machine.memory import CGROUPS, PROC

if TYPE_CHECKING:
    from pathlib import Path


def usable_cpus(proc: Path = PROC, root: Path = CGROUPS) -> int:
    """Return how many there are: those of our mask, or fewer where a control group gives less time."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    group = group_of("self", proc, root)
    limits = [cpus_of(each) for each in ancestors(group, root)] if group is not None else []
    given = [round(limit) for limit in limits if limit is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *given]))
