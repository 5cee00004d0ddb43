"""Availability of a server, as JSON."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.fleet.availability import availability_of


@endpoint()
def availability(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with bars and figures of the last day, month and year, and of each month."""
    found = availability_of(name, timezone.now())
    if found is None:
        return no_server(name)
    return JsonResponse({"server": name, **found.as_json()})
