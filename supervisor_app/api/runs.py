"""The history of a server."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.fleet.commands import server_named
from supervisor_app.fleet.history import card_of, newest_runs, summary_json
from supervisor_app.fleet.report_facts import report_of
from supervisor_app.web.errors import api_error
from supervisor_app.web.rights import Right


@endpoint()
def runs(request: HttpRequest, name: str) -> HttpResponse:
    """Answer how the newest runs ended, without their output."""
    if not server_named(name).exists():
        return no_server(name)
    return JsonResponse({"server": name, "runs": [summary_json(run) for run in newest_runs(name)]})


@endpoint(Right.LOOK)
def run(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Answer with all that is known of one run: its output may hold prompts."""
    card = card_of(name, number)
    return JsonResponse(card.as_json()) if card else _no_run(name, number)


@endpoint(Right.LOOK)
def report(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Answer with the report of a run for developers of llama.cpp; `?format=text`: the Markdown alone."""
    card = card_of(name, number)
    if card is None:
        return _no_run(name, number)
    text = report_of(card.run)
    if request.GET.get("format") == "text":
        return HttpResponse(text, content_type="text/plain; charset=utf-8")
    return JsonResponse({"server": name, "run": number, "report": text})


def _no_run(name: str, number: int) -> JsonResponse:
    hint = f"See {reverse('api-runs', args=[name])}."
    return api_error(404, "no_such_run", f"There is no run {number} of {name!r}.", hint)
