"""The restart history of a server, and the card of each run."""

from __future__ import annotations

import time

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from supervisor_app.fleet.history import LISTED, RunCard, card_of, newest_runs
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import staff_page


@staff_page
def runs(request: HttpRequest, name: str) -> HttpResponse:
    """List the newest runs; each leads to its card."""
    server = get_object_or_404(LlamaServer, name=name)
    cards = [RunCard(run) for run in newest_runs(server.name)]
    context = {"name": server.name, "cards": cards, "listed": LISTED, "now": time.time()}
    return render(request, "supervisor/runs.html", context)


@staff_page
def run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Show all that is known of one run: why did it die?"""
    card = card_of(name, number)
    if card is None:
        raise Http404(f"There is no run {number} of {name}.")
    return render(request, "supervisor/run.html", {"name": name, "card": card, "now": time.time()})
