"""Incidents and deliveries in the database. The decisions are made in `alerts.rules`.

A step that several processes may take at once is a filtered update or an insert under a unique constraint:
one of them takes it, the others see that it is taken.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.urls import reverse

from supervisor_app.alerts import rules as core
from supervisor_app.alerts.models import AlertChannel, Delivery, DeliveryQuerySet, Incident
from supervisor_app.alerts.rules import AlertEvent, IncidentEnd
from supervisor_app.common.moments import moment, seconds
from supervisor_app.common.words import iso
from supervisor_app.core.changes import Change, RunClosed
from supervisor_app.core.status import DOWN, Failure, FailureKind, LlamaStatus, Status
from supervisor_app.fleet.conf import apply_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.crash_marks import muted_now
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.maintenance import is_planned, planned_servers
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.silence import with_silence
from supervisor_app.fleet.snapshots import failure_from_json, view_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor_app.alerts.tally import Tally

log = logging.getLogger(__name__)

LINE_SEEN = "a line that somebody watches for was written to its log"
CLAIM_SECONDS = 600.0
"""Sending takes seconds. A sender that claimed a message so long ago and says nothing is dead."""


# --- Incidents: with the state, in its transaction -----------------------------------------------------


def follow(server: LlamaServer, change: Change, *, now: float) -> None:
    """Open, continue or close the incident of a server for its new state. `now` in Unix seconds.

    Raises what the database raises, as the state's own write does. A mistake in here costs an alert, never
    the state.
    """
    try:
        with transaction.atomic():
            _follow(server, change, now)
    except (DatabaseError, InterfaceError):
        raise
    except Exception:  # any mistake: an alert must never cost the state that is saved with it
        log.exception("❌ [ALERTS] %s: the incident could not be followed", server.name)


def _follow(server: LlamaServer, change: Change, now: float) -> None:
    row = Incident.objects.select_for_update().open().filter(server=server).first()
    if row is not None and _incident(row).settled(now):
        end(row, IncidentEnd.RECOVERED, now)
        row = None
    before = _incident(row) if row else None
    deaths = [event for event in change.run_events if isinstance(event, RunClosed) and event.failure]
    if before is None and not deaths and change.snapshot.status not in DOWN:
        return
    step = core.follow(
        before,
        change.snapshot,
        now=now,
        wanted=server.desired_running,
        stable_seconds=_configured(server).stable_after_ms / 1000,
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
        _fill(row, step.incident)
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
        _tell(row, step.due, snapshot, now)


def _configured(server: LlamaServer) -> LlamaServer:
    """Copy a row with the config file's values. An incident is over when the retries count from 0 again."""
    copied = LlamaServer(
        name=server.name,
        node=server.node,
        stable_after_ms=server.stable_after_ms,
        api_key=server.api_key,
        own_key=server.own_key,
    )
    apply_overlay(copied, last_good())
    return copied


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
    _fill(row, core.Incident(opened_at=opened_at, failure=failure, worst=Status.CRASHED, said=said))
    view = view_of(server)
    try:
        with transaction.atomic():
            row.save()
            _tell(row, said, replace(view.status, detail=view.detail), now, besides=told)
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
        _incident(row),
        view.status,
        now=now,
        wanted=row.server.desired_running,
        stable_seconds=_configured(row.server).stable_after_ms / 1000,
    )
    if step.incident is not None:
        _fill(row, step.incident)
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
            incident = _incident(row)
            due = core.overdue(incident)
            _fill(row, replace(incident, said=incident.said | {*due}))
            row.planned = False
            row.save()
            view = view_of(row.server)
            _tell(row, due, replace(view.status, detail=view.detail), now)


def remind(now: float) -> int:
    """Say again what is still down, to those who want that. Returns the number of messages."""
    count = 0
    for channel in AlertChannel.objects.filter(enabled=True, resend_hours__gt=0):
        wait = timedelta(hours=channel.resend_hours)
        told_long_ago = Incident.objects.open().filter(recovered_at=None, deliveries__channel=channel)
        for pk in told_long_ago.values_list("pk", flat=True).distinct():
            with transaction.atomic():
                count += remind_in(channel, pk, wait, now)
    return count


