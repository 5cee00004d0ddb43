"""Use of servers, the end of those that nobody uses, and the start of those that somebody asks for.

Plain functions, for a `DatabaseThread`. Times come in as Unix seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from supervisor_app.common.moments import moment
from supervisor_app.core.status import Status
from supervisor_app.fleet.conf import Overlay, apply_overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.traffic.models import ServerUse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

USE_SLACK_SECONDS = 6.0
"""Greatest age of the note of a use: gateways make one every `writer.USE_SECONDS`, with their records.
"""


def by_database(now: float) -> float:
    """Translate a moment of this host's clock into the database's, which all gateways share. Unix seconds."""
    if connection.vendor == "sqlite":
        return now  # on this host
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        (at,) = cursor.fetchone()
    return now + (float(at.timestamp()) - time.time())


@transaction.atomic
def touch_use(names: Iterable[str], now: float) -> None:
    """Note that these servers are in use, whatever other gateways see."""
    now = by_database(now)
    servers = LlamaServer.objects.filter(name__in=set(names)).order_by("pk").values_list("pk", flat=True)
    ServerUse.objects.bulk_create(
        [ServerUse(server_id=pk, last_request_at=moment(now)) for pk in servers],
        update_conflicts=True,
        unique_fields=["server"],
        update_fields=["last_request_at"],
    )


def limited_servers() -> QuerySet[LlamaServer, Any]:
    """Tell whether any server is to be stopped when it is idle: most often none is."""
    return LlamaServer.objects.filter(idle_stop_seconds__gt=0).values_list("pk")[:1]


def idle_servers(now: float, overlay: Overlay) -> dict[str, datetime]:
    """Ready ones that were asked nothing for as long as their `idle_stop_seconds`, and since when.

    A server that is in use all the time was noted `USE_SLACK_SECONDS` ago at the latest: it is not among
    them.
    """
    now = by_database(now)
    ready = LlamaServer.objects.filter(desired_running=True, state__status=Status.READY)
    idle = {}
    for server in ready.select_related("state", "use"):
        apply_overlay(server, overlay)
        since = _unused_since(server)
        limit = server.idle_stop_seconds
        if limit and since is not None and since.timestamp() <= now - limit - USE_SLACK_SECONDS:
            idle[server.name] = since
    return idle


def _unused_since(server: LlamaServer) -> datetime | None:
    """Return since when a server is unused: it was asked last then, or got ready."""
    ready_at: datetime | None = server.state.ready_at
    use: ServerUse | None = getattr(server, "use", None)
    return ready_at and max(ready_at, use.last_request_at if use else ready_at)


def stop_idle(name: str, since: datetime) -> bool:
    """Ask for its end, unless somebody has used it since then. Its supervisor acts within a second."""
    return LlamaServer.objects.filter(~Q(use__last_request_at__gt=since), name=name).ask_to_idle() > 0


def wake(name: str) -> bool:
    """Start it again, if it was stopped for idleness or made room, and nothing else.

    Once is enough until its supervisor has acted.
    """
    made_room = Q(desired_running=True, state__unloaded=True, state__generation=F("generation"))
    sleeping = Q(stopped_for_idleness=True) | made_room
    return LlamaServer.objects.filter(sleeping, name=name).ask_to_start() > 0
