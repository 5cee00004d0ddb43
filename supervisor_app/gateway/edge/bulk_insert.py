"""Many rows of requests inserted at once, with as little of the interpreter as can be.

All that costs here is the interpreter, which also serves requests: what the database does, it does beside it.
Each statement gives the interpreter away and has to get it back from a busy event loop, so there are few.
`bulk_create` and `executemany` take many times as much of it.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import connection
from django.db.models import CharField, Field

from supervisor_app.traffic.models import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Row = tuple[str | float | None, ...]
"""Values in the order of the model's fields, without the primary key; the last four are words."""

STATEMENT_ROWS = 128
"""Most rows in one statement of SQLite: while its parameters are handed over, a fifth of a millisecond, no
request is served.
"""
NO_WORDS = (None,) * 4


def insert(rows: Sequence[Row]) -> None:
    """Insert rows. A row with captured words, which may be long, goes alone, by no prepared statement."""
    insert_wordless = _INSERTS.get(connection.vendor, _insert_each)
    if wordless := [row for row in rows if row[-4:] == NO_WORDS]:
        insert_wordless(wordless)
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