def remind_in(channel: AlertChannel, pk: int, wait: timedelta, now: float) -> int:
    # Looked at again under the lock: it must not be called down after it was called up.
    rows = Incident.objects.select_for_update(of=("self",)).open().filter(pk=pk, recovered_at=None)
    row = rows.select_related("server__state").first()
    told = Delivery.objects.filter(channel=channel, incident_id=pk)
    newest = told.order_by("-created_at", "-pk").first()
    if row is None or newest is None or newest.state == Delivery.State.PENDING:
        return 0
    if is_planned(row.server_id, now):
        return 0
    if newest.created_at > moment(now) - wait:
        return 0
    sequence = told.filter(event=AlertEvent.STILL_DOWN).count() + 1
    snapshot = view_of(row.server).status
    return _post([_delivery(row, channel, AlertEvent.STILL_DOWN, snapshot, now, sequence)])


def end(row: Incident, ending: IncidentEnd, now: float, snapshot: LlamaStatus | None = None) -> bool:
    """True when it was this call that closed it."""
    if not _close(row, ending, now):
        return False
    row.deliveries.pending().filter(event=AlertEvent.STILL_DOWN, claimed_at=None).delete()
    if not row.said:
        return True  # all of it was muted
    if row.failure_kind == FailureKind.HOST_LOST and not row.deliveries.exists():
        return True  # one of several on a lost host, of which another was told
    _tell(row, (AlertEvent.RECOVERED,), snapshot or view_of(row.server).status, now)
    return True


def _close(row: Incident, ending: IncidentEnd, now: float) -> bool:
    """Close an incident unless another process has, or the server went down again since `row` was read."""
    unchanged = Incident.objects.open().filter(pk=row.pk, closes_at=row.closes_at)
    return bool(unchanged.update(closed_at=moment(now), ending=ending.value))


def _tell(
    row: Incident,
    due: Collection[AlertEvent],
    snapshot: LlamaStatus,
    now: float,
    *,
    besides: Collection[int] = (),
) -> None:
    """Tell the channels of a server, but for those with these keys."""
    if not due:
        return
    deliveries = []
    for channel in AlertChannel.objects.for_server(row.server_id).exclude(pk__in=besides):
        heard = {
            AlertEvent(event)
            for event in row.deliveries.filter(channel=channel).values_list("event", flat=True)
        }
        event = core.choose(due, channel.wants, heard)
        if event is not None:
            deliveries.append(_delivery(row, channel, event, snapshot, now))
    _post(deliveries)


@transaction.atomic
def tell_line(server: LlamaServer, watch: str, seen: Tally, now: float) -> None:
    """Tell the channels of a server of a line in its log; the incident, which readers see, leaves it out."""
    see = f"{reverse('log', args=[server.name])}?at={iso(seen.at)}"
    failure = Failure(
        kind=FailureKind.UNKNOWN, permanent=False, title=f"Log: {watch}", detail=LINE_SEEN, hint=f"See {see}."
    )
    snapshot = view_of(server).status
    row = Incident.objects.create(
        server=server,
        opened_at=moment(seen.at),
        recovered_at=moment(now),
        closed_at=moment(now),
        ending=IncidentEnd.SEEN.value,
        worst=snapshot.status.value,
        failure=failure.as_json(),
        said=[AlertEvent.LINE.value],
    )
    alert = core.write_line(
        server.name,
        watch,
        seen,
        number=row.pk,
        node=server.node,
        status=snapshot.status.value,
        url=snapshot.url,
        see=see,
        failure=failure,
        now=now,
    )
    at = moment(now)
    if is_planned(server.pk, now):
        return
    _post(
        [
            Delivery(
                channel=channel,
                incident=row,
                event=AlertEvent.LINE.value,
                alert=alert.as_json(),
                created_at=at,
                next_try_at=at,
            )
            for channel in AlertChannel.objects.for_server(server.pk)
            if AlertEvent.LINE in channel.wants
        ]
    )


