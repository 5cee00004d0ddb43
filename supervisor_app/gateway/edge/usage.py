"""The sums of each day, added to while requests are written: no page ever adds up records."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from django.db import connection

from supervisor_app.common.storage import storable
from supervisor_app.gateway.records.record import LONGEST_NAME, Outcome
from supervisor_app.traffic.models import UsageDay
from supervisor_app.traffic.sums import KEEP_DAYS, PLACE, SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor_app.gateway.records.record import Record

DAY = 86400

Place = tuple[int, int | None, str, str]
"""Day since 1970 (UTC), primary key of the API key, server, id of the model."""


def sums_of(records: Iterable[Record]) -> dict[Place, list[int]]:
    """Add up requests, in the order of `SUMS`. Pure."""
    found: dict[Place, list[int]] = {}
    for record in records:
        place = (int(record.at // DAY), record.key, record.server, record.model_id)
        sums = found.get(place)
        if sums is None:
            found[place] = sums = [0] * len(SUMS)
        usage = record.usage
        sums[0] += 1
        sums[1] += record.failed
        sums[2] += record.held_ms > 0 or record.outcome is Outcome.HELD
        sums[3] += usage.prompt_tokens or 0
        sums[4] += usage.cached_tokens or 0
        sums[5] += usage.generated_tokens or 0
    return found


def add(records: Iterable[Record], names: Mapping[int | None, str]) -> None:
    """Add requests to the sums of their days, in the transaction that writes them.

    `names`: of API keys. A gateway that is killed has written both or neither. Rows go in one order, so that
    gateways do not wait for each other in a circle.
    """
    rows = sorted(
        (
            day_of(day).isoformat(),
            names[key],
            storable(server),
            storable(model[:LONGEST_NAME]),
            *sums,
        )
        for (day, key, server, model), sums in sums_of(records).items()
    )
    with connection.cursor() as cursor:
        cursor.executemany(_statement(), rows)


def prune(now: float, days: int = KEEP_DAYS) -> None:
    """Delete the sums of days that are long past. `now`: Unix seconds."""
    UsageDay.objects.filter(day__lt=day_of(int(now // DAY)) - timedelta(days=days)).delete()


def day_of(number: int) -> date:
    """The day with this number since 1970."""
    return datetime.fromtimestamp(number * DAY, UTC).date()


@cache
def _statement() -> str:
    quote = connection.ops.quote_name
    table = quote(UsageDay._meta.db_table)
    place, sums = [quote(name) for name in PLACE], [quote(name) for name in SUMS]
    columns = ", ".join([*place, *sums])
    marks = ", ".join(["%s"] * len([*place, *sums]))
    grown = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in sums)
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({marks}) "  # noqa: S608 - all names are ours
        f"ON CONFLICT ({', '.join(place)}) DO UPDATE SET {grown}"
    )
