"""Bars and figures of how long a server was what. Pure: pieces and days in, slices out. Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.span_rules import RANK, Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS


class Window(Enum):
    """Time that a bar shows: seconds of a slice, and how many slices."""

    DAY = (HOUR_SECONDS // 2, 48)
    MONTH = (DAY_SECONDS, 30)
    YEAR = (7 * DAY_SECONDS, 52)

    @property
    def step(self) -> int:
        return self.value[0]

    @property
    def count(self) -> int:
        return self.value[1]

    def edges(self, now: float) -> list[float]:
        """Return where the slices begin, and where the last one ends: the one of now is not over yet.

        The slices of days begin and end at midnight, UTC, as the sums of days do.
        """
        unit = min(self.step, DAY_SECONDS)
        end = (int(now) // unit + 1) * unit
        return [float(end - self.step * number) for number in range(self.count, -1, -1)]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Seconds by state, and downtimes."""

    seconds: dict[SpanState, float] = field(default_factory=dict)
    down: float = 0.0
    begun: int = 0
    """Downtimes that began in this time."""

    @property
    def ready(self) -> float:
        return self.seconds.get(SpanState.READY, 0.0)

    @property
    def downtimes(self) -> int:
        """Downtimes, the one included that had begun before this time."""
        return max(self.begun, 1 if self.down else 0)

    @property
    def uptime(self) -> float | None:
        """The share of the time it was to be ready in which it was; None: there was no such time.

        Stopped, unloaded, in maintenance, starting as somebody wished, not known: neither up nor down.
        """
        total = self.ready + self.down
        return self.ready / total if total else None

    @property
    def mtbf(self) -> float | None:
        """Mean seconds in use between two downtimes."""
        return self.ready / self.downtimes if self.downtimes else None

    @property
    def mttr(self) -> float | None:
        """Mean seconds until it was ready again."""
        return self.down / self.downtimes if self.downtimes else None

    @staticmethod
    def total(tallies: Iterable[Tally]) -> Tally:
        seconds: dict[SpanState, float] = {}
        down, begun = 0.0, 0
        for tally in tallies:
            for state, count in tally.seconds.items():
                seconds[state] = seconds.get(state, 0.0) + count
            down += tally.down
            begun += tally.begun
        return Tally(seconds=seconds, down=down, begun=begun)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of a bar."""

    began: float
    ended: float
    state: SpanState | None = None
    """The worst; None: nothing is known, because the server was not there yet."""
    seconds: float = 0.0
    """Seconds in that state."""
    reason: str = ""
    """Failure of its longest downtime."""
    run: int | None = None
    """The run that ended so, if that was one run alone."""
    tally: Tally = field(default_factory=Tally)

    @property
    def down(self) -> bool:
        """Was it down at any moment of this time, however short?"""
        return bool(self.tally.down or self.tally.begun)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Slices of one server from the oldest to that of now."""

    slices: tuple[Slice, ...]

    @property
    def tally(self) -> Tally:
        return Tally.total(part.tally for part in self.slices)

    @property
    def uptime(self) -> float | None:
        return self.tally.uptime


def slices_of(pieces: Sequence[Piece], edges: Sequence[float], now: float) -> list[Slice]:
    """Cut pieces, the oldest first, at the edges. The time after `now` is left out."""
    found, first = [], 0
    for began, ended in pairwise(edges):
        while first < len(pieces) and _end(pieces[first], now) <= began and pieces[first].began < began:
            first += 1
        inside = []
        for number in range(first, len(pieces)):
            if pieces[number].began >= min(ended, now):
                break
            if pieces[number].began >= began or _end(pieces[number], now) > began:
                inside.append(number)
        found.append(_slice(pieces, inside, began, ended, now))
    return found


def _slice(pieces: Sequence[Piece], inside: Sequence[int], began: float, ended: float, now: float) -> Slice:
    if not inside:
        return Slice(began=began, ended=ended)
    seconds: dict[SpanState, float] = {}
    downs: dict[Piece, float] = {}
    begun = 0
    for number in inside:
        piece = pieces[number]
        lasted = max(0.0, min(_end(piece, now), ended) - max(piece.began, began))
        seconds[piece.state] = seconds.get(piece.state, 0.0) + lasted
        if piece.down:
            downs[piece] = lasted
            begun += piece.began >= began and (number == 0 or not pieces[number - 1].down)
    worst = min((pieces[number] for number in inside), key=lambda piece: piece.rank)
    runs = {piece.run for piece in downs if piece.run is not None}
    return Slice(
        began=began,
        ended=ended,
        state=worst.state,
        seconds=seconds[worst.state],
        reason=max(downs, key=lambda piece: downs[piece]).reason if downs else "",
        run=runs.pop() if len(runs) == 1 else None,
        tally=Tally(seconds=seconds, down=sum(downs.values()), begun=begun),
    )


def _end(piece: Piece, now: float) -> float:
    return now if piece.ended is None else min(piece.ended, now)


def together(parts: Sequence[Slice]) -> Slice:
    """Return several slices, the oldest first, as one. Raises ValueError for none."""
    tally = Tally.total(part.tally for part in parts)
    known = [part for part in parts if part.state is not None]
    whole = Slice(began=parts[0].began, ended=parts[-1].ended, tally=tally)
    if not known:
        return whole
    worst = min(known, key=lambda part: (not part.down, RANK[part.state] if part.state else 0))
    downs = [part for part in known if part.down]
    runs = {part.run for part in downs}
    return replace(
        whole,
        state=worst.state,
        seconds=sum(part.seconds for part in known if part.state is worst.state),
        reason=max(downs, key=lambda part: part.tally.down).reason if downs else "",
        run=runs.pop() if len(runs) == 1 else None,
    )


def silent_from(pieces: list[Piece], since: float | None) -> list[Piece]:
    """End what goes on where nobody has reported of it since; the time after that is unknown."""
    if since is None or not pieces or pieces[-1].ended is not None:
        return pieces
    last = pieces[-1]
    lost = max(since, last.began)
    return [*pieces[:-1], replace(last, ended=lost), Piece(state=SpanState.UNKNOWN, began=lost)]
