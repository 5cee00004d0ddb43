"""The part of a server's page about its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http.request import split_domain_port
from django.utils import timezone

from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord

if TYPE_CHECKING:
    from django.http import HttpRequest

LISTED = 20
DEFAULT_PORT = 8001
"""Port at which a gateway of another process listens unless told otherwise."""


def requests_panel(request: HttpRequest, name: str) -> dict[str, Any]:
    """Return the context of `supervisor/_requests.html`."""
    now = timezone.now()
    newest = RequestRecord.objects.filter(server=name).defer("captured_request", "captured_answer")
    host, _ = split_domain_port(request.get_host())
    gateway = settings.LLAMAPROXY_GATEWAY_URL or f"http://{host}:{DEFAULT_PORT}"
    return {
        "name": name,
        "requests": list(newest[:LISTED]),
        "requests_listed": LISTED,
        "quarantine": list(QuarantinedRequest.objects.in_force(now).filter(server=name)),
        "client_url": f"{gateway}/v1",
        "now": now.timestamp(),
    }
