"""What the gateways read and write: their only ORM. Plain functions, for a `DatabaseThread`.

Times come in as Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from supervisor_app.conf import Overlay, apply_overlay
from supervisor_app.core.status import Status
from supervisor_app.gateway.keys import KeyPolicy
from supervisor_app.gateway.models import (
    LONGEST_NAME,
    ApiKey,
    QuarantinedRequest,
    RequestRecord,
    ServerUse,
)
from supervisor_app.gateway.records import QuarantineEntry, Record
from supervisor_app.models import LlamaServer
from supervisor_app.store import storable

WRITE_ROWS = 500
"""At most, in one transaction."""
PRUNE_ROWS = 1000
"""Deleted at once: others wait that long for the lock."""
KEEP_DAYS = 30


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- Keys ----------------------------------------------------------------------------------------------


def load_keys() -> list[KeyPolicy]:
    """All of them, also those that are switched off: they are why the gateway is not open."""
    return [key.as_policy() for key in ApiKey.objects.all()]


# --- Records -------------------------------------------------------------------------------------------


@transaction.atomic
def write(records: Sequence[Record]) -> None:
    """At most `WRITE_ROWS` requests, and when their keys were used last."""
    used = {record.key for record in records if record.key is not None}
    names = dict(ApiKey.objects.filter(pk__in=used).values_list("pk", "name"))
    _insert([_row(record, names) for record in records])
    for key in sorted(used & names.keys()):
        latest = _moment(max(record.at for record in records if record.key == key))
        stale = Q(last_used_at=None) | Q(last_used_at__lt=latest)
        ApiKey.objects.filter(stale, pk=key).update(last_used_at=latest)


def _insert(rows: Sequence[Mapping[str, Any]]) -> None:
    """As `bulk_create`, in a fifth of its time: that is the interpreter's, which also serves requests."""
    quote = connection.ops.quote_name
    columns = [field.attname for field in RequestRecord._meta.concrete_fields if not field.primary_key]
    table, names = quote(RequestRecord._meta.db_table), ", ".join(quote(column) for column in columns)
    marks = ", ".join(["%s"] * len(columns))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - all names are ours
            [[row[column] for column in columns] for row in rows],
        )


def _row(record: Record, names: Mapping[int, str]) -> dict[str, Any]:
    """By column, as the database takes it."""
    usage = record.usage
    return {
        "at": connection.ops.adapt_datetimefield_value(_moment(record.at)),
        "server": record.server,
        "model": storable(record.model[:LONGEST_NAME]),
        "key": "" if record.key is None else names.get(record.key, f"deleted key {record.key}"),
        "method": storable(record.method[:10]),
        "route": storable(record.route[:LONGEST_NAME]),
        "status": record.status or None,
        "outcome": record.outcome.value,
        "streamed": record.streamed,
        "held_ms": record.held_ms,
        "ttft_ms": record.ttft_ms,
        "duration_ms": record.duration_ms,
        "replays": record.replays,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "generated_tokens": usage.generated_tokens,
        "tokens_per_second": usage.tokens_per_second,
        "incident": record.incident[:LONGEST_NAME],
        "captured_request": storable(record.captured_request),
        "captured_answer": storable(record.captured_answer),
    }


def prune(now: float, days: float = KEEP_DAYS) -> int:
    """Delete the oldest of what is older, at most `PRUNE_ROWS`. Returns how many: 0 when all are gone."""
    old = RequestRecord.objects.filter(at__lt=_moment(now - days * 86400)).order_by("at")
    oldest = list(old.values_list("pk", flat=True)[:PRUNE_ROWS])
    count, _ = RequestRecord.objects.filter(pk__in=oldest).delete()
    if not count:
        QuarantinedRequest.objects.filter(until__lt=_moment(now)).delete()
    return count


# --- Quarantine ----------------------------------------------------------------------------------------


def load_quarantine(now: float) -> list[QuarantineEntry]:
    """What is not to be sent again now."""
    rows = QuarantinedRequest.objects.filter(until__gt=_moment(now))
    return [
        QuarantineEntry(
            server=row.server,
            body_hash=row.body_hash,
            incident=row.incident,
            reason=row.reason,
            at=row.at.timestamp(),
            until=row.until.timestamp(),
        )
        for row in rows
    ]


def quarantine(entry: QuarantineEntry) -> None:
    """Another crash by the same body renews it."""
    row = QuarantinedRequest(
        server=entry.server,
        body_hash=entry.body_hash,
        incident=entry.incident[:LONGEST_NAME],
        reason=storable(entry.reason),
        at=_moment(entry.at),
        until=_moment(entry.until),
    )
    QuarantinedRequest.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["server", "body_hash"],
        update_fields=["incident", "reason", "at", "until"],
    )


# --- Use and idleness ----------------------------------------------------------------------------------


@transaction.atomic
def touch_use(names: Iterable[str], now: float) -> None:
    """These servers are in use, whatever other gateways see."""
    servers = LlamaServer.objects.filter(name__in=set(names)).order_by("pk").values_list("pk", flat=True)
    ServerUse.objects.bulk_create(
        [ServerUse(server_id=pk, last_request_at=_moment(now)) for pk in servers],
        update_conflicts=True,
        unique_fields=["server"],
        update_fields=["last_request_at"],
    )


def idle_servers(now: float, overlay: Overlay) -> dict[str, datetime]:
    """Ready ones that were asked nothing for as long as their `idle_stop_seconds`, and since when."""
    ready = LlamaServer.objects.filter(desired_running=True, state__status=Status.READY)
    idle = {}
    for server in ready.select_related("state", "use"):
        apply_overlay(server, overlay)
        since = _unused_since(server)
        limit = server.idle_stop_seconds
        if limit and since is not None and since.timestamp() <= now - limit:
            idle[server.name] = since
    return idle


def _unused_since(server: LlamaServer) -> datetime | None:
    """Since it was asked last, or got ready."""
    ready_at: datetime | None = server.state.ready_at
    use: ServerUse | None = getattr(server, "use", None)
    return ready_at and max(ready_at, use.last_request_at if use else ready_at)


def stop_idle(name: str, since: datetime) -> bool:
    """Ask for its end, unless somebody has used it since then. Its supervisor acts within a second."""
    return LlamaServer.objects.filter(~Q(use__last_request_at__gt=since), name=name).ask_to_idle() > 0


def wake(name: str) -> bool:
    """Start it again, if it was stopped for idleness and nothing else."""
    return LlamaServer.objects.filter(name=name, stopped_for_idleness=True).ask_to_start() > 0
