"""Figures of a server over time, as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.http import JsonResponse

from supervisor_app.api.endpoint import endpoint, no_server
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.sample_record import points_since, seconds_since
from supervisor_app.fleet.sample_rules import HOUR, KEPT, MINUTE, SECOND, pack
from supervisor_app.web.errors import api_error

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

STEPS = {"hour": SECOND, "day": MINUTE, "year": HOUR}


@endpoint()
def samples(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the figures of the last hour, day or year (`span`), after a moment (`since`)."""
    span, since = request.GET.get("span", "hour"), request.GET.get("since", "0")
    if span not in STEPS:
        return api_error(400, "bad_span", f"There is no span {span!r}.", f"Spans: {', '.join(STEPS)}.")
    if not since.isascii() or not since.isdigit() or len(since) > 12:
        return api_error(400, "bad_since", f"{since!r} is no time.", "Use Unix seconds.")
    if not LlamaServer.objects.filter(name=name).exists():
        return no_server(name)
    step, now = STEPS[span], time.time()
    first = max(int(since), int(now) - KEPT[step])
    told = {"server": name, "span": span, "step": step, "now": now}
    if step == SECOND:
        found = seconds_since(name, first)
        return JsonResponse(
            told | {"at": found[0][0] if found else None, "figures": pack(found) if found else {}}
        )
    points = points_since(name, step, first + 1)
    return JsonResponse(told | {"points": [{"at": point.at, "figures": point.figures} for point in points]})
