"""The lives of a server in its log: where each began, and when a line of it was written.

`core.machine.spawning` writes a mark before each start. A server's clients can have it write what looks like
one, so a mark counts only together with a run of the history that began then, by the same command line.
"""

from __future__ import annotations

import shlex
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

import re2

from supervisor_app.logs.hidden import Hider, options
from supervisor_app.logs.history import Place
from supervisor_app.logs.lines import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor_app.logs.history import History, Segment

SPAWN_SECONDS = 12.0
"""Longest from a mark to the moment that its run says it began: a start may take 10 s."""
LOOK_BACK_BYTES = 256 * 1024 * 1024
"""Bytes that are searched for the beginning of a life; a larger log's lines have no time without it."""
BLOCK_BYTES = 1024 * 1024
CACHED = 256
"""Files of which the marks are remembered."""
_MARK = re2.compile(rb"(?m)^--- (20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00) starting: ([^\n]*)$", options())
_SIGN = b"--- 20"


@dataclass(frozen=True, kw_only=True)
class Life:
    """A run, as the log tells of it. Times are Unix seconds."""

    number: int
    started_at: float
    ended_at: float | None
    title: str
    """End in words; empty while it goes on."""
    failed: bool
    argv: tuple[str, ...]
    decisive: str = ""
    """The line that told why it died."""
    build: str = ""
    """Build of the engine; empty: not known."""

    @property
    def command(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True)
class Mark:
    offset: int
    at: float
    command: str


@dataclass(frozen=True)
class Begin:
    """Beginning of a life in the log."""

    place: Place
    life: Life


class Lives:
    """The lives of which the log still has the beginning, or the rest."""

    def __init__(self, history: History, lives: Sequence[Life]) -> None:
        """`lives`: of the history, in any order."""
        self._history = history
        self.known = sorted(lives, key=lambda life: life.number)
        self.begins = list(_begins(history, self.known))
        self._positions = [self._history.position(begin.place) for begin in self.begins]
        self._by_place = {begin.place: number for number, begin in enumerate(self.begins)}

    def beginning_at(self, place: Place) -> int | None:
        """Return the number, in `begins`, of the life whose mark is in this place."""
        return self._by_place.get(place)

    def of(self, place: Place) -> Life | None:
        """Return the life in which the line in this place was written."""
        number = bisect_right(self._positions, self._history.position(place)) - 1
        return self.begins[number].life if number >= 0 else self._cut_off

    @property
    def _cut_off(self) -> Life | None:
        """The life whose beginning is not kept any more, while its rest is."""
        first = self.begins[0].life.started_at if self.begins else float("inf")
        return next((life for life in reversed(self.known) if life.started_at < first), None)

    @property
    def last(self) -> Life | None:
        return self.begins[-1].life if self.begins else self._cut_off

    def before(self, number: int) -> Life | None:
        """Return the life before that of a mark."""
        return self.begins[number - 1].life if number else self._cut_off

    def end_of(self, run: int) -> Place | None:
        """Return where the life of a run ends; None: the log does not have it, or it has no end yet."""
        for number, begin in enumerate(self.begins):
            if begin.life.number == run:
                after = self.begins[number + 1 :]
                return after[0].place if after else self._history.end
        if self.begins and self._cut_off is not None and self._cut_off.number == run:
            return self.begins[0].place
        return None

    def at(self, moment: float) -> Place:
        """Return the first line that was written at a moment or later, as far as lines tell their time."""
        number = next(
            (n for n in range(len(self.begins) - 1, -1, -1) if self.begins[n].life.started_at <= moment), None
        )
        low = self._positions[number] if number is not None else 0
        after = 0 if number is None else number + 1
        high = self._positions[after] if after < len(self._positions) else self._history.size
        life = self._cut_off if number is None else self.begins[number].life
        if life is None:
            return self._history.place_at(high if self.begins else 0)
        return self._bisect(low, high, round((moment - life.started_at) * 1_000_000))

    def _bisect(self, low: int, high: int, stamp: int) -> Place:
        """Find the first line with this stamp or a later one between two positions; stamps never fall."""
        while high - low > BLOCK_BYTES // 16:
            middle = (low + high) // 2
            found = self._next_stamp(middle, high)
            if found is None or found[1] >= stamp:
                high = middle
            else:
                low = self._history.position(found[0])
        hider = Hider()
        for raw in self._history.lines_on(self._history.place_at(low)):
            line = line_of(raw, hider)
            if self._history.position(raw.place) >= high + BLOCK_BYTES or (line.stamp or -1) >= stamp:
                return raw.place
        return self._history.end

    def _next_stamp(self, start: int, end: int) -> tuple[Place, int] | None:
        hider = Hider()
        lines = self._history.lines_on(self._history.place_at(start))
        next(lines, None)  # its beginning may be missing
        for raw in lines:
            if self._history.position(raw.place) >= end:
                return None
            stamp = line_of(raw, hider).stamp
            if stamp is not None:
                return raw.place, stamp
        return None


