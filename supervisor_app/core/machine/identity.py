"""Which process is it, beyond doubt, and is it a llama-server?"""

from __future__ import annotations

from pathlib import Path

import psutil

from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Identity


def boot_id() -> str:
    """Changes with every boot, so that a pid of yesterday is never taken for one of today.

    Raises ShortageError: another answer than the last time would make every process a stranger.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise_shortage(error)
        return str(int(psutil.boot_time()))


def machine() -> str:
    """Return the space in which a pid is unique: this boot and, in a container, its own pids."""
    try:
        return f"{boot_id()}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return boot_id()


def identity_of(pid: int) -> Identity | None:
    """Identify a process; None when there is none, or only its zombie. Raises ShortageError."""
    try:
        if Path("/proc/self/stat").exists():
            # Ticks since boot. psutil's create_time moves with the wall clock.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else Identity(pid=pid, start=int(fields[19]), boot_id=boot_id())
        return Identity(pid=pid, start=int(psutil.Process(pid).create_time() * 100), boot_id=boot_id())
    except (OSError, psutil.Error) as error:
        raise_shortage(error)
        return None


def command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def is_llama_command(argv: list[str]) -> bool:
    """Recognise by name llama-server itself, an interpreter or loader that runs one, and our launcher."""
    return any(
        Path(word).name.startswith("llama-server") or word.endswith("engine/launcher.py") for word in argv[:4]
    )
