"""Does a supervisor still report of a server? By the database's clock alone: those of hosts differ."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from supervisor_app.fleet.lease import expired_leases, is_supervised, live_leases
from supervisor_app.fleet.models import LlamaServer, ServerState

if TYPE_CHECKING:
    from datetime import datetime

SILENT_AFTER = timedelta(seconds=15)
"""Three heartbeats: a supervisor that has not written for so long is taken for gone."""


def with_silence(servers: QuerySet[LlamaServer]) -> QuerySet[LlamaServer]:
    """Let the same query tell what `silent_since` needs."""
    of_its_node = {"node": OuterRef("node")}
    return servers.annotate(
        asked_at=Now(),
        lease_is_over=Exists(expired_leases().filter(**of_its_node)),
        has_supervisor=Exists(live_leases().filter(**of_its_node)),
    )


def silent_rows() -> QuerySet[LlamaServer, Any]:
    """Servers of which nobody reports, and since when, for comparison."""
    too_long_ago = Q(state__seen_at__lt=Now() - SILENT_AFTER)
    silent = with_silence(LlamaServer.objects.all()).filter(Q(lease_is_over=True) | too_long_ago)
    return silent.order_by("pk").values_list("pk", "state__seen_at")


def has_supervisor(server: LlamaServer) -> bool:
    """Tell whether a supervisor holds the server's node. Without `with_silence` this asks the database."""
    known: bool | None = getattr(server, "has_supervisor", None)
    return is_supervised(server.node) if known is None else known


def silent_since(server: LlamaServer) -> datetime | None:
    """Return since when nobody reports; None: somebody does, or nobody ever has.

    Without `with_silence` it is told by this host's clock.
    """
    state: ServerState | None = getattr(server, "state", None)
    if state is None:
        return None
    asked_at: datetime = getattr(server, "asked_at", None) or timezone.now()
    is_over: bool = getattr(server, "lease_is_over", False)
    return state.seen_at if is_silent(asked_at, state.seen_at, lease_is_over=is_over) else None


def is_silent(now: datetime, seen_at: datetime, *, lease_is_over: bool) -> bool:
    """A supervisor renews the lease of its node together with `seen_at`.

    A lease that was given back is none that is over: whoever did that may have been followed at once.
    """
    return lease_is_over or now - seen_at > SILENT_AFTER
