"""API keys in the database, as gateways read them and note their use. For a `DatabaseThread`."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.db import connection

from supervisor_app.common.moments import moment
from supervisor_app.traffic.budgets import month_of, used_by
from supervisor_app.traffic.models import ApiKey, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    from supervisor_app.gateway.access.keys import KeyPolicy


def load(now: float | None = None) -> list[KeyPolicy]:
    """Read all keys, also those that are switched off: they are why the gateway is not open.

    A key with an old secret has two policies. `now`: Unix seconds.
    """
    keys, month = list(ApiKey.objects.all()), month_of(time.time() if now is None else now)
    used = used_by([key.name for key in keys if key.tokens_per_month], month.first)
    return list(chain.from_iterable(key.as_policies(used.get(key.name, 0), month.ends_at) for key in keys))


ROWS: tuple[Callable[[], QuerySet[Any, Any]], ...] = (
    lambda: ApiKey.objects.order_by("pk").values_list(),
    lambda: RequestRecord.objects.order_by("-pk").values_list("pk")[:1],
)
"""All on which keys depend, in one month: what they have used changes with the records of requests."""


def note_use(used: Mapping[int, float]) -> None:
    """Note the use in the order of the keys, so that gateways do not wait for each other in a circle."""
    moments = ((key, connection.ops.adapt_datetimefield_value(moment(used[key]))) for key in sorted(used))
    table = connection.ops.quote_name(ApiKey._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET last_used_at = %s"  # noqa: S608 - the name is ours
            " WHERE id = %s AND (last_used_at IS NULL OR last_used_at < %s)",
            [(moment, key, moment) for key, moment in moments],
        )
