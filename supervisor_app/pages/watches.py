"""Watches for lines of a server's log, made and deleted on the page of that log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.shortcuts import get_object_or_404, redirect, render

from supervisor_app.alerts.log_watcher import MOST_WATCHES
from supervisor_app.alerts.models import AlertChannel, LineWatch
from supervisor_app.alerts.watching import add_watch, delete_watch
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import act
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.http import HttpRequest, HttpResponse

    from supervisor_app.web.http import HtmxHttpRequest


@act(Right.OPERATE)
def watch(request: HttpRequest, name: str) -> HttpResponse:
    """Watch for a text or pattern in the log of a server, or of all."""
    server = get_object_or_404(LlamaServer, name=name)
    said = request.POST
    made = LineWatch(
        name=said.get("name", "").strip(),
        pattern=said.get("pattern", ""),
        is_pattern=said.get("is_pattern") == "1",
        server=None if said.get("all") == "1" else server,
    )
    try:
        add_watch(made, cast("User", request.user))
    except ValidationError as error:
        context = {"message": " ".join(error.messages), "name": name}
        return render(request, "supervisor/refused.html", context, status=400)
    return redirect("log", name=name)


@act(Right.OPERATE)
def unwatch(request: HtmxHttpRequest, name: str, number: int) -> HttpResponse:
    """Delete a watch."""
    server = get_object_or_404(LlamaServer, name=name)
    delete_watch(get_object_or_404(LineWatch, pk=number), cast("User", request.user))
    if request.htmx:
        return render(request, "supervisor/_watches.html", {"name": name, **watches_panel(server)})
    return redirect("log", name=name)


def watches_panel(server: LlamaServer) -> dict[str, Any]:
    """Return the context of `supervisor/_watches.html`."""
    mine = LineWatch.objects.filter(Q(server=None) | Q(server=server), enabled=True).order_by("pk")
    return {
        "watches": list(mine),
        "most_watches": MOST_WATCHES,
        "has_line_channels": AlertChannel.objects.for_server(server.pk).filter(on_line=True).exists(),
    }
