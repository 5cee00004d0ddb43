"""Planned work, begun and ended on pages: its notice is for all, its form for those who operate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext_lazy as _

from supervisor_app.fleet.maintenance import begin, finish, plan_of, plans
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import act, page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.maintenance import row_of
from supervisor_app.pages.until import UntilForm
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from supervisor_app.web.http import HtmxHttpRequest

OPEN = "open"
SPANS = [
    ("3600", _("1 hour")),
    ("14400", _("4 hours")),
    ("86400", _("1 day")),
    (OPEN, _("until I end it")),
]


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
    """Begin maintenance of a server; without `server`, of all."""
    server = _server(request)
    data = request.POST.copy()
    is_open = data.get("span") == OPEN
    form = UntilForm(data, spans=SPANS)
    if not form.is_valid():
        message = " ".join(str(error) for errors in form.errors.values() for error in errors)
        context = {"message": message, "name": server.name if server else None}
        return render(request, "supervisor/refused.html", context, status=400)
    until = form.cleaned_data["until"] if is_open else form.cleaned_data["ends_at"]
    begin(server, until=until, words=data.get("note", ""), who=request.user.get_username())
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
        "maintenance_form": UntilForm(spans=SPANS, prefix=None),
    }


def _server(request: HttpRequest) -> LlamaServer | None:
    name = request.POST.get("server", "")
    return get_object_or_404(LlamaServer, name=name) if name else None


def _back(server: LlamaServer | None) -> HttpResponse:
    return redirect("server", name=server.name) if server else redirect("alerts")
