"""The history of a server: its crashes by cause, its runs, and the card of each run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _

from supervisor_app.fleet.history import RunCard, card_of
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.report_facts import report_of
from supervisor_app.fleet.run_search import NO_BUILD, RunSearch, builds_of, find_runs
from supervisor_app.pages.availability import availability_panel
from supervisor_app.pages.crashes import groups_panel
from supervisor_app.pages.door import page
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Sequence


@page(Right.LOOK)
def runs(request: HttpRequest, name: str) -> HttpResponse:
    """List crashes by cause, and a page of the runs that the address asks for; each leads to its card."""
    server = get_object_or_404(LlamaServer, name=name)
    try:
        search = RunSearch.read(request.GET.dict())
    except ValueError as error:
        return HttpResponseBadRequest(f"{error}\n", content_type="text/plain")
    found = find_runs(name, search, timezone.now())
    groups = groups_panel(server)
    context = {
        "cards": [RunCard(run) for run in found.runs],
        "older_query": found.older.query if found.older else "",
        "search": search,
        "now": time.time(),
        **_choices(builds_of(name), groups["crash_kinds"]),
    }
    return render(request, "supervisor/runs.html", {**availability_panel(name), **groups, **context})


def _choices(builds: Sequence[str], kinds: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return values and words of the filters."""
    return {
        "outcomes": [("failed", _("died")), ("stopped", _("stopped")), ("running", _("running"))],
        "spans": [("24h", _("last 24 hours")), ("7d", _("last 7 days")), ("30d", _("last 30 days"))],
        "builds": [(build, _("unknown") if build == NO_BUILD else build) for build in builds],
        "kinds": list(dict(kinds).items()),
    }


@page(Right.LOOK)
def run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Show all that is known of one run: why did it die?"""
    card = card_of(name, number)
    if card is None:
        raise Http404(f"There is no run {number} of {name}.")
    return render(request, "supervisor/run.html", {"name": name, "card": card, "now": time.time()})


@page(Right.LOOK)
def report(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Answer with the report of a run for developers of llama.cpp, as Markdown without secrets."""
    card = card_of(name, number)
    if card is None:
        raise Http404(f"There is no run {number} of {name}.")
    return HttpResponse(report_of(card.run), content_type="text/plain; charset=utf-8")
