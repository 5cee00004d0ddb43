"""Availability of a server: bars, figures, months."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import render
from django.utils import timezone

from supervisor_app.fleet.availability import availability_of
from supervisor_app.fleet.uptime_words import OF_WINDOW
from supervisor_app.pages.door import page
from supervisor_app.pages.notes import notes_panel
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@page(Right.READ)
def availability(request: HttpRequest, name: str) -> HttpResponse:
    context = availability_panel(name)
    if not context:
        raise Http404(f"There is no server {name}.")
    if may(request.user, Right.LOOK):
        context |= notes_panel(name)
    return render(request, "supervisor/availability.html", context)


def availability_panel(name: str) -> dict[str, Any]:
    """Return the context of `supervisor/_availability.html`; empty: there is no such server."""
    found = availability_of(name, timezone.now())
    if found is None:
        return {}
    bars = [(OF_WINDOW[window], bar, bar.tally) for window, bar in found.bars.items()]
    return {"name": name, "bars": bars, "months": found.months}
