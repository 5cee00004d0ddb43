"""Status page and badges for strangers: chosen servers under names of their own, and nothing else of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from supervisor_app.alerts.notes import note_of, told_incidents
from supervisor_app.fleet.availability import days_of
from supervisor_app.fleet.planned import planned_views
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.status import DAYS, LEGEND, PublicServer, chosen_of, past_of, shown
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpRequest

CACHED_SECONDS = 10
"""Time for which all who ask get one answer: strangers cannot load the machine."""


@page(Right.READ)
def status(request: HttpRequest) -> HttpResponse:
    """Show the chosen servers; without any there is no such page."""
    found = _known()
    return render(request, "supervisor/status.html", {**found, "days": DAYS, "tones": LEGEND})


@page(Right.READ)
def badge(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the state and uptime of a chosen server as SVG. `name`: its title."""
    server = next((each for each in _known()["servers"] if each.title == name), None)
    if server is None:
        raise Http404("There is no such badge.")
    answer = render(request, "supervisor/badge.svg", {"server": server}, content_type="image/svg+xml")
    answer["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return answer


def _known() -> dict[str, Any]:
    """Return the context of the page. Raises Http404: nothing is chosen."""
    chosen = chosen_of(settings.LLAMAPROXY_STATUS_SERVERS)
    if not chosen:
        raise Http404("There is no status page: LLAMAPROXY_STATUS_SERVERS names no server.")
    key = f"public-status {settings.LLAMAPROXY_STATUS_SERVERS}"
    found: Any = cache.get_or_set(key.replace(" ", "_"), lambda: _look(chosen), CACHED_SECONDS)
    return dict(found)


def _look(chosen: dict[str, str]) -> dict[str, Any]:
    now, at = timezone.now(), time.time()
    views = {view.status.name: view for view in planned_views(*chosen)}
    bars = days_of(list(views), DAYS, now)
    servers: list[PublicServer] = [
        shown(title, views[name], bars[name]) for name, title in chosen.items() if name in views
    ]
    past = [past_of(chosen[row.server.name], row, note_of(row)) for row in told_incidents(list(views), now)]
    return {"servers": servers, "incidents": past, "now": at}
