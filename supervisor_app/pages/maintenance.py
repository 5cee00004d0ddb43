"""Planned work, begun and ended on pages: its notice is for all, its form for those who operate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django import forms
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext_lazy as _

from supervisor_app.fleet.maintenance import LONGEST_NOTE, begin, finish, plan_of, plans
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import act, page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.maintenance import row_of
from supervisor_app.pages.until import UntilForm
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse, QueryDict

    from supervisor_app.web.http import HtmxHttpRequest

OPEN = "open"
SPANS = [
    ("3600", _("1 hour")),
    ("14400", _("4 hours")),
    ("86400", _("1 day")),
    (OPEN, _("until I end it")),
]


class MaintenanceForm(UntilForm):
    """Form of a maintenance, but of which server."""

    note = forms.CharField(
        required=False,
        label=_("Note"),
        widget=forms.TextInput(attrs={"placeholder": _("new card"), "maxlength": LONGEST_NOTE}),
    )

    def __init__(self, data: QueryDict | None = None) -> None:
        super().__init__(data, spans=SPANS)

    @property
    def ends_at(self) -> datetime | None:
        """The end that was chosen; None: it is open."""
        cleaned = self.cleaned_data
        found: datetime | None = cleaned["until" if cleaned["span"] == OPEN else "ends_at"]
        return found


@pushed(
    "supervisor/_maintenance.html",
    lambda asked, may: [maintenance_panel(asked.get("server", ""), to_staff=may.look)],
    pause=2.0,
)
@page(Right.READ)
def maintenance(request: HtmxHttpRequest) -> HttpResponse:
    """Answer with the notice that is pushed to open pages: of a server, or of all."""
    if not request.htmx:
        return redirect("alerts")
    name = request.GET.get("server", "")
    context = maintenance_panel(name, to_staff=may(request.user, Right.LOOK))
    return render(request, "supervisor/_maintenance.html", context)


@act(Right.OPERATE)
def begin_maintenance(request: HttpRequest) -> HttpResponse:
    """Begin maintenance of a server; without `server`, of all. A mistake loses nothing that was typed."""
    server = _server(request)
    form = MaintenanceForm(request.POST)
    if not form.is_valid():
        names = LlamaServer.objects.order_by("name").values_list("name", flat=True)
        name = server.name if server else ""
        context = {"maintenance_form": form, "maintenance_of": name, "servers": list(names)}
        return render(request, "supervisor/maintain.html", context, status=400)
    note: str = form.cleaned_data["note"]
    begin(server, until=form.ends_at, words=note, who=request.user.get_username())
    return _back(server)


@act(Right.OPERATE)
def end_maintenance(request: HttpRequest) -> HttpResponse:
    """End the maintenance of a server; without `server`, that of all. One that is over already stays so."""
    server = _server(request)
    finish(server)
    return _back(server)


def maintenance_panel(name: str, *, to_staff: bool) -> dict[str, Any]:
    """Return the context of `supervisor/_maintenance.html`. One query. `name`: empty: of all servers."""
    known, now = plans(), time.time()
    own = plan_of(name, known) if name else None
    shown = ([own] if own else []) if name else known
    return {
        "plan_rows": [row_of(plan, now, to_staff=to_staff) for plan in shown],
        "maintenance_of": name,
        "maintenance_form": MaintenanceForm(),
    }


def _server(request: HttpRequest) -> LlamaServer | None:
    name = request.POST.get("server", "")
    return get_object_or_404(LlamaServer, name=name) if name else None


def _back(server: LlamaServer | None) -> HttpResponse:
    return redirect("server", name=server.name) if server else redirect("alerts")
