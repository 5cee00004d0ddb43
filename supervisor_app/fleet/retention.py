"""The deletion of old runs by the supervisors, a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.fleet.models import LlamaServer, Run

if TYPE_CHECKING:
    from django.db.models import QuerySet

RUNS_KEPT = 1000
"""Newest runs kept of each server, beside the one that is open and the one that a rollback goes back to."""
BATCH = 200
"""Rows deleted in one go: a few milliseconds."""


def prune(node: str) -> bool:
    """Delete some runs of this node's servers. True: there may be more to delete."""
    return any(delete_some(_past(server)) for server in LlamaServer.objects.on_node(node))


def _past(server: LlamaServer) -> QuerySet[Run]:
    # By the order in which they were seen, as the pages tell them: a clock may have jumped.
    oldest_kept = server.runs.order_by("-pk").values("pk")[RUNS_KEPT - 1 : RUNS_KEPT]
    good = server.runs.reached_ready().exclude(launch={}).order_by("-pk").values("pk")[:1]
    return server.runs.filter(pk__lt=oldest_kept).exclude(ended_at=None).exclude(pk__in=good)


def delete_some(rows: QuerySet[Any]) -> bool:
    """Delete a batch of rows. False: there were none."""
    some = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    if some:
        rows.model.objects.filter(pk__in=some).delete()
    return bool(some)
