"""Playground: ask models from a browser, which speaks to the gateway as every client does.

So the page shows what clients meet: a crash that is a pause, a model that is loaded first, an honest end.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import JsonResponse
from django.shortcuts import render
from django.utils import timezone

from supervisor_app.pages.door import act, page
from supervisor_app.traffic.issuing import lend
from supervisor_app.traffic.models import ApiKey, RequestRecord
from supervisor_app.web.http import gateway_url
from supervisor_app.web.rights import Right, may

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

LENT_FOR = timedelta(hours=12)
"""Life of a key that is made for a browser."""
LONGEST_NAME = 100
MOST_IDS = 64
"""Requests of a load test, and so ids that one question may name."""
RECENT = timedelta(hours=1)
PHASES = ("held_ms", "room_ms", "load_ms", "ttft_ms", "duration_ms", "replays", "generated_tokens", "outcome")


@page(Right.OPERATE)
def playground(request: HttpRequest) -> HttpResponse:
    """Show the page, which may connect to the gateway beside its own address."""
    gateway = gateway_url(request)
    context = {
        "gateway_url": gateway,
        "has_keys": ApiKey.objects.exists(),
        "may_make_key": may(request.user, Right.ADMINISTER) and request.user.has_perm("traffic.add_apikey"),
    }
    response = render(request, "supervisor/playground.html", context)
    response["Content-Security-Policy"] = _policy_with(gateway)
    return response


def _policy_with(gateway: str) -> str:
    parts = urlsplit(gateway)
    origin = f"{parts.scheme}://{parts.netloc}"
    policy: str = settings.SECURE_CSP
    return policy.replace("connect-src 'self'", f"connect-src 'self' {origin}")


@act(Right.ADMINISTER)
def make_key(request: HttpRequest) -> HttpResponse:
    """Make a key for the reader's browser, in place of the last one that was made for the reader.

    Where no key exists none is made: the first one would shut out everybody else.
    """
    if not request.user.has_perm("traffic.add_apikey"):
        raise PermissionDenied("Log in as somebody who may make API keys.")
    if not ApiKey.objects.exists():
        return JsonResponse({"key": ""})
    name = f"Playground of {request.user.get_username()}"[:LONGEST_NAME]
    return JsonResponse({"key": lend(name, timezone.now() + LENT_FOR)})


@page(Right.OPERATE)
def phases(request: HttpRequest) -> HttpResponse:
    """Return the parts of the time of requests by their ids, as far as their records are written."""
    ids = request.GET.getlist("id")[:MOST_IDS]
    found = RequestRecord.objects.filter(at__gte=timezone.now() - RECENT, request_id__in=ids)
    return JsonResponse({row.pop("request_id"): row for row in found.values("request_id", *PHASES)})
