"""Usage by key, model, server and day, from the sums that the gateways keep. For staff."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F, Sum
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.traffic import safe_cell, total_of, usage_rows
from supervisor_app.traffic.models import UsageDay
from supervisor_app.traffic.sums import KEEP_DAYS, PLACE, SUMS
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

LISTED = 200
GROUPINGS = {"key": _("Key"), "model": _("Model"), "server": _("Server"), "day": _("Day")}
NAMELESS = {"key": _("no key"), "model": _("no model"), "server": _("no server"), "day": ""}
SPANS = (1, 7, 30, 90, KEEP_DAYS)
COLUMNS = (
    _("Requests"),
    _("Failed"),
    _("Held"),
    _("Tokens in"),
    _("of them cached"),
    _("Tokens out"),
)


@page(Right.LOOK)
def usage(request: HttpRequest) -> HttpResponse:
    """Show the sums of the last days, by what people choose."""
    by, days = _grouping(request), _days(request)
    order = "-day" if by == "day" else "-tokens"
    groups = (
        _rows(days)
        .values(by)
        .annotate(**{name: Sum(name) for name in SUMS})
        .annotate(tokens=F("prompt_tokens") + F("generated_tokens"))
        .order_by(order, by)
    )
    rows = usage_rows(list(groups[: LISTED + 1]), by, str(NAMELESS[by]))
    context = {
        "by": by,
        "by_word": GROUPINGS[by],
        "days": days,
        "rows": rows[:LISTED],
        "total": total_of(rows),
        "is_cut": len(rows) > LISTED,
        "columns": COLUMNS,
        "groupings": list(GROUPINGS.items()),
        "spans": SPANS,
        "kept": KEEP_DAYS,
        "csv_url": f"{reverse('usage-csv')}?days={days}",
    }
    return render(request, "supervisor/usage.html", context)


@page(Right.LOOK)
def usage_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Download the sums: a row for each day, key, server and model."""
    rows = _rows(_days(request)).order_by(*PLACE).values_list(*PLACE, *SUMS)
    answer = StreamingHttpResponse(_lines(rows.iterator()), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="usage-{timezone.now():%Y-%m-%d}.csv"'
    return answer


class _Echo:
    """A file that gives back what is written."""

    def write(self, text: str) -> str:
        return text


def _lines(rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow([*PLACE, *SUMS])
    for row in rows:
        yield writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in row])


def _rows(days: int) -> QuerySet[UsageDay]:
    return UsageDay.objects.filter(day__gt=timezone.now().date() - timedelta(days=days))


def _grouping(request: HttpRequest) -> str:
    by = request.GET.get("by", "")
    return by if by in GROUPINGS else "key"


def _days(request: HttpRequest) -> int:
    days = request.GET.get("days", "")
    return int(days) if days in {str(count) for count in SPANS} else 30
