"""The restart history of a server, and the card of each run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, render

from supervisor_app.common.moments import moment
from supervisor_app.fleet.history import LISTED, RunCard, card_of, newest_runs
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.availability import availability_panel
from supervisor_app.pages.door import staff_page

if TYPE_CHECKING:
    from datetime import datetime


@staff_page
def runs(request: HttpRequest, name: str) -> HttpResponse:
    """List the newest runs, or those of `?from=…&to=…` in Unix seconds; each leads to its card."""
    server = get_object_or_404(LlamaServer, name=name)
    try:
        between = _between(request)
    except ValueError as error:
        return HttpResponseBadRequest(f"{error}\n", content_type="text/plain")
    cards = [RunCard(run) for run in newest_runs(server.name, between)]
    context = {"cards": cards, "listed": LISTED, "between": between, "now": time.time(), "can_control": True}
    return render(request, "supervisor/runs.html", {**availability_panel(name), **context})


def _between(request: HttpRequest) -> tuple[datetime, datetime] | None:
    """Raises ValueError for what is no time."""
    said = {key: request.GET[key] for key in ("from", "to") if key in request.GET}
    if not said:
        return None
    for key in ("from", "to"):
        digits = said.get(key, "")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
            raise ValueError(f"{key}={digits!r} is no time. Say from and to in seconds since 1970.")
    return moment(float(said["from"])), moment(float(said["to"]))


@staff_page
def run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Show all that is known of one run: why did it die?"""
    card = card_of(name, number)
    if card is None:
        raise Http404(f"There is no run {number} of {name}.")
    return render(request, "supervisor/run.html", {"name": name, "card": card, "now": time.time()})
