"""Follow a log at the pace of a page: what has come since, bounded, and how much was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.logs.history import Place
from supervisor_app.logs.lives import is_mark
from supervisor_app.logs.shown import Reader, ended

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor_app.logs.hidden import Hider
    from supervisor_app.logs.history import History, RawLine
    from supervisor_app.logs.lives import Life
    from supervisor_app.logs.search import Matcher

PUSH_BYTES = 48 * 1024
"""Bytes of one push at most; four pushes a second are more than anybody reads."""
FILTER_BYTES = 1024 * 1024
"""Looked at for one push, where lines are picked out."""
PUSH_LINES = 400
COUNTED_BYTES = 32 * 1024 * 1024
"""Bytes of which the lines are counted that are left out."""
PATIENCE_SECONDS = 3.0
"""Time that the mark of a start waits for its run to be in the history."""


@dataclass
class Follower:
    """Knows how far a page has followed a log."""

    place: Place | None = None
    """None: from the end."""
    matcher: Matcher | None = None
    _seen: Place | None = None
    """End of the log when it was looked at last."""
    _waits_since: float | None = None

    @property
    def waits_for_run(self) -> bool:
        """The log has a start of which the history did not know yet."""
        return self._waits_since is not None

    def finds_no_log(self) -> None:
        """Note that there is none: one that appears is read from its beginning."""
        self.place = Place("", 0)

    def news(
        self, history: History, known: Sequence[Life], hider: Hider, now: float
    ) -> dict[str, Any] | None:
        """Return what has come since the last look, for the page; None: nothing."""
        if self._seen == history.end and not self.waits_for_run:
            return None
        self._seen = history.end
        place = self.place or history.end
        skipped, start = self._start(history, place)
        reader = Reader.of(history, known, hider)
        lines = list(self._until_unknown(history.lines_on(start), reader, now))
        if skipped and lines:
            start, lines = lines[0].end, lines[1:]  # its beginning may be missing
        if not lines:
            return None  # all of it waits, or was cut away this moment
        end = lines[-1].end
        matcher = self.matcher
        picked = lines if matcher is None else [raw for raw in lines if matcher.finds(raw.data)]
        left_out = max(0, len(picked) - PUSH_LINES)
        count = _count(history, place, start) if skipped else 0
        self.place = end
        if not picked and not skipped:
            return None
        return {
            "items": reader.items(picked[left_out:], with_marks=matcher is None),
            "skipped": None if count is None else count + left_out,
            "skippedBytes": skipped,
            "end": str(end),
            "tail": ended(reader.lives.last),
        }

    def _start(self, history: History, place: Place) -> tuple[int, Place]:
        """Return how many bytes are left out after a place, and where to begin."""
        most = PUSH_BYTES if self.matcher is None else FILTER_BYTES
        waiting = history.size - history.position(place)
        if waiting <= most:
            return 0, place
        return waiting - most, history.place_at(history.size - most)

    def _until_unknown(self, lines: Iterator[RawLine], reader: Reader, now: float) -> Iterator[RawLine]:
        """Yield lines up to the mark of a start that the history does not know yet, for a while."""
        for raw in lines:
            if is_mark(raw.data) and reader.lives.beginning_at(raw.place) is None:
                self._waits_since = now if self._waits_since is None else self._waits_since
                if now - self._waits_since < PATIENCE_SECONDS:
                    return
            yield raw
        self._waits_since = None


def _count(history: History, start: Place, end: Place) -> int | None:
    """Count the lines between two places; None where that would take too long."""
    first, last = history.position(start), history.position(end)
    if last - first > COUNTED_BYTES:
        return None
    return sum(
        segment.read(max(0, first - begin), min(segment.size, last - begin)).count(b"\n")
        for segment, begin in zip(history.segments, history.starts, strict=False)
        if begin < last and begin + segment.size > first
    )
