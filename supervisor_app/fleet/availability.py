"""Bars of servers, read from their spans and days: the same number of queries for one server and for 200."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from supervisor_app.common.moments import moment, seconds
from supervisor_app.common.words import iso
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.maintenance import times_of
from supervisor_app.fleet.maintenance_rules import planned
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.silence import silent_since, with_silence
from supervisor_app.fleet.span_record import piece_of
from supervisor_app.fleet.span_tables import Span, SpanDay
from supervisor_app.fleet.uptime import (
    DAY_SECONDS,
    Bar,
    Slice,
    Tally,
    Window,
    silent_from,
    slices_of,
    together,
)
from supervisor_app.fleet.uptime_words import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from supervisor_app.fleet.span_rules import Piece


@dataclass(frozen=True, kw_only=True)
class Month:
    """A calendar month (UTC), as far as it is within a year."""

    began: float
    """Unix seconds."""
    tally: Tally


@dataclass(frozen=True, kw_only=True)
class Availability:
    """All that is known of how long a server was ready."""

    bars: Mapping[Window, Bar]
    months: tuple[Month, ...]
    """The newest first."""

    def as_json(self) -> dict[str, Any]:
        return {
            **{window.name.lower(): _bar_json(bar) for window, bar in self.bars.items()},
            "months": [{"from": iso(month.began), **_tally_json(month.tally)} for month in self.months],
        }


def bars_of(names: Sequence[str], window: Window, now: datetime) -> Mapping[str, Bar]:
    """Return a bar for each of these servers that exists, by its name. Four queries at most."""
    at, edges = now.timestamp(), window.edges(now.timestamp())
    if window is Window.DAY:
        pieces = _pieces(names, Q(ended_at__gt=moment(edges[0])), at)
        return {name: Bar(slices=tuple(slices_of(found, edges, at))) for name, found in pieces.items()}
    days = _days(_pieces(names, Q(summed=False), at), edges, at)
    return {name: _bar_of_days(found, window) for name, found in days.items()}


def days_of(names: Sequence[str], count: int, now: datetime) -> Mapping[str, Bar]:
    """Return a bar of so many days, today included, for each of these servers. Four queries at most."""
    at = now.timestamp()
    end = (int(at) // DAY_SECONDS + 1) * DAY_SECONDS
    edges = [float(end - DAY_SECONDS * number) for number in range(count, -1, -1)]
    days = _days(_pieces(names, Q(summed=False), at), edges, at)
    return {name: Bar(slices=tuple(found)) for name, found in days.items()}


def availability_of(name: str, now: datetime) -> Availability | None:
    """Return the bars of all windows, and the months; None: there is no such server. Four queries."""
    at = now.timestamp()
    last_day = Window.DAY.edges(at)
    pieces = _pieces([name], Q(summed=False) | Q(ended_at__gt=moment(last_day[0])), at)
    if name not in pieces:
        return None
    days = _days(pieces, Window.YEAR.edges(at), at)[name]
    bars = {window: _bar_of_days(days, window) for window in (Window.MONTH, Window.YEAR)}
    day = Bar(slices=tuple(slices_of(pieces[name], last_day, at)))
    return Availability(bars={Window.DAY: day, **bars}, months=_months(days))


def _pieces(names: Sequence[str], wanted: Q, now: float) -> dict[str, list[Piece]]:
    """Return the pieces of each server, the oldest first, and unknown time where nobody reports of it."""
    servers = with_silence(LlamaServer.objects.filter(name__in=names).select_related("state"))
    known = {server.pk: (server.name, seconds(silent_since(server))) for server in servers}
    found: defaultdict[int, list[Piece]] = defaultdict(list)
    for span in Span.objects.filter(Q(ended_at=None) | wanted, server__in=known):
        found[span.server_id].append(piece_of(span))
    first = min((pieces[0].began for pieces in found.values()), default=now)
    times = times_of(known, first)
    return {
        name: planned(silent_from(found[pk], since), times.get(pk, ())) for pk, (name, since) in known.items()
    }


def _days(pieces: Mapping[str, list[Piece]], edges: Sequence[float], now: float) -> dict[str, list[Slice]]:
    """Return a slice for each day between the edges: as it was summed, else from the pieces."""
    first, end = edges[0], edges[-1]
    today = end - DAY_SECONDS
    rows: defaultdict[str, dict[float, Slice]] = defaultdict(dict)
    summed = SpanDay.objects.filter(
        server__name__in=pieces, day__gte=moment(first).date(), day__lt=moment(today).date()
    )
    for values in summed.values_list("server__name", *COLUMNS):
        part = _slice_of_row(*values[1:])
        rows[values[0]][part.began] = part
    starts = [first + DAY_SECONDS * number for number in range(round((end - first) / DAY_SECONDS))]
    found = {}
    for name, told in pieces.items():
        known = rows[name]
        fresh = [start for start in starts if start not in known]
        if told:  # of days before its first piece nothing is known
            fresh = [start for start in fresh if start + DAY_SECONDS > told[0].began]
        made = _fresh(told, fresh, now)
        found[name] = [known.get(start) or made.get(start) or _blank(start) for start in starts]
    return found


COLUMNS = ("day", "seconds", "down_seconds", "downtimes", "worst", "worst_seconds", "reason", "run")


def _slice_of_row(
    day: Any, by_state: dict[str, float], down: float, begun: int, worst: str, lasted: float, *why: Any
) -> Slice:
    reason, run = why
    began = (day.toordinal() - EPOCH) * float(DAY_SECONDS)
    return Slice(
        began=began,
        ended=began + DAY_SECONDS,
        state=SpanState(worst),
        seconds=lasted,
        reason=reason,
        run=run,
        tally=Tally(
            seconds={SpanState(state): count for state, count in by_state.items()}, down=down, begun=begun
        ),
    )


EPOCH = moment(0.0).toordinal()


def _fresh(told: Sequence[Piece], starts: Sequence[float], now: float) -> dict[float, Slice]:
    """Cut the days that have no row: mostly today alone, and in one piece."""
    if not starts:
        return {}
    edges = [starts[0] + DAY_SECONDS * n for n in range(round((starts[-1] - starts[0]) / DAY_SECONDS) + 2)]
    wanted = set(starts)
    return {part.began: part for part in slices_of(told, edges, now) if part.began in wanted}


def _blank(start: float) -> Slice:
    return Slice(began=start, ended=start + DAY_SECONDS)


def _bar_of_days(days: Sequence[Slice], window: Window) -> Bar:
    step = window.step // DAY_SECONDS
    days = days[-step * window.count :]
    if step == 1:
        return Bar(slices=tuple(days))
    return Bar(slices=tuple(together(days[at : at + step]) for at in range(0, len(days), step)))


def _months(days: Sequence[Slice]) -> tuple[Month, ...]:
    by_month = groupby(days, key=lambda day: moment(day.began).strftime("%Y-%m"))
    months = [list(group) for _, group in by_month]
    told = [Month(began=group[0].began, tally=Tally.total(day.tally for day in group)) for group in months]
    return tuple(month for month in reversed(told) if month.tally.seconds)


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "uptime": tally.uptime,
        "downtimes": tally.downtimes,
        "downSeconds": round(tally.down, 3),
        "mtbfSeconds": tally.mtbf and round(tally.mtbf, 3),
        "mttrSeconds": tally.mttr and round(tally.mttr, 3),
        "seconds": {state.value: round(count, 3) for state, count in tally.seconds.items()},
    }


def _bar_json(bar: Bar) -> dict[str, Any]:
    slices = [
        {
            "from": iso(part.began),
            "to": iso(part.ended),
            "state": part.state,
            "seconds": round(part.seconds, 3),
            "reason": part.reason or None,
            "run": part.run,
        }
        for part in bar.slices
    ]
    return {"sentence": sentence(bar.tally), **_tally_json(bar.tally), "slices": slices}
