"""All that a server has written and that is still kept: the file it writes to, and the older ones beside it.

Read with `pread`, never mapped into memory: the newest file is cut to nothing under its readers, and a mapped
page that is gone ends the process (SIGBUS).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from supervisor_app.core.machine.logs import LogFile

BLOCK_BYTES = 256 * 1024
"""Bytes read at a time, and of one line: a longer one, such as a whole conversation, comes in pieces."""
NEWEST = "n"
"""First letter of the key of the file that is still written to."""
TRIES = 5


@dataclass(frozen=True)
class Place:
    """Beginning of a line: the file, by a key that stays when the file gets another name, and the byte."""

    key: str
    offset: int

    def __str__(self) -> str:
        return f"{self.key}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ValueError."""
        key, dot, offset = text.partition(".")
        if not dot or not key.isalnum() or not offset.isascii() or not offset.isdigit() or len(offset) > 18:
            raise ValueError(f"{text[:80]!r} is no place in a log.")
        return cls(key, int(offset))


@dataclass(frozen=True)
class RawLine:
    place: Place
    data: bytes
    """Bytes of the line, but for its end."""
    end: Place
    """Beginning of the next line; of a line that is still being written, its own."""


@dataclass(frozen=True)
class Segment:
    """Open file of a log."""

    key: str
    fd: int
    size: int
    """Bytes that it had when it was opened."""

    @property
    def is_newest(self) -> bool:
        return self.key.startswith(NEWEST)

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self.fd, max(0, end - start), start)


class History:
    """The files of one log at one moment, oldest first. Raises OSError where one cannot be read."""

    def __init__(self, segments: list[Segment], closing: ExitStack) -> None:
        self.segments = segments
        self.starts = list(accumulate((segment.size for segment in segments), initial=0))
        """Bytes before each segment; at the end, of all of them."""
        self._closing = closing

    @classmethod
    def open(cls, log: LogFile, newest: Path | None = None) -> History:
        """Open what there is of a log. `newest`: the file that is written to, if that is not `log.path`.

        A rotation meanwhile would show a file twice, or hide one: then all are opened again.
        """
        for _ in range(TRIES):
            history = _open(log, newest or log.path)
            if _beside(history.newest_key) == _key_at(log.older(1)):
                break
            history.close()
        else:
            history = _open(log, newest or log.path)
        return history

    @property
    def newest_key(self) -> str:
        return self.segments[-1].key

    @property
    def size(self) -> int:
        return self.starts[-1]

    @property
    def end(self) -> Place:
        return Place(self.newest_key, self.segments[-1].size)

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closing.close()

    def find(self, place: Place) -> tuple[int, int]:
        """Return the number of the segment in which a place is by now, and the offset in that.

        A place that is not kept any more is the beginning of all.
        """
        return self._find(place) or (0, 0)

    def has(self, place: Place) -> bool:
        """Is the place still kept?"""
        return self._find(place) is not None

    def _find(self, place: Place) -> tuple[int, int] | None:
        """Find a place.

        The newest file may have been copied away since: then what it held is in the one after the file that
        was beside it at that time.
        """
        for number, segment in enumerate(self.segments):
            if segment.key == place.key:
                return number, min(place.offset, segment.size)
        if place.key.startswith(NEWEST):
            before = _beside(place.key)
            for number, segment in enumerate(self.segments[:-1]):
                if segment.key == before:
                    return number + 1, _in_copy(place, self.segments[number + 1])
            if before == "" and len(self.segments) > 1:
                return 0, _in_copy(place, self.segments[0])
        return None

    def position(self, place: Place) -> int:
        """Count the bytes before a place."""
        number, offset = self.find(place)
        return self.starts[number] + offset

    def place_at(self, position: int) -> Place:
        """Return the place before which there are so many bytes."""
        number = max(0, bisect_right(self.starts, position, hi=len(self.segments)) - 1)
        return Place(self.segments[number].key, position - self.starts[number])

    def lines_on(self, place: Place) -> Iterator[RawLine]:
        """Read from a place on to the end; the last line may be one that is still being written."""
        number, offset = self.find(place)
        for segment in self.segments[number:]:
            end = segment.size
            while offset < end and (data := segment.read(offset, min(offset + BLOCK_BYTES, end))):
                data = data[: data.rfind(b"\n") + 1] or data
                yield from _split(segment, offset, data)
                offset += len(data)
            offset = 0

    def lines_back(self, place: Place | None = None) -> Iterator[RawLine]:
        """Read what is before a place, or before the end, newest first."""
        for segment, start, data in self.blocks_back(place, BLOCK_BYTES):
            yield from reversed(list(_split(segment, start, data)))

    def blocks_back(self, place: Place | None, size: int) -> Iterator[tuple[Segment, int, bytes]]:
        """Read what is before a place in blocks of whole lines, newest first, each with its offset.

        A line longer than a block comes in pieces.
        """
        number, offset = self.find(place or self.end)
        for segment in reversed(self.segments[: number + 1]):
            end = offset if segment is self.segments[number] else segment.size
            while end > 0:
                start = max(0, end - size)
                data = segment.read(start, end)
                if start > 0:
                    cut = data.find(b"\n", 0, len(data) - 1) + 1
                    start, data = start + cut, data[cut:]
                yield segment, start, data
                end = start


def _open(log: LogFile, newest: Path) -> History:
    with ExitStack() as stack:
        opened: list[tuple[str, int]] = []
        first = _open_file(newest, stack)
        for number in range(1, log.keep):
            fd = _open_file(log.older(number), stack)
            if fd is not None:
                opened.append((_key_of(os.fstat(fd)), fd))
        segments = [Segment(key, fd, os.fstat(fd).st_size) for key, fd in reversed(opened)]
        if first is None:
            if not segments:
                raise FileNotFoundError(f"{newest} does not exist.")
            first = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, first)
        beside = opened[0][0] if opened else ""
        stat = os.fstat(first)
        segments.append(Segment(f"{NEWEST}{stat.st_ino:x}{NEWEST}{beside}", first, stat.st_size))
        return History(segments, stack.pop_all())
    raise AssertionError  # mypy: an ExitStack may swallow what its body raises; this one does not


def _open_file(path: Path, stack: ExitStack) -> int | None:
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        return fd
    return None


def _in_copy(place: Place, copy: Segment) -> int:
    """Return the offset of a place in the copy of its file; of a flood only the end was copied."""
    return place.offset if place.offset <= copy.size else 0


def _beside(newest_key: str) -> str:
    """Return the key of the file that was the youngest of the older ones; empty when there was none."""
    return newest_key.rpartition(NEWEST)[2]


def _key_at(path: Path) -> str:
    with suppress(OSError):
        return _key_of(path.stat())
    return ""


def _key_of(stat: os.stat_result) -> str:
    """Key of a file that is written to no more: an inode alone is given to the next file at once."""
    return f"{stat.st_ino:x}{stat.st_mtime_ns:x}"


def _split(segment: Segment, start: int, data: bytes) -> Iterator[RawLine]:
    """Split a block into lines, of which the last one may have no end."""
    *whole, rest = data.split(b"\n")
    for line in whole:
        end = start + len(line) + 1
        yield RawLine(Place(segment.key, start), line, Place(segment.key, end))
        start = end
    if rest:
        place, end = Place(segment.key, start), start + len(rest)
        is_being_written = segment.is_newest and end >= segment.size
        yield RawLine(place, rest, place if is_being_written else Place(segment.key, end))
