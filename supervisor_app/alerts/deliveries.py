"""Messages of incidents in the database: written once for each channel, claimed, sent, given up.

A step that several processes may take at once is a filtered update or an insert under a unique constraint:
one of them takes it, the others see that it is taken.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.urls import reverse

from supervisor_app.alerts import rules as core
from supervisor_app.alerts.incident_rows import configured, incident_of
from supervisor_app.alerts.models import AlertChannel, Delivery, DeliveryQuerySet, Incident
from supervisor_app.alerts.rules import AlertEvent, IncidentEnd
from supervisor_app.common.moments import moment
from supervisor_app.common.words import iso
from supervisor_app.core.status import Failure, FailureKind, LlamaStatus
from supervisor_app.fleet.maintenance import is_planned
from supervisor_app.fleet.snapshots import view_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor_app.alerts.tally import Tally
    from supervisor_app.fleet.models import LlamaServer

log = logging.getLogger(__name__)

LINE_SEEN = "a line that somebody watches for was written to its log"
CLAIM_SECONDS = 600.0
"""Sending takes seconds. A sender that claimed a message so long ago and says nothing is dead."""


# --- Written, with the incident ------------------------------------------------------------------------


def tell(
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
        incident_of(row),
        snapshot,
        number=row.pk,
        node=server.node,
        now=now,
        secrets=[configured(server).key, server.own_key],
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


# --- Sent, by whoever has time -------------------------------------------------------------------------


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
