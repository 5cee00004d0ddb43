"""The part of a server's page about its requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http.request import split_domain_port
from django.utils import timezone

from supervisor_app.core.loaded import loaded_from_json
from supervisor_app.fleet.models import Run
from supervisor_app.traffic.models import QuarantinedRequest, RequestRecord

if TYPE_CHECKING:
    from django.http import HttpRequest

LISTED = 20
DEFAULT_PORT = 8001
"""Port at which a gateway of another process listens unless told otherwise."""

WOKE = timedelta(seconds=1)
"""Time that a wish of a request takes at most until its server asks for room."""


def first_token_after_load(name: str) -> float | None:
    """Milliseconds from the end of the last load to the first token of a request that waited for it.

    None: no such request is on record, or nobody has measured the load.
    """
    run = Run.objects.filter(server__name=name).open().reached_ready().first()
    loaded = loaded_from_json(run.loaded) if run is not None else None
    if run is None or run.ready_at is None or loaded is None:
        return None
    began = run.ready_at - timedelta(milliseconds=loaded.room_ms + loaded.load_ms) - WOKE
    waited = RequestRecord.objects.filter(
        server=name, at__gte=began, at__lt=run.ready_at, ttft_ms__isnull=False
    ).values_list("at", "ttft_ms")
    after = [1000 * (at - run.ready_at).total_seconds() + first for at, first in waited if first is not None]
    return min((count for count in after if count >= 0), default=None)


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
        "first_token_ms": first_token_after_load(name),
        "quarantine": list(QuarantinedRequest.objects.in_force(now).filter(server=name)),
        "client_url": f"{gateway}/v1",
        "now": now.timestamp(),
    }
