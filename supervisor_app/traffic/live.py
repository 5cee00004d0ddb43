"""Requests in flight at all gateways, as their rows say it, and the wish to cancel one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models.functions import Now

from supervisor_app.fleet.audit import note
from supervisor_app.fleet.commands import nudge_gateways
from supervisor_app.gateway.records.in_flight import InFlight, ServerCounts
from supervisor_app.traffic.models import CancelWish, GatewaySight, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from django.db.models import QuerySet

FRESH = timedelta(seconds=15)
"""Age, by the database's clock, from which on a gateway's row is a dead one's: three renewals."""
KEPT = timedelta(hours=1)
"""Time for which wishes are kept."""

_counts = msgspec.json.Decoder(dict[str, ServerCounts]).decode
_requests = msgspec.json.Decoder(list[InFlight]).decode


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of all gateways in flight for one server."""

    in_flight: int = 0
    """Requests at the server."""
    waiting: int = 0
    tokens_per_second: float | None = None
    """Sum over the answers that grow; None: none does."""


@dataclass(frozen=True, slots=True)
class Flight:
    """All requests in flight, the oldest first."""

    requests: tuple[InFlight, ...]
    unlisted: int
    """Requests of all servers that are in flight and not listed."""
    cancelled: frozenset[str]
    """Names of requests that somebody has asked to end."""
    waiting: Mapping[str, int]
    """Requests that wait, by server: also those that are not listed."""


def in_flight(names: Sequence[str]) -> Mapping[str, Counts]:
    """Count what is in flight for each of these servers. One query, however many they are."""
    return counts_of(rows_in_flight().values_list("counts", flat=True), names)


def counts_of(rows: Iterable[str], names: Iterable[str]) -> dict[str, Counts]:
    """Add up the counts of several gateways."""
    found = {name: Counts() for name in names}
    for row in rows:
        for name, count in _counts(row).items():
            if (known := found.get(name)) is None:
                continue
            speeds = [
                speed for speed in (known.tokens_per_second, count.tokens_per_second) if speed is not None
            ]
            found[name] = Counts(
                known.in_flight + count.inside,
                known.waiting + count.waiting,
                sum(speeds) if speeds else None,
            )
    return found


def sums_in_flight() -> dict[str, tuple[int, int, int]]:
    """Add up, by server, requests at it, requests that wait, and the tokens that answers have so far."""
    found: dict[str, tuple[int, int, int]] = {}
    for counts, requests in rows_in_flight().values_list("counts", "requests"):
        tokens = Counter[str]()
        for request in _requests(requests):
            tokens[request.server] += request.tokens or 0
        for name, count in _counts(counts).items():
            inside, waiting, streaming = found.get(name, (0, 0, 0))
            found[name] = (inside + count.inside, waiting + count.waiting, streaming + tokens[name])
    return found


def flight(server: str = "") -> Flight:
    """List what is in flight, for one server or for all."""
    rows = list(rows_in_flight().values_list("total", "requests", "counts"))
    listed = [_requests(requests) for _, requests, _ in rows]
    waiting = Counter[str]()
    for _, _, counts in rows:
        waiting.update({name: count.waiting for name, count in _counts(counts).items()})
    found = sorted((each for some in listed for each in some), key=lambda each: (each.at, each.id))
    return Flight(
        requests=tuple(each for each in found if not server or each.server == server),
        unlisted=max(0, sum(total for total, _, _ in rows) - len(found)),
        waiting={name: count for name, count in waiting.items() if count and (not server or name == server)},
        cancelled=frozenset(CancelWish.objects.values_list("request_id", flat=True))
        if found
        else frozenset(),
    )


def cancel(request: InFlight, user: int) -> None:
    """Ask the gateways to end a request, and note in the admin's log that this user did."""
    with transaction.atomic():
        CancelWish.objects.filter(asked_at__lt=Now() - KEPT).delete()
        CancelWish.objects.bulk_create(
            [CancelWish(request_id=request.id, asked_at=Now())],
            update_conflicts=True,
            unique_fields=["request_id"],
            update_fields=["asked_at"],
        )
        LogEntry.objects.create(
            user_id=user,
            content_type=ContentType.objects.get_for_model(RequestRecord),
            object_id=request.id,
            object_repr=" · ".join(
                filter(
                    None, (request.id, request.server, request.model, request.key and f"key {request.key}")
                )
            )[:200],
            action_flag=DELETION,
            change_message="Cancelled while it was in flight.",
        )
        note("cancel", f"request {request.id}", {"server": request.server, "model": request.model})
    nudge_gateways()


def rows_in_flight() -> QuerySet[GatewaySight]:
    """Rows of the gateways that have something in flight, but for those that were killed."""
    return GatewaySight.objects.filter(seen_at__range=(Now() - FRESH, Now() + FRESH))
