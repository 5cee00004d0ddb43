"""The supervisor that a lease names."""

from __future__ import annotations

from typing import NamedTuple

from supervisor_app.core.machine.identity import identity_of, machine


class Holder(NamedTuple):
    """A supervisor of any host."""

    pid: int
    start: int
    machine: str
    host: str

    @classmethod
    def parse(cls, text: str) -> Holder:
        pid, start, where, host = text.split(" ", 3)
        return cls(int(pid), int(start), where, host)

    @property
    def is_here(self) -> bool:
        return self.machine == machine()

    @property
    def is_gone(self) -> bool:
        """Tell whether the holder is gone beyond doubt: it was a process of this machine."""
        process = identity_of(self.pid)
        return self.is_here and (process is None or process.start != self.start)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"
