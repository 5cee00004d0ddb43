"""How much of the past is kept. The rest is deleted by the supervisors, a few rows at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from supervisor_app.alerts.models import Delivery, Incident
from supervisor_app.fleet.models import LlamaServer, Run

RUNS_KEPT = 1000
"""Of each server, the newest. Beside them the one that runs, and the one that a rollback goes back to."""
ALERTS_KEPT = timedelta(days=90)
"""An incident with its deliveries, from its end on: an open one needs them to know whom it has told what."""
BATCH = 200
"""Rows deleted in one go: a few milliseconds."""


def prune(node: str, now: datetime) -> bool:
    """Delete some runs of this node's servers, or some alerts of all. True: there may be more to delete."""
    return any(_delete_some(rows) for rows in [*_old_runs(node), *_old_alerts(now)])


def _old_runs(node: str) -> list[QuerySet[Run]]:
    return [_past(server) for server in LlamaServer.objects.on_node(node)]


def _past(server: LlamaServer) -> QuerySet[Run]:
    # By the order in which they were seen, as the pages tell them: a clock may have jumped.
    oldest_kept = server.runs.order_by("-pk").values("pk")[RUNS_KEPT - 1 : RUNS_KEPT]
    good = server.runs.reached_ready().exclude(launch={}).order_by("-pk").values("pk")[:1]
    return server.runs.filter(pk__lt=oldest_kept).exclude(ended_at=None).exclude(pk__in=good)


def _old_alerts(now: datetime) -> list[QuerySet[Any]]:
    """The deliveries first: together they could be many."""
    over = Incident.objects.filter(closed_at__lt=now - ALERTS_KEPT)
    told = Exists(Delivery.objects.filter(incident=OuterRef("pk")))
    return [Delivery.objects.filter(incident__in=over), over.exclude(told)]


def _delete_some(rows: QuerySet[Any]) -> bool:
    some = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    if some:
        rows.model.objects.filter(pk__in=some).delete()
    return bool(some)
