"""Reads and writes of the gateways: their only ORM. Plain functions, for a `DatabaseThread`.

Times come in as Unix seconds.
"""

from __future__ import annotations

import json
import time
from functools import cache, lru_cache
from itertools import chain
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connection, transaction
from django.db.models import CharField, F, Field, Q, QuerySet

from supervisor_app.common.moments import moment
from supervisor_app.common.storage import storable
from supervisor_app.core.status import Status
from supervisor_app.fleet.conf import Overlay, apply_overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge import usage
from supervisor_app.gateway.edge.heads import without_secrets
from supervisor_app.gateway.records.record import LONGEST_NAME, QuarantineEntry, Record
from supervisor_app.traffic.budgets import month_of, used_by
from supervisor_app.traffic.models import (
    WORDS,
    ApiKey,
    ModelList,
    QuarantinedRequest,
    RequestRecord,
    ServerUse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.llama.listing import Listing

Row = tuple[str | float | None, ...]

WRITE_ROWS = 512
"""Most rows in one transaction."""
STATEMENT_ROWS = 128
"""Most rows in one statement of SQLite: while its parameters are handed over, a fifth of a millisecond, no
request is served.
"""
PRUNE_ROWS = 1000
"""Deleted at once: others wait that long for the lock."""
KEEP_DAYS = 30
KEEP_ROWS = 1_000_000
"""Requests, the newest, however many come in `KEEP_DAYS`: some 300 MB without words."""
KEEP_WORDS_DAYS = 7
KEEP_WORDS = 5_000
"""Requests of which the words are kept, the newest: 640 MB, were each as long as may be."""
NO_WORDS = (None,) * 4
KEEP_QUARANTINED = 10_000
CUT_ROWS = 4 * WRITE_ROWS
"""Deleted at once of those beyond `KEEP_ROWS`: more than come meanwhile."""
USE_SLACK_SECONDS = 6.0
"""Greatest age of the note of a use: gateways make one every `writer.USE_SECONDS`, with their records.
"""


_storable_name = lru_cache(maxsize=1000)(storable)
"""Cache of names: nearly all requests have the same few."""


# --- Keys ----------------------------------------------------------------------------------------------


def load_keys(now: float | None = None) -> list[KeyPolicy]:
    """Read all keys, also those that are switched off: they are why the gateway is not open.

    A key with an old secret has two policies. `now`: Unix seconds.
    """
    keys, month = list(ApiKey.objects.all()), month_of(time.time() if now is None else now)
    used = used_by([key.name for key in keys if key.tokens_per_month], month.first)
    return list(chain.from_iterable(key.as_policies(used.get(key.name, 0), month.ends_at) for key in keys))


KEY_ROWS: tuple[Callable[[], QuerySet[Any, Any]], ...] = (
    lambda: ApiKey.objects.order_by("pk").values_list(),
    lambda: RequestRecord.objects.order_by("-pk").values_list("pk")[:1],
)
"""All on which keys depend, in one month: what they have used changes with the records of requests."""


# --- Records -------------------------------------------------------------------------------------------


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
        _note_use(used)
    _insert([_row(record, names[record.key]) for record in records])
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


# All that costs here is the interpreter, which also serves requests: what the database does, it does beside
# it. Each statement gives the interpreter away and has to get it back from a busy event loop, so there are
# few. `bulk_create` and `executemany` take many times as much of it.


def _insert(rows: Sequence[Row]) -> None:
    """Insert rows. A row with captured words, which may be long, goes alone, by no prepared statement."""
    insert = _INSERTS.get(connection.vendor, _insert_each)
    if wordless := [row for row in rows if row[-4:] == NO_WORDS]:
        insert(wordless)
    if spoken := [row for row in rows if row[-4:] != NO_WORDS]:
        _insert_each(spoken)


def _insert_each(rows: Sequence[Row]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(_statement(1, len(rows[0]), "%s"), rows)


def _insert_portions(rows: Sequence[Row]) -> None:
    """Statement for SQLite.

    Not as JSON, of which some versions read floats inexactly, and not by Django's cursor, which would
    translate each of the thousands of placeholders again.
    """
    width = len(rows[0])
    database = connection.connection
    most = min(STATEMENT_ROWS, database.getlimit(SQLITE_LIMIT_VARIABLE_NUMBER) // width)
    with connection.wrap_database_errors:
        for portion in portions(rows, most):
            database.execute(_statement(len(portion), width, "?"), [*chain.from_iterable(portion)])


def portions(rows: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    """Cut rows into powers of two, so that there are few statements, which SQLite keeps prepared."""
    done = 0
    while left := len(rows) - done:
        size = 1 << (min(left, most).bit_length() - 1)
        yield rows[done : done + size]
        done += size


def _insert_json(rows: Sequence[Row]) -> None:
    """Insert into PostgreSQL with one parameter instead of thousands, which psycopg would write out."""
    with connection.cursor() as cursor:
        cursor.execute(_json_statement(), [_as_json(rows).decode()])


_INSERTS = {"sqlite": _insert_portions, "postgresql": _insert_json}
_as_json = msgspec.json.Encoder().encode


@cache
def _statement(rows: int, columns: int, mark: str) -> str:
    row = f"({', '.join([mark] * columns)})"
    return f"INSERT INTO {_target()} VALUES {', '.join([row] * rows)}"  # noqa: S608 - all names are ours


@cache
def _json_statement() -> str:
    # Text is not cast to what its column takes: that would cut it, instead of refusing what is too long.
    types = ["text" if isinstance(field, CharField) else field.db_type(connection) for field in _given()]
    values = ", ".join(f"(item ->> {place})::{name}" for place, name in enumerate(types))
    return f"INSERT INTO {_target()} SELECT {values} FROM jsonb_array_elements(%s::jsonb) AS item"  # noqa: S608


@cache
def _target() -> str:
    """The table, and what of it is given."""
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.attname) for field in _given())
    return f"{quote(RequestRecord._meta.db_table)} ({columns})"


def _given() -> list[Field[Any, Any]]:
    return [field for field in RequestRecord._meta.concrete_fields if not field.primary_key]


def _note_use(used: Mapping[int, float]) -> None:
    """Note the use in the order of the keys, so that gateways do not wait for each other in a circle."""
    moments = ((key, connection.ops.adapt_datetimefield_value(moment(used[key]))) for key in sorted(used))
    table = connection.ops.quote_name(ApiKey._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET last_used_at = %s"  # noqa: S608 - the name is ours
            " WHERE id = %s AND (last_used_at IS NULL OR last_used_at < %s)",
            [(moment, key, moment) for key, moment in moments],
        )


def prune(now: float, days: float = KEEP_DAYS) -> int:
    """Delete the oldest of what is older, at most `PRUNE_ROWS`. Returns how many: 0 when all are gone."""
    old = RequestRecord.objects.filter(at__lt=moment(now - days * 86400)).order_by("at")
    oldest = list(old.values_list("pk", flat=True)[:PRUNE_ROWS])
    count, _ = RequestRecord.objects.filter(pk__in=oldest).delete()
    if not count:
        usage.prune(now)
        forget_words(now)
        QuarantinedRequest.objects.filter(until__lt=moment(now)).delete()
        newest = QuarantinedRequest.objects.order_by("-pk").values_list("pk", flat=True)
        QuarantinedRequest.objects.filter(pk__lte=_nth(newest, KEEP_QUARANTINED)).delete()
    return count


def forget_words(now: float) -> None:
    """Drop what was said in requests that are older than `KEEP_WORDS_DAYS`, or beyond `KEEP_WORDS`."""
    spoken = RequestRecord.objects.filter(captured_request__isnull=False)
    last = _nth(spoken.order_by("-pk").values_list("pk", flat=True), KEEP_WORDS)
    old = spoken.filter(Q(pk__lte=last) | Q(at__lt=moment(now - KEEP_WORDS_DAYS * 86400)))
    while oldest := list(old.order_by("pk").values_list("pk", flat=True)[:PRUNE_ROWS]):
        RequestRecord.objects.filter(pk__in=oldest).update(**dict.fromkeys(WORDS))


def cut() -> bool:
    """Delete some of the oldest requests beyond `KEEP_ROWS`. True: there may be more of them.

    By the primary key, which grows with each row: to count so many would take too long.
    """
    rows = RequestRecord.objects.order_by("pk").values_list("pk", flat=True)
    oldest, newest = rows.first(), rows.last()
    if oldest is None or newest is None or oldest > newest - KEEP_ROWS:
        return False
    last = min(newest - KEEP_ROWS, oldest + CUT_ROWS - 1)
    RequestRecord.objects.filter(pk__lte=last).delete()
    return last < newest - KEEP_ROWS


def _nth(keys: QuerySet[Any, int], number: int) -> int:
    """The primary key after so many; 0 when there are fewer."""
    return next(iter(keys[number : number + 1]), 0)


# --- Quarantine ----------------------------------------------------------------------------------------


def load_quarantine(now: float) -> list[QuarantineEntry]:
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


def quarantine(entry: QuarantineEntry) -> None:
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


# --- What servers say of their models ------------------------------------------------------------------


def keep_listing(name: str, launch: str, listing: Listing) -> None:
    """Keep what a server said, for when it cannot say it. A server that was deleted meanwhile is ignored."""
    said = json.dumps(storable(listing.as_json()))
    for pk in LlamaServer.objects.filter(name=name).values_list("pk", flat=True):
        ModelList.objects.bulk_create(
            [ModelList(server_id=pk, launch=launch, said=said, read_at=listing.read_at)],
            update_conflicts=True,
            unique_fields=["server"],
            update_fields=["launch", "said", "read_at"],
        )


# --- Use and idleness ----------------------------------------------------------------------------------


def by_database(now: float) -> float:
    """Translate a moment of this host's clock into the database's, which all gateways share. Unix seconds."""
    if connection.vendor == "sqlite":
        return now  # on this host
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        (at,) = cursor.fetchone()
    return now + (float(at.timestamp()) - time.time())


@transaction.atomic
def touch_use(names: Iterable[str], now: float) -> None:
    """Note that these servers are in use, whatever other gateways see."""
    now = by_database(now)
    servers = LlamaServer.objects.filter(name__in=set(names)).order_by("pk").values_list("pk", flat=True)
    ServerUse.objects.bulk_create(
        [ServerUse(server_id=pk, last_request_at=moment(now)) for pk in servers],
        update_conflicts=True,
        unique_fields=["server"],
        update_fields=["last_request_at"],
    )


def limited_servers() -> QuerySet[LlamaServer, Any]:
    """Tell whether any server is to be stopped when it is idle: most often none is."""
    return LlamaServer.objects.filter(idle_stop_seconds__gt=0).values_list("pk")[:1]


def idle_servers(now: float, overlay: Overlay) -> dict[str, datetime]:
    """Ready ones that were asked nothing for as long as their `idle_stop_seconds`, and since when.

    A server that is in use all the time was noted `USE_SLACK_SECONDS` ago at the latest: it is not among
    them.
    """
    now = by_database(now)
    ready = LlamaServer.objects.filter(desired_running=True, state__status=Status.READY)
    idle = {}
    for server in ready.select_related("state", "use"):
        apply_overlay(server, overlay)
        since = _unused_since(server)
        limit = server.idle_stop_seconds
        if limit and since is not None and since.timestamp() <= now - limit - USE_SLACK_SECONDS:
            idle[server.name] = since
    return idle


def _unused_since(server: LlamaServer) -> datetime | None:
    """Return since when a server is unused: it was asked last then, or got ready."""
    ready_at: datetime | None = server.state.ready_at
    use: ServerUse | None = getattr(server, "use", None)
    return ready_at and max(ready_at, use.last_request_at if use else ready_at)


def stop_idle(name: str, since: datetime) -> bool:
    """Ask for its end, unless somebody has used it since then. Its supervisor acts within a second."""
    return LlamaServer.objects.filter(~Q(use__last_request_at__gt=since), name=name).ask_to_idle() > 0


def wake(name: str) -> bool:
    """Start it again, if it was stopped for idleness or made room, and nothing else.

    Once is enough until its supervisor has acted.
    """
    made_room = Q(desired_running=True, state__unloaded=True, state__generation=F("generation"))
    sleeping = Q(stopped_for_idleness=True) | made_room
    return LlamaServer.objects.filter(sleeping, name=name).ask_to_start() > 0
