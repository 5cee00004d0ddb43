"""A file while it is fetched: `NAME.part` in its directory, which gets its name once it is whole and right.

Nothing ever has the name of the model before its checksum was compared: neither after a kill nor after a
power cut, because the bytes are on the disk before the name is.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor_app.library.hub.errors import BrokenError, no_room, wrong_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from supervisor_app.library.hub.repository import Remote

SUFFIX = ".part"
BLOCK = 1024 * 1024
SPARE = 256 * 2**20
"""Bytes of a disk that downloads leave to everybody else."""


def part_of_file(target: Path) -> Path:
    """Return the path at which a file grows."""
    return target.with_name(target.name + SUFFIX)


class Part:
    """The part of one file, open for this process alone."""

    def __init__(self, descriptor: int, target: Path, remote: Remote) -> None:
        self._descriptor = descriptor
        self._target = target
        self._remote = remote
        self._hash = hashlib.sha256()
        self.done = 0
        """Bytes that are there."""

    def take_up(self) -> Iterator[int]:
        """Read what an earlier try left, for the checksum; yield the bytes so far."""
        self._hash, self.done = hashlib.sha256(), 0
        if os.fstat(self._descriptor).st_size > self._remote.size:
            self.begin_anew()
        while block := os.pread(self._descriptor, BLOCK, self.done):
            self._hash.update(block)
            self.done += len(block)
            yield self.done

    def begin_anew(self) -> None:
        """Drop what there is."""
        os.ftruncate(self._descriptor, 0)
        self._hash, self.done = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Add bytes. Raises HubError when the disk is full: the part stays, and ends where it was written."""
        if self.done + len(data) > self._remote.size:
            self.begin_anew()
            raise BrokenError("the hub sent more than the file has")
        left = memoryview(data)
        while left:
            try:
                count = os.pwrite(self._descriptor, left, self.done)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise no_room(str(self._target.parent), self._remote.size - self.done) from error
                raise
            self._hash.update(left[:count])
            self.done += count
            left = left[count:]

    @property
    def is_whole(self) -> bool:
        return self.done == self._remote.size

    def finish(self) -> None:
        """Give the file its name. Raises HubError when it is another one: the part is removed."""
        os.fsync(self._descriptor)
        if self._remote.sha256 and self._hash.hexdigest() != self._remote.sha256:
            os.unlink(part_of_file(self._target))
            raise wrong_checksum(self._remote.path)
        os.rename(part_of_file(self._target), self._target)
        sync_directory(self._target.parent)


@contextmanager
def opened_part(target: Path, remote: Remote) -> Iterator[Part]:
    """Open the part of a file, and lock it. Raises BrokenError while another process has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part_of_file(target), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BrokenError("another process fetches the same file") from error
        if not _is_at(descriptor, part_of_file(target)):  # finished by that process a moment ago
            raise BrokenError("another process has fetched the same file")
        yield Part(descriptor, target, remote)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def check_room(directory: Path, needed: int) -> None:
    """Raise HubError if a disk has no room for so many bytes, and some to spare."""
    while not directory.exists():
        directory = directory.parent
    disk = os.statvfs(directory)
    lacking = needed + SPARE - disk.f_bavail * disk.f_frsize
    if lacking > 0:
        raise no_room(str(directory), lacking)


def sync_directory(directory: Path) -> None:
    """Have the names of a directory on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
