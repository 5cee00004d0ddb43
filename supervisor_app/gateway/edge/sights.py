"""Requests in flight, on their way to people's pages, and the wishes that come back."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
from django.db.models.functions import Now

from supervisor_app.gateway.records.in_flight import tokens_of, with_speeds
from supervisor_app.traffic.models import CancelWish, GatewaySight

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

    from supervisor_app.common.database import DatabaseThread
    from supervisor_app.gateway.records.in_flight import Sight

SECONDS = 0.9
"""Least pause between two rows: a little less than the writer's, which comes once a second."""
RENEW_SECONDS = 5.0
"""Age at which a row is written again although nothing has changed: by its age a dead one is told."""
WISH = timedelta(minutes=1)
"""Time for which a wish to cancel is heard. By the database's clock."""
DEAD = timedelta(hours=1)


encoded = msgspec.json.encode


class Showcase:
    """Writes one row while the gateway has something in flight, and only when that has changed."""

    def __init__(self, name: str, see: Callable[[], Sight], clock: Callable[[], float] = monotonic) -> None:
        self._name = name
        self._see = see
        self._clock = clock
        self._tokens: dict[str, int] = {}
        self._seen_at = 0.0
        self._shown: tuple[bytes, bytes, int] | None = None
        """The row as it is in the database; None: there is none."""
        self._shown_at = 0.0
        self._has_pruned = False

    async def publish(self, database: DatabaseThread, *, is_over: bool = False) -> None:
        """Write what is in flight, if it is time. `is_over`: the gateway ends. Raises StoreError."""
        if is_over:
            await self._withdraw(database)
            return
        now = self._clock()
        if now - self._seen_at < SECONDS:
            return
        sight = with_speeds(self._see(), self._tokens, now - self._seen_at)
        self._seen_at = now
        self._tokens = tokens_of(sight.requests)
        if not sight.total:
            await self._withdraw(database)
            return
        row = (encoded(sight.counts), encoded(sight.requests), sight.total)
        if row == self._shown and now - self._shown_at < RENEW_SECONDS:
            return
        await database.call(partial(write, self._name, *row, prune=not self._has_pruned))
        self._shown, self._shown_at, self._has_pruned = row, now, True

    async def _withdraw(self, database: DatabaseThread) -> None:
        if self._shown is not None:
            await database.call(partial(withdraw, self._name))
            self._shown = None


def write(name: str, counts: bytes, requests: bytes, total: int, *, prune: bool = False) -> None:
    """Write what this gateway has in flight. `prune`: also delete the rows of gateways that are long dead."""
    if prune:
        GatewaySight.objects.filter(seen_at__lt=Now() - DEAD).delete()
    row = GatewaySight(
        gateway=name, seen_at=Now(), total=total, counts=counts.decode(), requests=requests.decode()
    )
    GatewaySight.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["gateway"],
        update_fields=["seen_at", "total", "counts", "requests"],
    )


def withdraw(name: str) -> None:
    """Delete the row of a gateway that has nothing in flight."""
    GatewaySight.objects.filter(gateway=name).delete()


def unwanted() -> frozenset[str]:
    """Names of requests that somebody wants to end."""
    return frozenset(wishes())


def wishes() -> QuerySet[CancelWish, str]:
    rows = CancelWish.objects.filter(asked_at__gt=Now() - WISH).order_by("pk")
    return rows.values_list("request_id", flat=True)
