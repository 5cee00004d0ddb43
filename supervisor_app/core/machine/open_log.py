"""A log file that is held open as long as its writer lives: somebody may remove it or move it away meanwhile.

The writer then goes on in a file without a name, or in another place, and would fill the disk unseen. Through
the open file it is still read, kept within its bounds, and reported.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from supervisor_app.core.machine.logs import TAIL_BYTES, LogFile, written_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REMOVED = (
    "Its log file was removed while it ran: it writes to a file without a name, which is kept within the same"
    " bounds and is gone when it ends. Restart it for a new one."
)
MOVED = (
    "Its log file was moved away while it ran: it goes on writing to the old one, which is kept within the"
    " same bounds. Restart it for a new one; llamaproxy rotates its logs by itself."
)


class OpenLog:
    """An open log, for any thread. `close` waits for nobody: its last user closes the file."""

    def __init__(self, log: LogFile, fd: int) -> None:
        """Takes over `fd`, which must be open for reading and writing."""
        self.log = log
        self._fd = fd
        self._users = 0
        self._closed = False
        self._lock = Lock()

    @classmethod
    def of(cls, log: LogFile, pid: int | None = None) -> OpenLog | None:
        """The file that `log` names, or that the process `pid` still writes to; None when there is none.

        Raises OSError when it cannot be opened.
        """
        path = log.path if pid is None else written_by(pid, log)
        return None if path is None else cls(log, os.open(path, os.O_RDWR | os.O_CLOEXEC))

    @property
    def trouble(self) -> str:
        """Fate of the file, as a sentence; empty while it is in its place."""
        try:
            with self.in_use() as fd:
                return what_became_of(fd, self.log.path)
        except OSError:
            return ""

    @property
    def position(self) -> int:
        """Bytes that it has; 0 when it is closed. Does not block."""
        try:
            with self.in_use() as fd:
                return os.fstat(fd).st_size
        except OSError:
            return 0

    def tail(self, count: int, since: int = 0) -> list[str]:
        """Read the last lines, as `LogFile.tail` does."""
        try:
            with self.in_use() as fd:
                return self.log.read_fd(fd, since, TAIL_BYTES)[0][-count:]
        except OSError:
            return []

    @property
    def is_large(self) -> bool:
        return self.position > self.log.max_bytes

    def rotate_if_large(self) -> bool:
        """Rotate the file as `LogFile.rotate_if_large` does, wherever it is."""
        if not self.is_large:
            return False
        with self.in_use() as fd:
            self.log.rotate(fd)
        return True

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._lock:
            last, self._closed = not self._closed and self._users == 0, True
        if last:
            os.close(self._fd)

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """Keep the descriptor open while it is used: once closed, its number may be that of another file."""
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield self._fd
        finally:
            with self._lock:
                self._users -= 1
                last = self._closed and self._users == 0
            if last:
                os.close(self._fd)


def what_became_of(file: int | Path, place: Path) -> str:
    """Tell in a sentence what became of an open file that was made in this place; empty while it is there.

    Raises OSError: there is no such file.
    """
    own = os.stat(file)
    if own.st_nlink == 0:
        return REMOVED
    try:
        return "" if os.path.samestat(own, place.stat()) else MOVED
    except OSError:
        return MOVED
