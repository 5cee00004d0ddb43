"""The deletion of alerts that are too old."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from supervisor_app.alerts.models import Delivery, Incident
from supervisor_app.fleet.retention import delete_some

ALERTS_KEPT = timedelta(days=90)
"""An incident with its deliveries, from its end on: an open one needs them to know whom it has told what."""


def prune(now: datetime) -> bool:
    """Delete some alerts of all servers, the deliveries first: together they could be many.

    True: there may be more to delete.
    """
    over = Incident.objects.filter(closed_at__lt=now - ALERTS_KEPT)
    told = Exists(Delivery.objects.filter(incident=OuterRef("pk")))
    return delete_some(Delivery.objects.filter(incident__in=over)) or delete_some(over.exclude(told))
