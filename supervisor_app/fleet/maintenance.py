"""Planned work: begun and ended by people, and who asks whether a server is in it."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from supervisor_app.common.moments import moment, seconds
from supervisor_app.fleet.audit import note
from supervisor_app.fleet.maintenance_rules import Plan, Times
from supervisor_app.fleet.models import LlamaServer, Maintenance

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from django.db.models import QuerySet


KEPT = timedelta(days=400)
"""Age of the spans that it lies over."""
LONGEST_NOTE = 200


@transaction.atomic
def begin(
    server: LlamaServer | None, *, until: datetime | None, words: str = "", who: str = ""
) -> Maintenance:
    """Begin maintenance of a server, or of all (None), in place of what is in force. `until`: None: open."""
    now = timezone.now()
    Maintenance.objects.in_force(now).filter(server=server).update(ended_at=now)
    row = Maintenance.objects.create(
        server=server, note=words.strip()[:LONGEST_NOTE], begun_at=now, begun_by=who, until=until
    )
    note("begin maintenance", _subject(server), None, {"until": until, "note": row.note})
    return row


@transaction.atomic
def finish(server: LlamaServer | None) -> int:
    """End the maintenance of a server, or that of all (None); return how many there were."""
    now = timezone.now()
    rows = Maintenance.objects.in_force(now).filter(server=server)
    before = [{"until": row.until, "note": row.note} for row in rows]
    count = rows.update(ended_at=now)
    for was in before:
        note("end maintenance", _subject(server), was, None)
    return count


def plans(now: datetime | None = None) -> list[Plan]:
    """Return all maintenance in force, that of all servers first."""
    rows = Maintenance.objects.in_force(now or timezone.now()).select_related("server")
    found = [
        Plan(
            number=row.pk,
            server=row.server.name if row.server else None,
            since=row.begun_at.timestamp(),
            until=seconds(row.until),
            by=row.begun_by,
            note=row.note,
        )
        for row in rows
    ]
    return sorted(found, key=lambda plan: (plan.server is not None, plan.server or ""))


def plan_of(name: str, known: Collection[Plan]) -> Plan | None:
    """Return the maintenance of a server: its own, else that of all."""
    own = next((plan for plan in known if plan.server == name), None)
    return own or next((plan for plan in known if plan.server is None), None)


def is_planned(server_id: int, now: float) -> bool:
    """Tell whether a server is in maintenance. `now`: Unix seconds."""
    return planned_servers(now).filter(pk=server_id).exists()


def planned_servers(now: float) -> QuerySet[LlamaServer]:
    """Select the servers that are in maintenance."""
    rows = Maintenance.objects.in_force(moment(now))
    if rows.filter(server=None).exists():
        return LlamaServer.objects.all()
    return LlamaServer.objects.filter(pk__in=rows.values("server"))


def times_of(servers: Collection[int], since: float) -> Mapping[int, list[Times]]:
    """Return when each of these servers was in maintenance, as far as that ended later than `since`."""
    start = moment(since)
    rows = Maintenance.objects.filter(
        Q(server=None) | Q(server__in=servers),
        Q(ended_at=None) | Q(ended_at__gt=start),
        Q(until=None) | Q(until__gt=start),
    )
    found: defaultdict[int, list[Times]] = defaultdict(list)
    for row in rows:
        times = row.begun_at.timestamp(), seconds(row.over_at)
        for server in servers if row.server_id is None else (row.server_id,):
            found[server].append(times)
    return found


def too_old(now: datetime) -> QuerySet[Maintenance]:
    """Select what ended before all spans that are kept."""
    return Maintenance.objects.filter(Q(ended_at__lt=now - KEPT) | Q(until__lt=now - KEPT))


def _subject(server: LlamaServer | None) -> str:
    return f"server {server.name}" if server else "all servers"
