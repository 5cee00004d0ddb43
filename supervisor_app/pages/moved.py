"""Pages of the admin whose app has changed: their old addresses lead to the new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponsePermanentRedirect
from django.urls import reverse

from supervisor_app.web.rights import Right, declare

if TYPE_CHECKING:
    from django.http import HttpRequest

MOVED_TO = {
    "alertchannel": "alerts",
    "apikey": "traffic",
    "delivery": "alerts",
    "incident": "alerts",
    "quarantinedrequest": "traffic",
    "requestrecord": "traffic",
}


@declare(Right.ENTER)
def moved_admin_page(request: HttpRequest, model: str, rest: str) -> HttpResponsePermanentRedirect:
    query = f"?{request.META['QUERY_STRING']}" if request.META.get("QUERY_STRING") else ""
    address = f"{reverse('admin:index')}{MOVED_TO[model]}/{model}/{rest}{query}"
    return HttpResponsePermanentRedirect(address, preserve_request=True)
