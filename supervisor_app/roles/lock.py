"""The lock of a node: two supervisors would start two servers for one port."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

log = logging.getLogger(__name__)

LOCKS = Path("/proc/locks")
ROOT = 0


class NodeLockedError(Exception):
    """The node is held by another supervisor, whose process is `pid`."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"pid {pid}")
        self.pid = pid


class NodeLock:
    """An flock on a file in the data directory: the kernel releases the lock however its holder ends.

    Raises NodeLockedError on entering. The file stays: removing it would let two hold "the" lock. Only a file
    whose lock another user of the machine holds is replaced: that user is no supervisor of this node.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> NodeLock:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            file = _locked(self._path)
        except _StrangerHoldsItError:
            # If two supervisors find a stranger, the second one finds the first one's lock.
            with _flock(self._path.with_suffix(".guard")):
                file = self._replaced()
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

    def _replaced(self) -> int:
        try:
            return _locked(self._path)
        except _StrangerHoldsItError as stranger:
            log.warning("🔒 [SUPERVISOR] %s is locked by %s: replaced", self._path, stranger)
        self._path.unlink()
        return _locked(self._path)


class _StrangerHoldsItError(Exception):
    """The lock is held by processes of other users alone; the message describes them."""


def _locked(path: Path) -> int:
    """Return the open file with its lock. Raises NodeLockedError, _StrangerHoldsItError."""
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 32).decode("ascii", "replace").strip()
        stranger = _stranger(file)
        os.close(file)
        if stranger is not None:
            raise _StrangerHoldsItError(stranger) from None
        raise NodeLockedError(holder or "unknown") from None
    return file


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def _flock(path: Path) -> Iterator[None]:
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _stranger(file: int) -> str | None:
    """Describe the holder of this file's lock if every holder is seen to be a stranger; None otherwise.

    A supervisor in another container is not seen here, so a holder that nobody sees is no stranger.
    """
    holders = [_described_stranger(pid) for pid in _holders(file)]
    return ", ".join(filter(None, holders)) if holders and all(holders) else None


def _described_stranger(pid: int) -> str | None:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        # A supervisor holds its lock itself; this lock was handed on to a child.
        return f"a child of pid {pid}, which has ended"
    return None if uid in (os.geteuid(), ROOT) else f"pid {pid} of user {uid}"


def _holders(file: int) -> list[int]:
    """Return the processes that took an flock on this file, as far as the kernel shows them."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return []
    status = os.fstat(file)
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; a waiting one has "->" after its number.
    words = (line.split() for line in lines)
    return [int(word[4]) for word in words if len(word) > 5 and word[1] == "FLOCK" and word[5] == where]
