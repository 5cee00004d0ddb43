"""Spans in the database: written with the state, summed by days, pruned. All by the supervisor."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Max, Min, OuterRef, Q, Subquery

from supervisor_app.common.moments import moment
from supervisor_app.common.storage import storable
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.maintenance import times_of
from supervisor_app.fleet.maintenance_rules import planned
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.span_rules import CROWD, FLAP_SECONDS, Piece, follow
from supervisor_app.fleet.span_tables import Span, SpanDay
from supervisor_app.fleet.uptime import Slice, slices_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from django.db.models import QuerySet

    from supervisor_app.core.spans import SpanBegan

KEPT = timedelta(days=400)
SPANS_KEPT = 2000
"""Spans kept of a server, the newest: those of a day and a half, at the most that can be in an hour."""
RUN_SLACK = timedelta(seconds=1)
"""A run is closed a moment before its server counts as crashed."""


# --- With the state ------------------------------------------------------------------------------------


def record(server: LlamaServer, spans: Iterable[SpanBegan]) -> None:
    """Write the spans that begin, in the caller's transaction."""
    for began in spans:
        _record(server, began)


def _record(server: LlamaServer, began: SpanBegan) -> None:
    at = moment(began.at)
    tail = _tail(server)
    if tail and tail[-1].began > began.at:  # the clock was ahead: what it said of later is not so
        _forget(server, at)
        tail = _tail(server)
    elif began.unknown_since is not None:
        _forget_days(server, moment(min(began.unknown_since, began.at)))
    run = _run_of(server, at) if began.state in (SpanState.CRASHED, SpanState.HUNG) else None
    after = follow(tail, began, run, crowded=_is_crowded(server, tail, began.at))
    kept = {piece.pk for piece in after}
    gone = [piece.pk for piece in tail if piece.pk is not None and piece.pk not in kept]
    if gone:
        server.spans.filter(pk__in=gone).delete()
    before = {piece.pk: _columns(piece) for piece in tail}
    for piece in after:
        columns = _columns(piece)
        if piece.pk is None:
            Span.objects.create(server=server, **columns)
        elif news := dict(columns.items() - before[piece.pk].items()):
            Span.objects.filter(pk=piece.pk).update(**news)


def _tail(server: LlamaServer) -> list[Piece]:
    return [piece_of(span) for span in server.spans.order_by("-began_at", "-pk")[:2]][::-1]


def _is_crowded(server: LlamaServer, tail: Sequence[Piece], now: float) -> bool:
    if len(tail) < 2 or now - tail[-1].began >= FLAP_SECONDS:
        return False
    return server.spans.filter(began_at__gt=moment(now - 3600)).count() >= CROWD


def _run_of(server: LlamaServer, at: datetime) -> int | None:
    """Return the run that is ending, or has just ended; None: no process was started."""
    ending = server.runs.filter(Q(ended_at=None) | Q(ended_at__gte=at - RUN_SLACK), started_at__lte=at)
    return ending.order_by("-pk").values_list("pk", flat=True).first()


def _forget(server: LlamaServer, at: datetime) -> None:
    """Delete what began later; the span of that moment goes on."""
    server.spans.filter(began_at__gt=at).delete()
    last = server.spans.last()
    if last is not None:
        server.spans.filter(pk=last.pk).update(ended_at=None, summed=False)
    _forget_days(server, at)


def _forget_days(server: LlamaServer, at: datetime) -> None:
    """Delete the sums of this day and of later ones: they are made again."""
    if server.span_days.filter(day__gte=at.date()).delete()[0]:
        server.spans.filter(ended_at__gt=_midnight(at.date())).update(summed=False)


# --- Rows and values -----------------------------------------------------------------------------------


def piece_of(span: Span) -> Piece:
    return Piece(
        pk=span.pk,
        state=SpanState(span.state),
        down=span.down,
        reason=span.reason,
        run=span.run_id,
        began=span.began_at.timestamp(),
        ended=span.ended_at.timestamp() if span.ended_at else None,
    )


def _columns(piece: Piece) -> dict[str, Any]:
    return {
        "state": piece.state.value,
        "down": piece.down,
        "reason": storable(piece.reason),
        "run_id": piece.run,
        "began_at": moment(piece.began),
        "ended_at": moment(piece.ended),
    }


def _day_row(server: LlamaServer, part: Slice) -> SpanDay:
    return SpanDay(
        server=server,
        day=moment(part.began).date(),
        seconds={state.value: count for state, count in part.tally.seconds.items()},
        down_seconds=part.tally.down,
        downtimes=part.tally.begun,
        worst=(part.state or SpanState.UNKNOWN).value,
        worst_seconds=part.seconds,
        reason=part.reason,
        run_id=part.run,
    )


# --- Days that are over --------------------------------------------------------------------------------


def sum_up(node: str, now: datetime) -> bool:
    """Sum the days that are over of one server of the node. True: there may be more to sum."""
    today = _midnight(now.date())
    for ahead in LlamaServer.objects.on_node(node).filter(span_days__day__gte=now.date()).distinct():
        _forget_days(ahead, today)
    spans = Span.objects.filter(server=OuterRef("pk")).order_by().values("server")
    days = SpanDay.objects.filter(server=OuterRef("pk")).order_by().values("server")
    due = LlamaServer.objects.on_node(node).annotate(
        first=Subquery(spans.annotate(of=Min("began_at")).values("of")),
        last=Subquery(days.annotate(of=Max("day")).values("of")),
    )
    yesterday = now.date() - timedelta(days=1)
    server = due.filter(Q(last=None) | Q(last__lt=yesterday), first__lt=today).first()
    if server is None:
        return False
    last: date | None = getattr(server, "last", None)
    _sum_up(server, last, today)
    return True


def _sum_up(server: LlamaServer, last: date | None, today: datetime) -> None:
    rows = server.spans.filter(summed=False, began_at__lt=today)
    pieces = [piece_of(span) for span in rows]
    if pieces:
        pieces = planned(pieces, times_of([server.pk], pieces[0].began)[server.pk])
    first = last + timedelta(days=1) if last else moment(pieces[0].began if pieces else 0.0).date()
    begin = max(_midnight(first), today - KEPT)
    edges = [(begin + timedelta(days=number)).timestamp() for number in range((today - begin).days + 1)]
    parts = slices_of(pieces, edges, today.timestamp())
    SpanDay.objects.bulk_create((_day_row(server, part) for part in parts), ignore_conflicts=True)
    rows.filter(ended_at__lte=today).update(summed=True)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def too_old(node: str, now: datetime) -> list[QuerySet[Any]]:
    """Select the spans and days to delete: the old ones, and all but the newest of a server that flaps."""
    spans = Span.objects.filter(server__node=node, summed=True)
    many = Span.objects.filter(server__node=node).order_by().values("server").annotate(count=Count("pk"))
    selected: list[QuerySet[Any]] = [
        spans.filter(ended_at__lt=now - KEPT),
        SpanDay.objects.filter(server__node=node, day__lt=(now - KEPT).date()),
    ]
    for server in many.filter(count__gt=SPANS_KEPT).values_list("server", flat=True):
        oldest_kept = (
            Span.objects.filter(server=server).order_by("-pk").values("pk")[SPANS_KEPT - 1 : SPANS_KEPT]
        )
        selected.append(spans.filter(server=server, pk__lt=oldest_kept))
    return selected
