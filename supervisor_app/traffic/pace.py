"""The pace of servers lately, from the records of requests: TTFT, ITL and tokens/s. One query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from supervisor_app.traffic.models import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LOOKED_AT = 2_000
"""Records that are read at most, the newest: some 10 ms."""
LONGEST = timedelta(minutes=10)
"""Requests are found by their beginning: one that took longer than this is left out."""


class Answered(NamedTuple):
    """A request that is over."""

    server: str
    at: datetime
    streamed: bool
    ttft_ms: float | None
    duration_ms: float
    generated_tokens: int | None
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile, in milliseconds."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests of one server that ended within a window of time."""

    requests: int = 0
    ttft_ms: Spread | None = None
    """Time to the first token of streams; None: none was streamed."""
    itl_ms: Spread | None = None
    """Inter-token latency: milliseconds from token to token, the mean of each request."""
    tokens_per_second: float | None = None
    """Tokens generated within the window, by second; those of requests still in flight are not known here."""


def pace(names: Sequence[str], now: datetime, seconds: float = 60.0) -> Mapping[str, Pace]:
    """Return the pace of each of these servers in the last seconds. One query, however many they are."""
    since = now - timedelta(seconds=seconds)
    rows = (
        RequestRecord.objects.filter(server__in=names, at__gte=since - LONGEST, at__lte=now)
        .order_by("-at")
        .values_list(*Answered._fields)[:LOOKED_AT]
    )
    return paces((Answered(*row) for row in rows), names, since, now)


def paces(rows: Iterable[Answered], names: Iterable[str], since: datetime, now: datetime) -> dict[str, Pace]:
    """Sum up what is known of requests between two moments. Pure."""
    by_server: dict[str, list[Answered]] = {name: [] for name in names}
    for row in rows:
        if row.at + timedelta(milliseconds=row.duration_ms) >= since and row.server in by_server:
            by_server[row.server].append(row)
    return {name: _pace(rows, since, now) for name, rows in by_server.items()}


def _pace(rows: Sequence[Answered], since: datetime, now: datetime) -> Pace:
    if not rows:
        return Pace()
    first = [row.ttft_ms for row in rows if row.streamed and row.ttft_ms is not None]
    between = [itl for row in rows if (itl := itl_of(row)) is not None]
    counted = [_tokens_within(row, since, now) for row in rows if row.generated_tokens is not None]
    seconds = (now - since).total_seconds()
    return Pace(
        requests=len(rows),
        ttft_ms=_spread(first),
        itl_ms=_spread(between),
        tokens_per_second=sum(counted) / seconds if counted and seconds > 0 else None,
    )


def itl_of(row: Answered) -> float | None:
    """Milliseconds from token to token: by the server, or else by what the client of a stream saw."""
    if row.tokens_per_second:
        return 1000 / row.tokens_per_second
    tokens = row.generated_tokens or 0
    if not row.streamed or row.ttft_ms is None or tokens < 2:
        return None
    return max(0.0, row.duration_ms - row.ttft_ms) / (tokens - 1)


def _tokens_within(row: Answered, since: datetime, now: datetime) -> float:
    """Tokens of the request that fall between two moments, as if they had come evenly after the first."""
    end = row.at + timedelta(milliseconds=row.duration_ms)
    begin = min(end, row.at + timedelta(milliseconds=row.ttft_ms if row.streamed and row.ttft_ms else 0))
    whole = (end - begin).total_seconds()
    inside = (min(end, now) - max(begin, since)).total_seconds()
    share = min(1.0, max(0.0, inside / whole)) if whole > 0 else float(since <= end <= now)
    return (row.generated_tokens or 0) * share


def _spread(values: list[float]) -> Spread | None:
    """Take the nearest rank: each is a value that was measured."""
    if not values:
        return None
    ranked = sorted(values)
    return Spread(ranked[(len(ranked) - 1) // 2], ranked[-(-95 * len(ranked) // 100) - 1])
