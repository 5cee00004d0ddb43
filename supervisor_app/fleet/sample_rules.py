"""Figures of a server over time: which are kept, how they are packed, and how seconds become hours. Pure.

A figure that is not known at a moment is left out. Times in Unix seconds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SECOND, MINUTE, HOUR = 1, 60, 3600
KEPT = {SECOND: 3600, MINUTE: 86_400, HOUR: 366 * 86_400}
"""Seconds for which rows are kept, by their step."""
HELD_SECONDS = 75
"""A figure holds until the next sample, and for so long at most: an idle server has one each minute."""
IDLE_PAUSE = 60
"""Seconds between two samples of a server that is idle."""
WORKS_CORES = 0.1
"""Cores in use from which on a server is not idle, whatever else is known of it."""
MEMORY = "memory:"
"""Beginning of the figures of memory in bytes, each with the `Device.id` after it."""
OF_ANSWERS = frozenset({"ttft", "itl", "cached"})
"""Figures of the answers that ended in a second: means count seconds with answers alone."""

Figures = dict[str, float]
"""Figures of one moment:

- `generated`, `prefilled`: tokens/s, means of `GROWTH_SECONDS`; `in_flight`, `waiting`: requests;
- `ttft`, `itl`: milliseconds to the first token and between tokens, `cached`: share of the prompts' tokens
  that were in the cache; all three of the answers that ended in that second;
- `context`, `context_size`: tokens; `cpu`: cores; `memory:…`: bytes; `files`: bytes of mapped files.
"""
Packed = dict[str, list[float | None]]
"""Figures of several moments as columns; `t`: seconds after the first."""


class Mean(NamedTuple):
    """Mean and most of a figure over a time."""

    mean: float
    most: float


class Point(NamedTuple):
    """Figures over a time that begins at `at`."""

    at: int
    figures: dict[str, Mean]


@dataclass(slots=True)
class _Sum:
    weight: float = 0.0
    total: float = 0.0
    most: float = float("-inf")

    def add(self, weight: float, mean: Mean) -> None:
        self.weight += weight
        self.total += weight * mean.mean
        self.most = max(self.most, mean.most)


def works(figures: Mapping[str, float]) -> bool:
    """Tell whether a server does anything worth a sample each second."""
    get = figures.get
    busy = get("in_flight") or get("waiting") or get("generated") or get("prefilled") or get("ttft")
    return bool(busy) or figures.get("cpu", 0.0) >= WORKS_CORES


@dataclass(slots=True)
class Thinning:
    """Chooses the samples that are kept: each of a server that works, and one a minute of an idle one."""

    _last_at: float = float("-inf")
    _worked: bool = False

    def keeps(self, at: float, figures: Mapping[str, float]) -> bool:
        """Tell whether to keep a sample. The first one of an idle time is kept, too: it ends the line."""
        now_works = works(figures)
        if not (now_works or self._worked or not 0 <= at - self._last_at < IDLE_PAUSE):
            return False
        self._last_at, self._worked = at, now_works
        return True


GROWTH_SECONDS = 4
"""Time over which tokens/s are a mean: slots are looked at every two seconds, two looks are in each."""
LAG_SECONDS = 5
"""Time after which a record that is missing is not coming: nobody made one."""


@dataclass(slots=True)
class Growth:
    """Speed of a total that is put together from two sources.

    Tokens in flight leave the slots a moment before they are in a record. So a total that falls stands still
    until it has risen again, or for `LAG_SECONDS`.
    """

    _most: float | None = None
    _below_since: float | None = None
    _grown: float = 0.0
    _seen: list[tuple[float, float]] = field(default_factory=list)

    def speed(self, total: float, at: float) -> float:
        """Return by how much the total grew a second, over the last `GROWTH_SECONDS`."""
        if self._most is None or at < self._seen[-1][0]:  # the first look; a clock that was set back
            self._most, self._seen = total, []
        elif total >= self._most:
            self._grown += total - self._most
            self._most, self._below_since = total, None
        elif self._below_since is None:
            self._below_since = at
        elif at - self._below_since >= LAG_SECONDS:
            self._most, self._below_since = total, None
        lately = [seen for seen in self._seen if seen[0] >= at - GROWTH_SECONDS]
        self._seen = [*(lately or self._seen[-1:]), (at, self._grown)]
        (since, before), (_, now) = self._seen[0], self._seen[-1]
        return round((now - before) / (at - since), 1) if at > since else 0.0


# --- Rows of seconds -----------------------------------------------------------------------------------


def pack(samples: Sequence[tuple[int, Figures]]) -> Packed:
    """Pack samples, of which there is at least one, into columns, in the order of their times."""
    first = samples[0][0]
    names = sorted({name for _, figures in samples for name in figures})
    columns: Packed = {name: [figures.get(name) for _, figures in samples] for name in names}
    return {"t": [at - first for at, _ in samples], **columns}


def unpack(at: int, packed: Mapping[str, Sequence[float | None]]) -> Iterator[tuple[int, Figures]]:
    """Yield the samples of a row that begins at a moment."""
    names = [name for name in packed if name != "t"]
    for number, after in enumerate(packed.get("t", ())):
        values = ((name, packed[name][number]) for name in names)
        yield at + round(after or 0), {name: value for name, value in values if value is not None}


# --- Longer steps --------------------------------------------------------------------------------------


def spread(samples: Sequence[tuple[int, Figures]], until: int) -> Iterator[tuple[int, int, Figures]]:
    """Yield samples in order with the time at which each ceases to hold, `until` at the latest."""
    ends = [*(at for at, _ in samples[1:]), until]
    for (at, figures), end in zip(samples, ends, strict=False):
        yield at, max(at, min(end, at + HELD_SECONDS)), figures


def minutes_of(samples: Sequence[tuple[int, Figures]], begin: int, end: int) -> list[Point]:
    """Sum the samples of whole minutes, `begin` and `end` among their edges. Samples in order.

    A sample counts in each minute in which it holds, by its time; one of answers where it was taken.
    """
    sums: defaultdict[int, defaultdict[str, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for at, held_until, figures in spread(samples, end):
        for minute in range(at // MINUTE * MINUTE, max(held_until, at + 1), MINUTE):
            if not begin <= minute < end:
                continue
            weight = min(held_until, minute + MINUTE) - max(at, minute)
            for name, value in figures.items():
                if name not in OF_ANSWERS:
                    sums[minute][name].add(weight, Mean(value, value))
                elif minute <= at:
                    sums[minute][name].add(1, Mean(value, value))
    return _points(sums)


def longer(points: Iterable[Point], step: int) -> list[Point]:
    """Sum points into longer ones, which begin at whole steps."""
    sums: defaultdict[int, defaultdict[str, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for point in points:
        for name, mean in point.figures.items():
            sums[point.at // step * step][name].add(1, mean)
    return _points(sums)


def _points(sums: Mapping[int, Mapping[str, _Sum]]) -> list[Point]:
    return [
        Point(
            at,
            {
                name: Mean(_short(each.total / each.weight), each.most)
                for name, each in found.items()
                if each.weight
            },
        )
        for at, found in sorted(sums.items())
    ]


def _short(value: float) -> float:
    """Cut what nobody reads: four digits are enough for a share and for bytes."""
    return float(f"{value:.4g}")
