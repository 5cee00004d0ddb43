"""Parts of a log for a page, as JSON: lines, and between them the ends and beginnings of lives."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from supervisor_app.logs.lines import Line, line_of
from supervisor_app.logs.lives import Lives, time_of
from supervisor_app.logs.query import BadQueryError
from supervisor_app.logs.search import Budget, Matcher, search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.logs.hidden import Hider
    from supervisor_app.logs.history import History, Place, RawLine
    from supervisor_app.logs.lives import Life
    from supervisor_app.logs.query import Query

PAGE_LINES = 400
AROUND_LINES = 200
"""Lines before and after a place that is jumped to."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads one log at one moment for a page."""

    history: History
    lives: Lives
    hider: Hider

    @classmethod
    def of(cls, history: History, known: Sequence[Life], hider: Hider) -> Reader:
        return cls(history=history, lives=Lives(history, known), hider=hider)

    def answer(self, query: Query) -> dict[str, Any]:
        """Return the part of the log that is asked for. Raises BadFilterError, BadQueryError."""
        if not query.wanted.is_empty:
            return self.found(Matcher(query.wanted, self.hider), query.before, Budget())
        if query.run is not None:
            return self.end_of(query.run)
        if query.at is not None:
            return self._at(query.at)
        if query.around is not None:
            return self.around(query.around) | ({} if self.history.has(query.around) else self._beginning)
        if query.after is not None:
            return self.newer(query.after)
        return self.older(query.before)

    def _at(self, moment: float) -> dict[str, Any]:
        """Return the lines around a moment; where that is not kept, the first ones, and their time."""
        beginning = self._beginning
        first = beginning["keptFrom"]
        is_kept = first is None or _ms(moment) >= first
        return self.around(self.lives.at(moment)) | ({} if is_kept else beginning)

    @property
    def _beginning(self) -> dict[str, Any]:
        """Milliseconds of the first line that is kept, if that tells its time."""
        return {"keptFrom": self._time_at(self.history.place_at(0))}

    def end_of(self, run: int) -> dict[str, Any]:
        """Return the lines around the end of a run, with the line that told why it died in focus."""
        place = self.lives.end_of(run)
        if place is None:
            raise BadQueryError(f"run: the log does not have run {run} any more.")
        last = list(islice(self.history.lines_back(place), AROUND_LINES))
        decisive = next((life.decisive for life in self.lives.known if life.number == run), "")
        for raw in last:
            if decisive and decisive in line_of(raw, self.hider).text:
                return self.around(raw.place)
        return self.around(last[0].place if last else place)

    def older(self, before: Place | None) -> dict[str, Any]:
        lines = list(islice(self.history.lines_back(before), PAGE_LINES))[::-1]
        more = len(lines) == PAGE_LINES
        newer = None if before is None else before
        return self._page(lines, older=lines[0].place if more else None, newer=newer, is_end=before is None)

    def newer(self, after: Place, count: int = PAGE_LINES) -> dict[str, Any]:
        """Return lines from a place on."""
        lines = list(islice(self.history.lines_on(after), count))
        is_end = len(lines) < count
        newer = None if is_end else lines[-1].end
        return self._page(lines, older=after, newer=newer, is_end=is_end)

    def around(self, place: Place) -> dict[str, Any]:
        """Return the lines around a place, and which of them it is."""
        before = list(islice(self.history.lines_back(place), AROUND_LINES))[::-1]
        after = list(islice(self.history.lines_on(place), AROUND_LINES))
        is_end = len(after) < AROUND_LINES
        page = self._page(
            before + after,
            older=before[0].place if len(before) == AROUND_LINES else None,
            newer=None if is_end else after[-1].end,
            is_end=is_end,
        )
        focus = after[0] if after else before[-1] if before else None
        return {**page, "focus": str(focus.place) if focus else None}

    def found(self, matcher: Matcher, before: Place | None, budget: Budget) -> dict[str, Any]:
        """Return lines that are found before a place, and how far was looked."""
        found = search(self.history, matcher, before, budget)
        first = found.lines[0] if found.lines else None
        reached = found.reached
        return {
            **self._page(found.lines, older=reached, newer=None, is_end=before is None, with_marks=False),
            "searched": {
                "back": self._time_at(reached) if reached else None,
                "bytes": self.history.size - (self.history.position(reached) if reached else 0),
                "total": self.history.size,
                "done": reached is None,
            },
            "focus": str(first.place) if first else None,
        }

    @property
    def _end(self) -> Place:
        """Place to go on from once there is more; a line that is being written is read again."""
        last = next(self.history.lines_back(), None)
        return self.history.end if last is None else last.end

    def _time_at(self, place: Place) -> int | None:
        """Milliseconds of the first line at a place that tells its time."""
        for raw in islice(self.history.lines_on(place), 100):
            line = line_of(raw, self.hider)
            if (at := time_of(line.stamp, self.lives.of(line.place))) is not None:
                return _ms(at)
        return None

    def _page(
        self,
        lines: Sequence[RawLine],
        *,
        older: Place | None,
        newer: Place | None,
        is_end: bool,
        with_marks: bool = True,
    ) -> dict[str, Any]:
        end = self._end if is_end else newer
        return {
            "items": self.items(lines, with_marks=with_marks),
            "older": str(older) if older else None,
            "newer": str(newer) if newer else None,
            "end": str(end) if end else None,
            "tail": ended(self.lives.last) if is_end else None,
        }

    def items(self, lines: Iterable[RawLine], *, with_marks: bool = True) -> list[dict[str, Any]]:
        """Return lines and marks in order."""
        items = []
        for raw in lines:
            number = self.lives.beginning_at(raw.place)
            if number is not None and with_marks:
                life = self.lives.begins[number].life
                items.append(
                    {
                        "c": str(raw.place),
                        "ended": ended(self.lives.before(number)),
                        "started": _started(life),
                    }
                )
            elif raw.data.strip():
                items.append(self.item(line_of(raw, self.hider)))
        return items

    def item(self, line: Line) -> dict[str, Any]:
        at = time_of(line.stamp, self.lives.of(line.place))
        plain = len(line.spans) == 1 and not line.spans[0].style
        item: dict[str, Any] = {
            "c": str(line.place),
            "l": line.level,
            "s": line.text if plain else [[span.text, span.style] for span in line.spans],
        }
        return item if at is None else {**item, "t": _ms(at)}


def _ms(at: float) -> int:
    return int(at * 1000)


def ended(life: Life | None) -> dict[str, Any] | None:
    """Return how a life ended; None while it goes on."""
    if life is None or life.ended_at is None:
        return None
    return {"run": life.number, "title": life.title, "failed": life.failed, "at": _ms(life.ended_at)}


def _started(life: Life) -> dict[str, Any]:
    return {
        "run": life.number,
        "at": _ms(life.started_at),
        "command": life.command,
        "build": life.build,
    }
