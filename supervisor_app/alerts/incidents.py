"""Incidents in the database: opened, continued and closed. The decisions are made in `alerts.rules`.

A step that several processes may take at once is a filtered update or an insert under a unique constraint:
one of them takes it, the others see that it is taken.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from django.db import DatabaseError, IntegrityError, InterfaceError, connection, transaction

from supervisor_app.alerts import rules as core
from supervisor_app.alerts.deliveries import tell
from supervisor_app.alerts.incident_rows import configured, fill, incident_of
from supervisor_app.alerts.models import Incident
from supervisor_app.alerts.rules import AlertEvent, IncidentEnd
from supervisor_app.common.moments import moment
from supervisor_app.core.changes import Change, RunClosed
from supervisor_app.core.status import DOWN, Failure, FailureKind, LlamaStatus, Status
from supervisor_app.fleet.crash_marks import muted_now
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.maintenance import is_planned, planned_servers
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.silence import with_silence
from supervisor_app.fleet.snapshots import view_of

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)


def follow(server: LlamaServer, change: Change, *, now: float) -> None:
    """Open, continue or close the incident of a server for its new state. `now` in Unix seconds.

    Raises what the database raises, as the state's own write does. A mistake in here costs an alert, never
    the state.
    """
    try:
        if _concerns(server, change):
            with transaction.atomic():
                _follow(server, change, now)
    except (DatabaseError, InterfaceError):
        raise
    except Exception:  # any mistake: an alert must never cost the state that is saved with it
        log.exception("❌ [ALERTS] %s: the incident could not be followed", server.name)


def _concerns(server: LlamaServer, change: Change) -> bool:
    """Is the server down, has it just died, or is an incident of it open? Mostly nothing of that is so."""
    return change.snapshot.status in DOWN or bool(_deaths(change)) or _has_open(server)


def _deaths(change: Change) -> list[RunClosed]:
    return [event for event in change.run_events if isinstance(event, RunClosed) and event.failure]


def _has_open(server: LlamaServer) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_open_ones(), [server.pk])
        return cursor.fetchone() is not None


@cache
def _open_ones() -> str:
    """SQL that finds the open incident of a server, made once: each change of a server asks for it."""
    found = Incident.objects.open().filter(server=0).order_by().values("pk")
    return found.query.sql_with_params()[0]


def _follow(server: LlamaServer, change: Change, now: float) -> None:
    row = Incident.objects.select_for_update().open().filter(server=server).first()
    if row is not None and incident_of(row).settled(now):
        end(row, IncidentEnd.RECOVERED, now)
        row = None
    before = incident_of(row) if row else None
    deaths = _deaths(change)
    if before is None and not deaths and change.snapshot.status not in DOWN:
        return
    step = core.follow(
        before,
        change.snapshot,
        now=now,
        wanted=server.desired_running,
        stable_seconds=configured(server).stable_after_ms / 1000,
        death=deaths[-1].failure if deaths else None,
        died_at=deaths[0].at if deaths else None,
    )
    if _is_muted(server, step, now):
        step = core.hold_back(step)
    if quiet := is_planned(server.pk, now):
        step = core.silence(step)
    if step.incident is None:
        return
    row = row or Incident(server=server)
    row.planned = row.planned or quiet
    if step.incident != before:
        fill(row, step.incident)
        row.save()
    _take(row, step, change.snapshot, now)


def _is_muted(server: LlamaServer, step: core.Step, now: float) -> bool:
    """Have people muted crashes like the one that is about to be told?"""
    if step.incident is None or step.incident.failure is None or core.IT_IS_DOWN.isdisjoint(step.due):
        return False
    muted = muted_now(server, now)
    if muted is None or muted.kind != step.incident.failure.kind.value:
        return False
    return core.is_muted(muted.today, muted.above)


def _take(row: Incident, step: core.Step, snapshot: LlamaStatus, now: float) -> None:
    if step.ending is IncidentEnd.RECOVERED:
        end(row, step.ending, now, snapshot)
    elif step.ending is IncidentEnd.STOPPED:
        _close(row, step.ending, now)
    else:
        tell(row, step.due, snapshot, now)


def close_settled(now: float) -> int:
    """End the incidents whose server has been ready for long enough, and tell. How many."""
    count = 0
    due = Incident.objects.open().filter(closes_at__lte=moment(now)).select_related("server__state")
    for row in due:
        with transaction.atomic():
            count += end(row, IncidentEnd.RECOVERED, now)
    return count


def lose_host(node: str, now: float) -> None:
    """Open an incident for each server that should run on a lost host, and tell each channel of one."""
    running = LlamaServer.objects.on_node(node).filter(desired_running=True).exclude(state=None)
    told_of = Incident.objects.open().values("server")
    new = running.exclude(state__status=Status.INITIAL).exclude(pk__in=told_of)
    new = new.exclude(pk__in=planned_servers(now).values("pk"))
    servers = list(with_silence(new.select_related("state")))
    told: set[int] = set()
    for server in servers:
        others = [each.name for each in servers if each is not server]
        told |= _lose(server, core.host_lost(node, others), now, told)


def _lose(server: LlamaServer, failure: Failure, now: float, told: Collection[int]) -> set[int]:
    """Open an incident, unless somebody else just has. Return the keys of the channels that are told now."""
    opened_at = server.state.seen_at.timestamp()
    said = frozenset({AlertEvent.CRASHED})
    row = Incident(server=server)
    fill(row, core.Incident(opened_at=opened_at, failure=failure, worst=Status.CRASHED, said=said))
    view = view_of(server)
    try:
        with transaction.atomic():
            row.save()
            tell(row, said, replace(view.status, detail=view.detail), now, besides=told)
    except IntegrityError:
        return set()
    return set(row.deliveries.values_list("channel", flat=True))


def find_hosts(now: float) -> None:
    """Go on with the incidents of lost hosts whose supervisor reports again, also where no state changes."""
    lost = Incident.objects.open().filter(recovered_at=None, failure_kind=FailureKind.HOST_LOST)
    back = lost.filter(server__node__in=live_leases().values("node"))
    for pk in back.values_list("pk", flat=True):
        with transaction.atomic():
            _find(pk, now)


def _find(pk: int, now: float) -> None:
    row = Incident.objects.select_for_update(of=("self",)).open().filter(pk=pk, recovered_at=None).first()
    if row is None or (view := view_of(row.server)).stale_since is not None:
        return
    step = core.follow(
        incident_of(row),
        view.status,
        now=now,
        wanted=row.server.desired_running,
        stable_seconds=configured(row.server).stable_after_ms / 1000,
    )
    if step.incident is not None:
        fill(row, step.incident)
        row.save()
        _take(row, step, view.status, now)


def tell_overdue(now: float) -> None:
    """Tell of servers that are still down after the planned work in which they went down."""
    over = Incident.objects.open().filter(planned=True).exclude(server__in=planned_servers(now).values("pk"))
    for pk in over.values_list("pk", flat=True):
        with transaction.atomic():
            row = Incident.objects.select_for_update(of=("self",)).open().filter(pk=pk, planned=True).first()
            if row is None:
                continue
            incident = incident_of(row)
            due = core.overdue(incident)
            fill(row, replace(incident, said=incident.said | {*due}))
            row.planned = False
            row.save()
            view = view_of(row.server)
            tell(row, due, replace(view.status, detail=view.detail), now)


def end(row: Incident, ending: IncidentEnd, now: float, snapshot: LlamaStatus | None = None) -> bool:
    """True when it was this call that closed it."""
    if not _close(row, ending, now):
        return False
    row.deliveries.pending().filter(event=AlertEvent.STILL_DOWN, claimed_at=None).delete()
    if not row.said:
        return True  # all of it was muted
    if row.failure_kind == FailureKind.HOST_LOST and not row.deliveries.exists():
        return True  # one of several on a lost host, of which another was told
    tell(row, (AlertEvent.RECOVERED,), snapshot or view_of(row.server).status, now)
    return True


def _close(row: Incident, ending: IncidentEnd, now: float) -> bool:
    """Close an incident unless another process has, or the server went down again since `row` was read."""
    unchanged = Incident.objects.open().filter(pk=row.pk, closes_at=row.closes_at)
    return bool(unchanged.update(closed_at=moment(now), ending=ending.value))