def is_mark(line: bytes) -> bool:
    """Does the line look like the mark of a start?"""
    return line.startswith(_SIGN) and _MARK.search(line) is not None


def time_of(stamp: int | None, life: Life | None) -> float | None:
    """Unix seconds of a line."""
    return None if stamp is None or life is None else life.started_at + stamp / 1_000_000


def _begins(history: History, lives: Sequence[Life]) -> Iterator[Begin]:
    """Yield the marks that are true, in the order of the log."""
    marks: list[tuple[Place, Mark]] = []
    looked = 0
    for segment in reversed(history.segments):
        if looked > LOOK_BACK_BYTES:
            break
        looked += segment.size
        marks[:0] = [(Place(segment.key, mark.offset), mark) for mark in _cache.marks(segment)]
    first = 0
    for life in lives:
        fitting = [
            number
            for number in range(first, len(marks))
            if marks[number][1].at <= life.started_at <= marks[number][1].at + SPAWN_SECONDS
            and marks[number][1].command == life.command[: len(marks[number][1].command)]
        ]
        if fitting and life.argv:
            # The last start before the run is its own, if there were several; a forged mark comes after it.
            newest = max(marks[number][1].at for number in fitting)
            chosen = next(number for number in fitting if marks[number][1].at == newest)
            yield Begin(marks[chosen][0], life)
            first = chosen + 1


class _Cache:
    """The marks of files, for all threads: a file that is written to no more is read once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, tuple[Mark, ...]]] = OrderedDict()
        """Bytes that were read, and the marks in them, by key."""
        self._lock = Lock()

    def marks(self, segment: Segment) -> tuple[Mark, ...]:
        with self._lock:
            read, marks = self._known.get(segment.key, (0, ()))
        if read > segment.size:
            read, marks = 0, ()
        if read < segment.size:
            read, found = _read_marks(segment, read)
            marks += found
            with self._lock:
                self._known[segment.key] = (read, marks)
                self._known.move_to_end(segment.key)
                while len(self._known) > CACHED:
                    self._known.popitem(last=False)
        return marks


_cache = _Cache()


def _read_marks(segment: Segment, start: int) -> tuple[int, tuple[Mark, ...]]:
    """Return the marks from an offset on, and the offset up to which whole lines were read."""
    marks: list[Mark] = []
    while start < segment.size and (data := segment.read(start, min(start + BLOCK_BYTES, segment.size))):
        whole = data.rfind(b"\n") + 1
        if whole == 0 and start + len(data) >= segment.size:
            break
        block = data[:whole] if whole else data
        if _SIGN in block:
            marks += [
                Mark(
                    start + found.start(),
                    datetime.fromisoformat(found[1].decode()).timestamp(),
                    found[2].decode("utf-8", "replace"),
                )
                for found in _MARK.finditer(block)
            ]
        start += len(block)
    return start, tuple(marks)
