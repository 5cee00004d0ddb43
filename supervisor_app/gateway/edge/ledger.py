"""Requests that are over, on their way into the database. Plain functions, for a `DatabaseThread`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from django.db import transaction

from supervisor_app.common.moments import moment
from supervisor_app.common.storage import storable
from supervisor_app.gateway.edge import api_keys, usage
from supervisor_app.gateway.edge.bulk_insert import Row, insert
from supervisor_app.gateway.edge.heads import without_secrets
from supervisor_app.gateway.records.record import LONGEST_NAME
from supervisor_app.traffic.models import ApiKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.gateway.records.record import Record

WRITE_ROWS = 512
"""Most rows in one transaction."""

_storable_name = lru_cache(maxsize=1000)(storable)
"""Cache of names: nearly all requests have the same few."""


@transaction.atomic
def write(records: Sequence[Record]) -> None:
    """Write at most `WRITE_ROWS` requests, the sums of their days, and when their keys were used last."""
    used: dict[int, float] = {}
    for record in records:
        if record.key is not None:
            used[record.key] = max(record.at, used.get(record.key, record.at))
    names: dict[int | None, str] = {None: ""}
    if used:
        names |= {key: f"deleted key {key}" for key in used}
        names |= dict(ApiKey.objects.filter(pk__in=used).values_list("pk", "name"))
        api_keys.note_use(used)
    insert([_row(record, names[record.key]) for record in records])
    usage.add(records, names)


def _row(record: Record, key: str) -> Row:
    """Return a row in the order of the model's fields."""
    return (
        _written(record.at),
        record.server,
        _storable_name(record.model[:LONGEST_NAME]),
        key,
        _storable_name(record.method[:10]),
        _storable_name(record.route[:LONGEST_NAME]),
        record.status or None,
        record.outcome.value,
        record.streamed,
        record.held_ms,
        record.room_ms,
        record.load_ms,
        record.ttft_ms,
        record.duration_ms,
        record.replays,
        *record.usage,
        record.run_name[:LONGEST_NAME],
        record.id,
        record.captured_request and storable(record.captured_request),
        record.captured_answer and storable(record.captured_answer),
        record.captured_request_head and storable(without_secrets(record.captured_request_head)),
        record.captured_answer_head and storable(without_secrets(record.captured_answer_head)),
    )


def _written(seconds: float) -> str:
    """Write a moment as SQLite keeps it; other databases take it for UTC, as Django has told them."""
    at = moment(seconds)
    if not at.microsecond:
        return _written_second(round(seconds))
    return f"{_written_second(int(seconds))}.{at.microsecond:06}"


@lru_cache(maxsize=100)
def _written_second(seconds: int) -> str:
    """Cache a second: writing it takes longer than all else of a row, and thousands of rows may share it."""
    return f"{moment(seconds):%Y-%m-%d %H:%M:%S}"
