"""A server's output: one file a server, bounded in size, read from its end.

A file and not a pipe: a pipe that nobody drains blocks llama-server after 64 KiB, with /health still 200,
and dies with us. The child appends (O_APPEND), so the file may be cut under it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from supervisor_app.common.redact import redact
from supervisor_app.core.shortage import raise_shortage

MAX_LINE = 2000
"""Characters kept of one line; a server may write a whole prompt in one."""
TAIL_BYTES = 256 * 1024
"""Read from the end at most, however long the lines are."""


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """`path` and up to `keep - 1` older ones beside it (`.1` is the youngest), each about `max_bytes`."""

    path: Path
    max_bytes: int = 10 * 1024 * 1024
    keep: int = 10
    secrets: tuple[str, ...] = ()
    """Hidden in what is read."""

    def open(self) -> BinaryIO:
        """Open the file for a child to append to. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")

    def is_written_by(self, pid: int) -> bool:
        """Is this where the process with this pid writes to: did we spawn it, or whoever spawned it?"""
        return written_by(pid, self) is not None

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def ends_whole(self) -> bool:
        """Does the file end with a whole line, as far as that can be seen?"""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                return os.pread(file.fileno(), 1, max(0, size - 1)) in (b"", b"\n")
        except OSError:
            return True

    @property
    def is_large(self) -> bool:
        return self.size() > self.max_bytes

    @property
    def whole_bytes(self) -> int:
        """Size up to which a file is copied whole: a second may pass before it is seen to be large."""
        return self.max_bytes + self.max_bytes // 4

    def rotate_if_large(self) -> bool:
        """Copy the file away and cut it to nothing, while its writer goes on. True when it was due.

        Lines that the writer adds between the copy and the cut are lost: microseconds every 10 MB. Only the
        last `max_bytes` of a flood are kept: of a file larger than `whole_bytes`. Raises OSError (a full
        disk); the file is then cut all the same, and no half of a copy is kept: the server must not fill the
        disk. A process killed on the way leaves a file that is still large: the next rotation goes on from
        there.
        """
        if not self.is_large:
            return False
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.rotate(fd)
        finally:
            os.close(fd)
        return True

    def rotate(self, fd: int) -> None:
        """Read the file that is open as `fd`, wherever it is by now."""
        try:
            if self.keep > 1:
                self._make_room()
                self._copy_end(fd, self.older(1))
        finally:
            os.truncate(fd, 0)

    def tail(self, count: int, since: int = 0) -> list[str]:
        """The last `count` lines after byte `since`, oldest first; empty when there is no file.

        Invalid UTF-8 becomes U+FFFD, a line is cut at `MAX_LINE` characters, NULs and carriage returns go,
        secrets are hidden.
        """
        return self.read_from(since, TAIL_BYTES)[0][-count:]

    def follow(self, since: int, limit: int) -> tuple[list[str], int]:
        """The whole lines that have come after byte `since`, and how far they go. Raises OSError."""
        with self.path.open("rb") as file:
            return self.read_fd(file.fileno(), since, limit, whole=True)

    def read_from(self, since: int, limit: int) -> tuple[list[str], int]:
        """Read at most the last `limit` bytes after byte `since` as lines, and return where they end.

        A file that has been cut meanwhile is read from its start. A line whose beginning is left out begins
        with an ellipsis: it must not be taken for a whole one. Raises ShortageError.
        """
        try:
            with self.path.open("rb") as file:
                return self.read_fd(file.fileno(), since, limit)
        except OSError as error:
            raise_shortage(error)
            return [], 0

    def read_fd(self, fd: int, since: int, limit: int, *, whole: bool = False) -> tuple[list[str], int]:
        """Rotate the file that is open as `fd`. Raises OSError."""
        size = os.fstat(fd).st_size
        start = max(since if since <= size else 0, size - limit)
        before = os.pread(fd, min(start, 1), max(0, start - 1))
        data = os.pread(fd, limit, start)
        if whole:
            data = data[: data.rfind(b"\n") + 1]
        lines = [redact(line, self.secrets) for line in split_lines(data)]
        if lines and before not in (b"", b"\n"):
            lines[0] = f"…{lines[0]}"[:MAX_LINE]
        return lines, start + len(data)

    def _make_room(self) -> None:
        """The first number is free afterwards. A gap is where a rotation did not get to its end."""
        last = self.keep - 1
        gap = next((number for number in range(1, last) if not self.older(number).exists()), last)
        for number in range(gap, 1, -1):
            self.older(number - 1).replace(self.older(number))

    def _copy_end(self, fd: int, target: Path) -> None:
        """Copy the end of the file to `target`, whole or not at all."""
        draft = self.path.with_name(f"{self.path.name}.part")
        try:
            with draft.open("wb") as copy:
                draft.chmod(0o600)
                size = os.fstat(fd).st_size
                kept = size if size <= self.whole_bytes else self.max_bytes
                copy.write(os.pread(fd, kept, size - kept))  # a flood has no end
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    def older(self, number: int) -> Path:
        """Path of an older file; 1 is the youngest."""
        return self.path.with_name(f"{self.path.name}.{number}")


def split_lines(data: bytes) -> list[str]:
    """Readable lines of whatever a process wrote; empty lines are left out."""
    text = data.decode("utf-8", "replace").replace("\0", "").replace("\r", "\n")
    return [line[:MAX_LINE].rstrip() for line in text.split("\n") if line.strip()]


def written_by(pid: int, log: LogFile) -> Path | None:
    """Find a path by which the file that a process writes to can be opened, if that is or once was this log.

    By its name, if it was removed or moved away. Then it must belong to us, because others can have a file of
    that name in a file system of their own.
    """
    file = _output_of(pid)
    try:
        if os.path.samefile(file, log.path):
            return log.path
    except OSError:
        pass
    name = _name_of(file)
    own = str(log.path.parent.resolve() / log.path.name)
    return file if name == own or name.startswith((f"{own}.", f"{own}-")) else None


def server_of(pid: int, folder: Path) -> str:
    """Return the name of the server to whose log in this folder a process writes; empty: to none of them."""
    path = Path(_name_of(_output_of(pid)))
    server, log, _ = path.name.partition(".log")
    return server if log and path.parent == folder.resolve() else ""


def _output_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/fd/2")


def _name_of(file: Path) -> str:
    """Return the name that an open file of our user has, or had; empty: it is not for us to see."""
    try:
        name = os.readlink(file).removesuffix(" (deleted)")
        return name if file.stat().st_uid == os.geteuid() else ""
    except OSError:
        return ""
