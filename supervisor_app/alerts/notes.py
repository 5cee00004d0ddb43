"""Notes of operators on incidents, for those who read the status page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from supervisor_app.alerts.models import Incident, IncidentNote
from supervisor_app.alerts.rules import IncidentEnd
from supervisor_app.fleet.audit import note

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from typing import Any

PAST = timedelta(days=14)
"""Age of the downtimes that are told to strangers, unless they go on."""
MOST = 50


def told_incidents(names: Collection[str], now: datetime) -> list[Incident]:
    """Return the downtimes of these servers that may have a note, the newest first, with their notes."""
    found = Incident.objects.filter(Q(opened_at__gte=now - PAST) | Q(closed_at=None), server__name__in=names)
    return list(found.exclude(ending=IncidentEnd.SEEN).select_related("server", "note")[:MOST])


def note_of(incident: Incident) -> IncidentNote | None:
    """Return the note of an incident; None: it has none."""
    found: IncidentNote | None = getattr(incident, "note", None)
    return found


@transaction.atomic
def write_note(incident: Incident, words: str, who: str) -> None:
    """Give an incident a note, in place of the one that it has."""
    before = IncidentNote.objects.filter(incident=incident).first()
    IncidentNote.objects.update_or_create(
        incident=incident, defaults={"text": words, "author": who, "written_at": timezone.now()}
    )
    note("note incident", _subject(incident), _told(before) if before else None, {"note": words})


@transaction.atomic
def remove_note(incident: Incident) -> None:
    """Take the note of an incident away, if it has one."""
    for row in IncidentNote.objects.filter(incident=incident):
        note("remove note of incident", _subject(incident), _told(row))
        row.delete()


def _told(row: IncidentNote) -> dict[str, Any]:
    return {"note": row.text, "author": row.author}


def _subject(incident: Incident) -> str:
    return f"server {incident.server.name}, down since {incident.opened_at:%Y-%m-%d %H:%M}"
