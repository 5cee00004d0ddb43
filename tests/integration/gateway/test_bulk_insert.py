"""Rows that are inserted many at once are what Django would have written."""

from __future__ import annotations

import math
import random
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from supervisor_app.common.storage import storable
from supervisor_app.gateway.edge import bulk_insert, ledger
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import RequestRecord
from tests.integration.building import STARTED, at, make_record

pytestmark = pytest.mark.django_db

TEXTS = [
    "",
    " ",
    "it's \"quoted\" `once` ''twice''",
    "\\ \\\\ \\N \\. \\n \\u0000",
    "\t\r\n\b\f\v\x01\x1f\x7f\x85\u2028",
    "%s %(name)s %% ? ?1 :name $1 {0} [1, null]",
    "null",
    "ÄÖ ß 漢字 \u202eعربى",
    "👩‍👩‍👧‍👦 \U0010ffff \ufffd \uffff",
    "with\0 NUL",
    "half \ud83d a pair \udc00",
]
FLOATS = [0.0, 0.1 + 0.2, 1e-9, 1 / 3, 123.456, 2.0**53 + 2, 1e15, 1e17, 1e22, 1.7976931348623157e308, 2e-308]
MOMENTS = [
    0.0,
    1e-6,
    1_735_689_599.999999,  # the last of a year
    math.nextafter(1_735_689_600.0, 0.0),
    1_735_689_600.0,
    1_735_689_600.000001,
    1_709_164_800.5,  # a leap day
    1_750_000_000.0000005,
    1_750_000_000.1,
    253_402_300_799.0,
]
MOST = 2**31 - 1
EXTREMES = [
    *(
        {"model": text, "route": text, "method": text, "captured_request": text, "captured_answer": text}
        for text in TEXTS
    ),
    *(
        {
            "held_ms": number,
            "ttft_ms": number,
            "duration_ms": number,
            "usage": Usage(tokens_per_second=number),
        }
        for number in FLOATS
    ),
    *({"at": moment} for moment in MOMENTS),
    {"model": "👍" * 201, "route": "/" * 1000, "method": "x" * 11, "run_name": "i" * 201},
    {"status": 0, "ttft_ms": 0.0, "usage": Usage(0, 0, 0, 0.0, 0, 0), "replays": 0},
    {"status": 599, "replays": 32767, "usage": Usage(MOST, MOST, MOST, 1.0, MOST, MOST)},
    {"streamed": True, "captured_answer": "", "server": ""},
    *({"outcome": outcome} for outcome in Outcome),
]


def create(record):
    """Create a row as Django does it."""
    RequestRecord.objects.create(
        at=at(record.at),
        server=record.server,
        model=storable(record.model[:200]),
        key="",
        method=storable(record.method[:10]),
        route=storable(record.route[:200]),
        status=record.status or None,
        outcome=record.outcome,
        streamed=record.streamed,
        held_ms=record.held_ms,
        room_ms=record.room_ms,
        load_ms=record.load_ms,
        ttft_ms=record.ttft_ms,
        duration_ms=record.duration_ms,
        replays=record.replays,
        prompt_tokens=record.usage.prompt_tokens,
        cached_tokens=record.usage.cached_tokens,
        generated_tokens=record.usage.generated_tokens,
        tokens_per_second=record.usage.tokens_per_second,
        drafted_tokens=record.usage.drafted_tokens,
        accepted_tokens=record.usage.accepted_tokens,
        incident=record.run_name[:200],
        request_id=record.id,
        captured_request=storable(record.captured_request),
        captured_answer=storable(record.captured_answer),
    )


def taken():
    """Take what the database has, in its own types, by time."""
    columns = [field.column for field in RequestRecord._meta.concrete_fields if not field.primary_key]
    if connection.vendor == "sqlite":
        columns += [*(f"typeof({column})" for column in columns), "CAST(at AS TEXT)"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {RequestRecord._meta.db_table} ORDER BY at")
        rows = cursor.fetchall()
    RequestRecord.objects.all().delete()
    return rows


@pytest.fixture(params=["", "any other"])
def database(request, monkeypatch):
    """The one at hand; and as if nothing were known of it."""
    if request.param:
        monkeypatch.setattr(bulk_insert, "_INSERTS", {})


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("fields", EXTREMES, ids=lambda fields: ascii(fields)[:60])
def test_a_row_is_what_django_would_have_written(fields):
    record = make_record(**fields)
    create(record)
    expected = taken()
    ledger.write([record])
    assert taken() == expected


@pytest.mark.usefixtures("database")
def test_rows_of_a_large_batch_are_what_django_would_have_written():
    numbers = random.Random(1)
    records = [
        make_record(
            at=STARTED + numbers.random() * 1e7,
            duration_ms=numbers.expovariate(1e-3),
            ttft_ms=numbers.choice([None, numbers.random()]),
            captured_request=numbers.choice([None, *TEXTS]),
        )
        for _ in range(ledger.WRITE_ROWS - 1)
    ]
    for record in records:
        create(record)
    expected = taken()
    ledger.write(records)
    assert taken() == expected


def test_sqlite_has_few_statements_to_keep_prepared_and_misses_no_row():
    sizes = set()
    for count in range(1, ledger.WRITE_ROWS + 1):
        found = list(bulk_insert.portions(range(count), most=128))
        assert [row for portion in found for row in portion] == [*range(count)]
        sizes |= {len(portion) for portion in found}
    assert sizes == {1, 2, 4, 8, 16, 32, 64, 128}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a limit of SQLite")
def test_a_sqlite_that_takes_few_parameters_gets_fewer_at_once(monkeypatch):
    monkeypatch.setattr(bulk_insert, "STATEMENT_ROWS", 256)  # a statement that no other test has had prepared
    few = connection.connection.setlimit(SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    try:
        ledger.write([make_record(at=STARTED + second) for second in range(300)])
    finally:
        connection.connection.setlimit(SQLITE_LIMIT_VARIABLE_NUMBER, few)
    assert RequestRecord.objects.count() == 300


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "nothing where there must be something": ({"held_ms": None}, IntegrityError)
}
if connection.vendor != "sqlite":  # which knows no lengths
    REFUSED["too long"] = ({"server": "s" * 51}, DataError)


@pytest.mark.parametrize(("fields", "refusal"), REFUSED.values(), ids=REFUSED)
def test_nothing_of_a_refused_batch_is_written(fields, refusal):
    with pytest.raises(refusal), transaction.atomic():
        ledger.write([make_record(), make_record(**fields), make_record()])
    assert not RequestRecord.objects.exists()
