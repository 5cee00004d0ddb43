"""The deletion of old runs, spans, footprints and acts by the supervisors, a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.fleet import maintenance, span_record
from supervisor_app.fleet.audit import KEPT
from supervisor_app.fleet.models import AuditEntry, Footprint, LlamaServer, Run, ServerState

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

RUNS_KEPT = 1000
"""Newest runs kept of each server, beside the one that is open and the one that a rollback goes back to."""
FOOTPRINTS_KEPT = 500
"""Footprints kept of each node, those used last, beside those that a server goes by."""
BATCH = 200
"""Rows deleted in one go: a few milliseconds."""


def prune(node: str, now: datetime) -> bool:
    """Sum days that are over and delete some of what is old, of this node. True: there may be more to do."""
    if span_record.sum_up(node, now):
        return True
    runs = (_past(server) for server in LlamaServer.objects.on_node(node))
    past = (*runs, _unused(node), _past_acts(now), *span_record.too_old(node, now), maintenance.too_old(now))
    return any(delete_some(rows) for rows in past)


def _unused(node: str) -> QuerySet[Footprint]:
    used = ServerState.objects.exclude(footprint=None).values("footprint")
    unused = Footprint.objects.filter(node=node).exclude(pk__in=used)
    kept = unused.order_by("-used_at", "-pk").values("pk")[:FOOTPRINTS_KEPT]
    return unused.exclude(pk__in=kept)


def _past_acts(now: datetime) -> QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(at__lt=now - KEPT)


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
