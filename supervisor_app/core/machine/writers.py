"""Processes that write to the log of a server, which they inherit from it. Blocking: not for the event loop.

A supervisor that begins looks for those of each of its servers, so one look at all processes does for all
who ask within a moment.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

import psutil

from supervisor_app.core.machine.listeners import seen_process
from supervisor_app.core.machine.shared_look import SharedLook

if TYPE_CHECKING:
    from supervisor_app.core.machine.logs import LogFile
    from supervisor_app.core.sightings import Identity, PortHolder


class _Output(NamedTuple):
    """The file that a process writes its errors to."""

    name: str
    device: int
    inode: int

    def may_be(self, log: LogFile, place: os.stat_result | None) -> bool:
        """`place`: the file that there is in the place of the log."""
        is_same = place is not None and (self.device, self.inode) == (place.st_dev, place.st_ino)
        return is_same or log.path.name in self.name


def read_outputs() -> dict[int, _Output]:
    """Look at all processes but ours. Raises OSError."""
    found = {}
    for pid in psutil.pids():
        with contextlib.suppress(OSError):  # gone, or not for us to see
            name = os.readlink(f"/proc/{pid}/fd/2")
            if pid != os.getpid() and name.startswith("/") and not name.startswith("/dev/"):
                file = os.stat(f"/proc/{pid}/fd/2")
                found[pid] = _Output(name, file.st_dev, file.st_ino)
    return found


_outputs = SharedLook(read_outputs)


def _writers(log: LogFile) -> list[int]:
    try:
        place = log.path.stat()
    except OSError:
        place = None
    likely = [pid for pid, output in _outputs.get().items() if output.may_be(log, place)]
    return [pid for pid in likely if log.is_written_by(pid)]


def find_server(log: LogFile, but: Identity | None) -> PortHolder | None:
    """Find the server that writes to this log, `but` this one: unlike its children it leads a session."""
    for pid in _writers(log):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == pid and (but is None or pid != but.pid):
                return seen_process(pid, is_llama=True)
    return None


def end_writers(log: LogFile, only: Identity | None) -> None:
    """Kill all that writes to this log, which would keep the port and the GPU memory.

    `only` the session of this process, if that is given.
    """
    for pid in _writers(log):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            process = psutil.Process(pid)
            if log.is_written_by(pid) and (only is None or os.getsid(pid) == only.pid):
                process.kill()  # never another that has got the pid since
