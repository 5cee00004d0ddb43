"""Release of requests that killed their servers, by people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from supervisor_app.traffic.models import QuarantinedQuerySet


@transaction.atomic
def release(requests: QuarantinedQuerySet) -> int:
    """Let requests be tried again; return how many there were."""
    for server, incident, body_hash in requests.values_list("server", "incident", "body_hash"):
        note("release", f"request of server {server}", {"incident": incident, "body_hash": body_hash[:12]})
    return requests.delete()[0]
