"""The audit: who did what, when, and from where. For admins."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _

from supervisor_app.fleet.audit import KEPT
from supervisor_app.fleet.models import AuditEntry
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.audit import touched_by
from supervisor_app.pages.presenters.traffic import safe_cell
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date

    from django.db.models import QuerySet

LISTED = 50
MOST_VALUES = 8
"""Values of an act that are shown at once; more of them, as of a new server, are folded."""
LOOKED_AT, CHOICES = 2000, 200
"""Newest acts whose actors and actions are offered, and how many of these at most."""
COLUMNS = ("at", "actor", "door", "address", "action", "subject", "before", "after")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The choice of people, kept in the address. Days are those of UTC."""

    who: str = ""
    what: str = ""
    subject: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def read(cls, said: Mapping[str, str]) -> Filter:
        typed = {
            name: said.get(name, "").replace("\0", "").strip()[:1000] for name in ("who", "what", "subject")
        }
        days = {name: said.get(name, "").replace("\0", "").strip()[:100] for name in ("from", "to")}
        return cls(**typed, since=days["from"], until=days["to"])

    @property
    def problem(self) -> str:
        """Say which day is none; empty: all are."""
        wrong = [said for said in (self.since, self.until) if said and _day(said) is None]
        return _("“%(day)s” is no day. Write it as 2026-03-01.") % {"day": wrong[0]} if wrong else ""

    @property
    def query(self) -> str:
        said = {
            "who": self.who,
            "what": self.what,
            "subject": self.subject,
            "from": self.since,
            "to": self.until,
        }
        return urlencode({name: value for name, value in said.items() if value})

    def of(self, entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        if self.who:
            entries = entries.filter(actor=self.who)
        if self.what:
            entries = entries.filter(action=self.what)
        if self.subject:
            entries = entries.filter(subject__icontains=self.subject)
        if (first := _day(self.since)) is not None:
            entries = entries.filter(at__gte=_midnight(first))
        if (last := _day(self.until)) is not None:
            entries = entries.filter(at__lt=_midnight(last) + timedelta(days=1))
        return entries


@page(Right.ADMINISTER)
def audit(request: HttpRequest) -> HttpResponse:
    """Show the newest acts that fit, or those before an entry (`before` in the query)."""
    chosen = Filter.read(request.GET.dict())
    problem = chosen.problem
    found = AuditEntry.objects.none() if problem else chosen.of(AuditEntry.objects.all())
    before = request.GET.get("before", "")
    is_first = not (before.isascii() and before.isdecimal() and len(before) <= 18)
    if not is_first:
        found = found.filter(pk__lt=int(before))
    entries = list(found[: LISTED + 1])
    query = chosen.query
    context = {
        "chosen": chosen,
        "entries": [(entry, touched_by(entry.before or {}, entry.after or {})) for entry in entries[:LISTED]],
        "most_values": MOST_VALUES,
        "older": entries[LISTED - 1].pk if len(entries) > LISTED else None,
        "is_first": is_first,
        "problem": problem,
        "actors": _choices("actor", chosen.who),
        "actions": _choices("action", chosen.what),
        "kept": KEPT.days,
        "csv_url": f"{reverse('audit-csv')}{'?' if query else ''}{query}",
    }
    return render(request, "supervisor/audit.html", context, status=400 if problem else 200)


@page(Right.ADMINISTER)
def audit_csv(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Download all acts that fit, newest first."""
    chosen = Filter.read(request.GET.dict())
    if chosen.problem:
        return HttpResponse(f"{chosen.problem}\n", status=400, content_type="text/plain; charset=utf-8")
    rows = chosen.of(AuditEntry.objects.all()).values_list(*COLUMNS)
    answer = StreamingHttpResponse(_lines(rows.iterator()), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="audit-{timezone.now():%Y-%m-%d}.csv"'
    return answer


class _Echo:
    """A file that gives back what is written."""

    def write(self, text: str) -> str:
        return text


def _lines(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([_cell(cell) for cell in row])


def _cell(cell: Any) -> str:
    match cell:
        case None:
            return ""
        case datetime():
            return cell.isoformat()
        case str():
            return safe_cell(cell)
    return json.dumps(cell)


def _choices(field: str, chosen: str) -> list[str]:
    """List who acted or what was done lately: a DISTINCT over a year of acts would take long."""
    newest = AuditEntry.objects.order_by("-pk").values(field)[:LOOKED_AT]
    found = {each[field] for each in newest}
    return sorted(found | ({chosen} if chosen else set()))[:CHOICES]


def _day(said: str) -> date | None:
    try:
        day = parse_date(said)
    except ValueError:  # well written, but there is no such day
        return None
    return day if day and day.year < datetime.max.year else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