def _delivery(
    row: Incident,
    channel: AlertChannel,
    event: AlertEvent,
    snapshot: LlamaStatus,
    now: float,
    sequence: int = 0,
) -> Delivery:
    server = row.server
    alert = core.write(
        event,
        _incident(row),
        snapshot,
        number=row.pk,
        node=server.node,
        now=now,
        secrets=[_configured(server).key, server.own_key],
    )
    at = moment(now)
    return Delivery(
        channel=channel,
        incident=row,
        event=event.value,
        sequence=sequence,
        alert=alert.as_json(),
        created_at=at,
        next_try_at=at,
    )


def _post(deliveries: list[Delivery]) -> int:
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    return len(deliveries)


def _incident(row: Incident) -> core.Incident:
    return core.Incident(
        opened_at=row.opened_at.timestamp(),
        failure=failure_from_json(row.failure),
        worst=Status(row.worst),
        said=frozenset(AlertEvent(word) for word in row.said),
        recovered_at=seconds(row.recovered_at),
        closes_at=seconds(row.closes_at),
    )


def _fill(row: Incident, incident: core.Incident) -> None:
    columns: dict[str, Any] = {
        "opened_at": moment(incident.opened_at),
        "recovered_at": moment(incident.recovered_at),
        "closes_at": moment(incident.closes_at),
        "worst": incident.worst.value,
        "failure": incident.failure and incident.failure.as_json(),
        "failure_kind": incident.failure.kind.value if incident.failure else "",
        "said": sorted(event.value for event in incident.said),
    }
    for name, value in columns.items():
        setattr(row, name, value)


# --- Deliveries: by whoever has time -------------------------------------------------------------------


def claim(now: float, by: str, *, limit: int, busy: Iterable[int] = ()) -> list[Delivery]:
    """Messages that are due and now ours to send, at most one for each channel.

    A message is at least once: who claims it and dies after sending leaves no trace of that, and after
    `CLAIM_SECONDS` another one sends it again. The other way round it might be never, and an alert that is
    not sent is worse than one that is sent twice. Without a death it is exactly once.
    """
    busy = set(busy)
    at = moment(now)
    # In order: nobody shall read "it is up again" before "it is down".
    earlier = Delivery.objects.pending().filter(
        channel=OuterRef("channel"), incident=OuterRef("incident"), pk__lt=OuterRef("pk")
    )
    due = free(now).filter(~Exists(earlier), channel__enabled=True).exclude(channel__in=busy)
    claimed: list[Delivery] = []
    for delivery in due.select_related("channel", "incident__server").order_by("next_try_at", "pk"):
        if len(claimed) == limit:
            break
        mine = free(now).filter(pk=delivery.pk)
        if delivery.channel_id not in busy and mine.update(
            claimed_at=at, claimed_by=by, attempts=F("attempts") + 1
        ):
            busy.add(delivery.channel_id)
            delivery.attempts += 1
            claimed.append(delivery)
    return claimed


def free(now: float) -> DeliveryQuerySet:
    at, dead = moment(now), moment(now - CLAIM_SECONDS)
    return Delivery.objects.pending().filter(Q(claimed_at=None) | Q(claimed_at__lt=dead), next_try_at__lte=at)


def sent(delivery: Delivery, now: float) -> None:
    """Record a delivery as sent, whichever sender may have claimed it since."""
    rows = Delivery.objects.pending().filter(pk=delivery.pk)
    rows.update(state=Delivery.State.SENT, sent_at=moment(now), claimed_at=None, last_error="")


def not_sent(delivery: Delivery, by: str, error: str, now: float) -> float:
    """Seconds until the next try."""
    delay = core.retry_delay(delivery.attempts)
    rows = Delivery.objects.pending().filter(pk=delivery.pk, claimed_by=by)
    rows.update(next_try_at=moment(now + delay), claimed_at=None, claimed_by="", last_error=error)
    return delay


def give_up(now: float) -> int:
    """Give up deliveries that failed for a day or whose channel is switched off; return how many."""
    dead = moment(now - CLAIM_SECONDS)
    old = Delivery.objects.pending().filter(
        Q(claimed_at=None) | Q(claimed_at__lt=dead), created_at__lte=moment(now - core.GIVE_UP_SECONDS)
    )
    count = old.update(state=Delivery.State.FAILED, claimed_at=None)
    if count:
        log.error("❌ [ALERTS] Gave up on %d that could not be sent for a day: see the admin", count)
    return count
