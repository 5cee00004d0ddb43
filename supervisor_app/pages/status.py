"""Status page and badges for strangers: chosen servers under names of their own, and nothing else of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from supervisor_app.alerts.notes import note_of, told_incidents
from supervisor_app.fleet.availability import days_of
from supervisor_app.fleet.planned import planned_views
from supervisor_app.fleet.status_page import chosen_servers
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.status import DAYS, LEGEND, past_of, shown
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.http import HttpRequest

    from supervisor_app.fleet.snapshots import ServerView
    from supervisor_app.fleet.uptime import Bar
    from supervisor_app.pages.presenters.status import Past, PublicServer

CACHED_SECONDS = 10
"""Time for which all who ask get one answer: strangers cannot load the machine."""
LATEST = "public-status"


@dataclass(frozen=True, kw_only=True)
class Look:
    """Chosen servers as they were at a moment, in no language yet."""

    titles: Mapping[str, str]
    """Titles by names, of the servers that there are."""
    is_off: bool
    views: Mapping[str, ServerView]
    bars: Mapping[str, Bar]
    incidents: Sequence[Past]
    at: float
    """Unix seconds."""

    def server(self, name: str) -> PublicServer:
        return shown(self.titles[name], self.views[name], self.bars[name])


@page(Right.READ)
def status(request: HttpRequest) -> HttpResponse:
    """Show the chosen servers; without any there is no such page, but an admin may choose."""
    latest = _latest()
    if latest.is_off:
        if may(request.user, Right.ADMINISTER):
            return redirect("status-servers")
        raise Http404("There is no status page: no server is chosen for it.")
    context = {
        "servers": [latest.server(name) for name in latest.titles],
        "incidents": latest.incidents,
        "now": latest.at,
        "days": DAYS,
        "tones": LEGEND,
    }
    return render(request, "supervisor/status.html", context)


@page(Right.READ)
def badge(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the state and uptime of a chosen server as SVG. `name`: its title."""
    latest = _latest()
    found = next((each for each, title in latest.titles.items() if title == name), None)
    if found is None:
        raise Http404("There is no such badge.")
    context = {"server": latest.server(found)}
    answer = render(request, "supervisor/badge.svg", context, content_type="image/svg+xml")
    answer["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return answer


def forget() -> None:
    """Look anew for the next reader; readers at other web processes wait for `CACHED_SECONDS` at most."""
    cache.delete(LATEST)


def _latest() -> Look:
    found: Look | None = cache.get(LATEST)
    if found is None:
        found = _look()
        cache.set(LATEST, found, CACHED_SECONDS)
    return found


def _look() -> Look:
    now, at, chosen = timezone.now(), time.time(), chosen_servers()
    views = {view.status.name: view for view in planned_views(*chosen)} if chosen else {}
    titles = {name: title for name, title in chosen.items() if name in views}
    past = [
        past_of(titles[name], row, note_of(row), is_planned=views[name].is_planned)
        for row in (told_incidents(list(views), now) if views else ())
        for name in (row.server.name,)
    ]
    bars = days_of(list(views), DAYS, now) if views else {}
    return Look(titles=titles, is_off=not chosen, views=views, bars=bars, incidents=past, at=at)
