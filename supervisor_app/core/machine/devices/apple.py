"""Macs: one memory, which CPU and GPU share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST, Device, Survey

if TYPE_CHECKING:
    from collections.abc import Callable

SYSCTL = "/usr/sbin/sysctl"
TIMEOUT_SECONDS = 2.0
GPU_LIMIT_KEY = "iogpu.wired_limit_mb"
"""MiB that the GPU may have; 0: the system's choice, two thirds to three quarters of all."""


def sysctl(key: str) -> str:
    """Return what the system says of a key; empty when it does not know it."""
    try:
        said = subprocess.run(
            [SYSCTL, "-n", key], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def unified_memory(ask: Callable[[str], str], available: int, used_by_us: int) -> Survey:
    """Describe the memory of a Mac. `available` bytes can be had without swapping.

    On one with a chip of Apple it is the GPU's, too; on others it is the host's alone.
    """
    total = ask("hw.memsize")
    if not total.isdigit():
        return Survey(problems=("The Mac's memory cannot be read: sysctl does not tell hw.memsize.",))
    is_unified = ask("hw.optional.arm64") == "1"
    limit = ask(GPU_LIMIT_KEY)
    note = f"Of it the GPU may have {limit} MiB." if is_unified and limit.isdigit() and int(limit) else ""
    return Survey(
        (
            Device(
                id=HOST,
                name="Memory of CPU and GPU" if is_unified else "Host memory",
                total=int(total),
                free=min(available, int(total)),
                ours=used_by_us,
                note=note,
            ),
        )
    )
