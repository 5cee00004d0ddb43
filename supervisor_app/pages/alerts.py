"""Alerts: what is down now, what was down before, and who was told. For everybody who may see states."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import Count, Max, OuterRef, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.shortcuts import get_object_or_404, redirect, render

from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.fleet.crash_marks import muted, unmute_mark
from supervisor_app.fleet.models import CrashMark, LlamaServer, Run
from supervisor_app.pages.door import act, page
from supervisor_app.pages.maintenance import maintenance_panel
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.alerts import IncidentRow, by_day, row_of, told_by_incident
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpRequest, HttpResponse

    from supervisor_app.alerts.models import IncidentQuerySet
    from supervisor_app.web.http import HtmxHttpRequest

LISTED = 30
"""Past incidents of a page."""
DIED_WITHIN = timedelta(seconds=1)
"""An incident begins when its first run ended; the two moments may be rounded apart."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The choice of people, kept in the address. A choice that nothing fits shows nothing, and says so."""

    server: str = ""
    kind: str = ""

    @classmethod
    def read(cls, said: Mapping[str, str]) -> Filter:
        return cls(
            server=said.get("server", "").replace("\0", ""), kind=said.get("kind", "").replace("\0", "")
        )

    @property
    def query(self) -> str:
        return urlencode({key: value for key, value in vars(self).items() if value})

    def of(self, incidents: IncidentQuerySet) -> IncidentQuerySet:
        if self.server:
            incidents = incidents.filter(server__name=self.server)
        return incidents.filter(failure_kind=self.kind) if self.kind else incidents


@pushed(
    "supervisor/_alerts.html",
    lambda asked, may: [alerts_panel(Filter.read(asked), "", names=may.look)],
    pause=2.0,
)
@page(Right.READ)
def alerts(request: HtmxHttpRequest) -> HttpResponse:
    """Show the page; htmx gets the list alone."""
    chosen = Filter.read(request.GET.dict())
    looks = may(request.user, Right.LOOK)
    context = {
        **alerts_panel(chosen, request.GET.get("page", ""), names=looks),
        **maintenance_panel("", to_staff=looks),
    }
    if request.htmx and not request.htmx.history_restore_request:
        return render(request, "supervisor/_alerts.html", context)
    mutes = muted() if looks else []
    return render(request, "supervisor/alerts.html", {**context, **_choices(), "mutes": mutes})


@act(Right.OPERATE)
def unmute(request: HttpRequest, number: int) -> HttpResponse:
    """Have crashes that were muted told again."""
    unmute_mark(get_object_or_404(CrashMark, pk=number))
    return redirect("alerts")


def alerts_panel(chosen: Filter, number: str, *, names: bool) -> dict[str, Any]:
    """Return the context of `supervisor/_alerts.html`. `number`: of the page of past incidents.

    `names`: may its reader see names of channels, and the runs?
    """
    found = chosen.of(Incident.objects.select_related("server"))
    past = Paginator(found.exclude(closed_at=None), LISTED).get_page(number)
    is_first = past.number == 1
    opened = list(found.open()) if is_first else []
    rows = _rows([*opened, *past.object_list], names=names)
    return {
        "now": time.time(),
        "chosen": chosen,
        "open": [rows[incident.pk] for incident in opened],
        "days": by_day((incident, rows[incident.pk]) for incident in past.object_list),
        "past": past,
        "has_channels": AlertChannel.objects.filter(enabled=True).exists(),
    }


def _choices() -> dict[str, Any]:
    """Return what the filters offer: servers, and kinds of failures that there were, by their titles."""
    known = Incident.objects.exclude(failure_kind="").order_by("failure_kind").values_list("failure_kind")
    kinds = known.annotate(title=Max(KeyTextTransform("title", "failure")))
    servers = LlamaServer.objects.order_by("name").values_list("name", flat=True)
    return {"kinds": list(kinds), "servers": list(servers)}


def _rows(incidents: Sequence[Incident], *, names: bool) -> dict[int, IncidentRow]:
    numbers = [incident.pk for incident in incidents]
    groups = (
        Delivery.objects.filter(incident__in=numbers)
        .order_by()
        .values("incident", "channel__name", "state")
        .annotate(count=Count("pk"), error=Max("last_error"))
    )
    told = told_by_incident(groups, names=names)
    runs = _runs(numbers) if names else {}
    return {
        incident.pk: row_of(incident, told.get(incident.pk, ()), runs.get(incident.pk))
        for incident in incidents
    }


def _runs(numbers: Sequence[int]) -> dict[int, int | None]:
    """Map incidents to the runs with whose end they began."""
    began = Run.objects.filter(
        server=OuterRef("server"),
        ended_at__gte=OuterRef("opened_at") - DIED_WITHIN,
        ended_at__lte=OuterRef("opened_at") + DIED_WITHIN,
    )
    run = Subquery(began.order_by("ended_at").values("pk")[:1])
    return dict(Incident.objects.filter(pk__in=numbers).order_by().annotate(run=run).values_list("pk", "run"))
