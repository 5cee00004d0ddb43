"""One supervisor per node: two would start two servers for one port."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class NodeLockedError(Exception):
    """Another supervisor holds this node; `pid` is its."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"pid {pid}")
        self.pid = pid


class NodeLock:
    """An flock on a file in the data directory: the kernel lets go of it however the holder ends.

    Raises NodeLockedError on entering. The file stays: removing it would let two hold "the" lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> NodeLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode("ascii", "replace").strip()
            os.close(file)
            raise NodeLockedError(holder or "unknown") from None
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
