"""The quarantine in the database, which all gateways share. Plain functions, for a `DatabaseThread`."""

from __future__ import annotations

from supervisor_app.common.moments import moment
from supervisor_app.common.storage import storable
from supervisor_app.gateway.records.record import LONGEST_NAME, QuarantineEntry
from supervisor_app.traffic.models import QuarantinedRequest


def load(now: float) -> list[QuarantineEntry]:
    """Load the requests that are not to be sent again now."""
    rows = QuarantinedRequest.objects.filter(until__gt=moment(now))
    return [
        QuarantineEntry(
            server=row.server,
            body_hash=row.body_hash,
            run_name=row.incident,
            reason=row.reason,
            at=row.at.timestamp(),
            until=row.until.timestamp(),
            key=row.key,
            deaths=tuple((str(server), int(pid)) for server, pid in row.deaths),
        )
        for row in rows
    ]


def put(entry: QuarantineEntry) -> None:
    """Put a request in quarantine; another crash by the same body renews it."""
    row = QuarantinedRequest(
        server=entry.server,
        body_hash=entry.body_hash,
        incident=entry.run_name[:LONGEST_NAME],
        reason=storable(entry.reason),
        at=moment(entry.at),
        until=moment(entry.until),
        key=entry.key,
        deaths=[list(death) for death in entry.deaths],
    )
    QuarantinedRequest.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["server", "body_hash"],
        update_fields=["incident", "reason", "key", "deaths", "at", "until"],
    )
