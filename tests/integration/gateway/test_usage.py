"""The sums of each day: written with the requests, once, and shown without adding up requests."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from supervisor_app.gateway.edge import ledger, retention, usage
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import RequestRecord, UsageDay
from supervisor_app.traffic.pace import Spread, pace
from supervisor_app.traffic.search import Point, Search, look
from supervisor_app.traffic.sums import KEEP_DAYS, SUMS
from tests.integration.building import STARTED, at, make_key, make_record

pytestmark = pytest.mark.django_db

DAY = 86400
TOKENS = Usage(prompt_tokens=100, cached_tokens=40, generated_tokens=7)


def sums():
    """The sums of each day, key, server and model, in the order of `SUMS`."""
    rows = UsageDay.objects.order_by("day", "key", "server", "model")
    return {
        (str(row.day), row.key, row.server, row.model): tuple(getattr(row, name) for name in SUMS)
        for row in rows
    }


def asked(**fields):
    return make_record(**{"usage": TOKENS, "model_id": "qwen", **fields})


# --- Written -------------------------------------------------------------------------------------------


def test_requests_are_added_up_by_day_key_server_and_model():
    key = make_key("chat")
    noon = STARTED // DAY * DAY + DAY / 2
    ledger.write(
        [
            asked(at=noon, key=key.pk, model="by one name"),
            asked(at=noon + 60, key=key.pk, model="by another", held_ms=5, outcome=Outcome.HELD),
            asked(at=noon, status=503, outcome=Outcome.UNAVAILABLE, usage=Usage()),
            asked(at=noon + DAY, key=key.pk, model_id="small"),
        ]
    )
    today, tomorrow = at(noon).date(), at(noon + DAY).date()
    assert sums() == {
        (str(today), "", "default", "qwen"): (1, 1, 0, 0, 0, 0),
        (str(today), "chat", "default", "qwen"): (2, 0, 1, 200, 80, 14),
        (str(tomorrow), "chat", "default", "small"): (1, 0, 0, 100, 40, 7),
    }


def test_later_requests_of_a_day_are_added_to_its_sums():
    for _ in range(3):
        ledger.write([asked(), asked()])
    assert list(sums().values()) == [(6, 0, 0, 600, 240, 42)]


def test_requests_that_are_not_written_are_not_added_either():
    """A gateway that is killed before its commit has written neither; its next one writes both."""
    with transaction.atomic():
        ledger.write([asked()])
        transaction.set_rollback(True)
    assert not UsageDay.objects.exists()
    assert not RequestRecord.objects.exists()


def test_names_that_no_database_takes_are_written_all_the_same():
    ledger.write([asked(model_id="a\0b" + "x" * 300)])
    assert UsageDay.objects.get().model.startswith("abx")


def test_sums_of_days_that_are_long_past_are_deleted():
    now = STARTED
    today = at(now).date()
    for age in (KEEP_DAYS, KEEP_DAYS + 1):
        UsageDay.objects.create(day=today - timedelta(days=age))
    retention.prune(now)
    assert [row.day for row in UsageDay.objects.all()] == [today - timedelta(days=KEEP_DAYS)]


def test_a_day_is_one_of_utc():
    assert usage.day_of(int(1_700_000_000 // DAY)) == date(2023, 11, 14)


# --- Shown ---------------------------------------------------------------------------------------------


@pytest.fixture
def used():
    """Usage of today and of 40 days ago."""
    now = timezone.now().timestamp()
    key = make_key("chat")
    ledger.write(
        [asked(at=now, key=key.pk), asked(at=now), asked(at=now - 40 * DAY, key=key.pk, model_id="old")]
    )


def test_usage_is_shown_by_key_of_the_last_30_days(used, staff_client, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        shown = staff_client.get("/requests/usage/").content.decode()
    assert "chat" in shown
    assert "no key" in shown
    rows = staff_client.get("/requests/usage/").context["rows"]
    assert [(row.name, row.sums[0]) for row in rows] == [("no key", 1), ("chat", 1)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?by=model", ["qwen"]),
        ("?by=model&days=90", ["qwen", "old"]),
        ("?by=server&days=400", ["default"]),
        ("?by=password&days=7000", ["no key", "chat"]),
    ],
)
def test_usage_is_shown_by_what_is_asked_for(query, names, used, staff_client):
    rows = staff_client.get(f"/requests/usage/{query}").context["rows"]
    assert [row.name for row in rows] == names


def test_usage_by_day_begins_with_today(used, staff_client):
    rows = staff_client.get("/requests/usage/?by=day&days=90").context["rows"]
    assert [row.name for row in rows] == sorted((row.name for row in rows), reverse=True)


def test_usage_of_nothing_says_so(staff_client):
    assert "No request in these 30 days." in staff_client.get("/requests/usage/").content.decode()


def test_usage_is_downloaded_as_csv(used, staff_client):
    UsageDay.objects.filter(key="").update(model="=cmd()")
    answer = staff_client.get("/requests/usage.csv?days=90")
    assert answer["Content-Disposition"].startswith('attachment; filename="usage-')
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [(row["key"], row["model"], row["requests"]) for row in rows] == [
        ("chat", "old", "1"),
        ("", "'=cmd()", "1"),
        ("chat", "qwen", "1"),
    ]


# --- Searched ------------------------------------------------------------------------------------------


def found(search=None, server="", **options):
    result = look(search or Search(), at(STARTED + 100), server, **options)
    return [row.model for row in result.requests], result


def test_a_search_looks_through_so_many_requests_and_says_how_far_back():
    ledger.write(
        [make_record(at=STARTED + number, model="rare" if number == 2 else "usual") for number in range(10)]
    )
    names, first = found(Search(model="rare"), limit=5)
    assert (names, first.looked_back_to) == ([], at(STARTED + 5))
    names, second = found(Search(model="rare", before=first.older), limit=5)
    assert names == ["rare"]
    assert second.older is not None  # so many were looked at: there may be more
    names, last = found(Search(model="rare", before=second.older), limit=5)
    assert (names, last.older, last.looked_back_to) == ([], None, None)


def test_no_request_is_lost_or_doubled_between_looks_at_one_moment():
    ledger.write([make_record(at=STARTED, model=f"m{number}") for number in range(7)])
    seen, before = [], None
    while not seen or before is not None:
        names, result = found(Search(before=before), limit=3)
        seen += names
        before = result.older
    assert sorted(seen) == [f"m{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("search", "names"),
    [
        (Search(outcome="held"), ["held"]),
        (Search(failed=True), ["crashed", "failed"]),
        (Search(slow=10), ["slow"]),
        (Search(key="chat"), ["keyed"]),
        (Search(key="-", slow=10), ["slow"]),
        (Search(model="EYE"), ["keyed"]),
        (Search(since=at(STARTED + 4)), ["slow", "keyed"]),
        (Search(until=at(STARTED + 1)), ["held"]),
        (Search(span="1h"), ["slow", "keyed", "crashed", "failed", "refused", "held"]),
        (Search(sort="duration"), ["slow", "held", "refused", "failed", "crashed", "keyed"][:1]),
    ],
)
def test_a_search_finds_what_it_is_for(search, names):
    key = make_key("chat")
    ledger.write(
        [
            make_record(at=STARTED, model="held", outcome=Outcome.HELD),
            make_record(at=STARTED + 1, model="refused", outcome=Outcome.REFUSED, status=403),
            make_record(at=STARTED + 2, model="failed", outcome=Outcome.UNAVAILABLE, status=503),
            make_record(at=STARTED + 3, model="crashed", outcome=Outcome.UPSTREAM_CRASHED, status=200),
            make_record(at=STARTED + 4, model="keyed", key=key.pk),
            make_record(at=STARTED + 5, model="slow", duration_ms=10_000),
        ]
    )
    assert found(search)[0][: len(names)] == names
    if not search.sort:
        assert len(found(search)[0]) == len(names)


def test_the_largest_come_first_and_those_without_a_value_not_at_all():
    ledger.write(
        [
            make_record(at=STARTED + at_, model=str(first), ttft_ms=first)
            for at_, first in enumerate([5, None, 9])
        ]
    )
    assert found(Search(sort="first"))[0] == ["9", "5"]


@pytest.mark.parametrize(
    ("sort", "counts"),
    [("cached", "cached_tokens"), ("speed", "tokens_per_second"), ("drafted", "drafted_tokens")],
)
def test_a_search_is_sorted_by_what_the_server_counted(sort, counts):
    ledger.write([make_record(model=str(count), usage=Usage(**{counts: count})) for count in (5, None, 9)])
    assert found(Search(sort=sort))[0] == ["9", "5"]


def test_a_point_is_written_as_it_is_read():
    point = Point(at(STARTED), 7)
    assert Point.read(str(point)) == point


# --- Pace ----------------------------------------------------------------------------------------------


def test_the_pace_of_servers_takes_one_query(django_assert_num_queries):
    now = timezone.now()
    told = Usage(generated_tokens=60, tokens_per_second=50.0)
    some = {"at": now.timestamp() - 10, "duration_ms": 2000.0, "ttft_ms": 300.0, "usage": told}
    ledger.write([make_record(server="a", streamed=True, **some), make_record(server="b", **some)])
    ledger.write([make_record(server="a", **some | {"at": now.timestamp() - 3600})])
    with django_assert_num_queries(1):
        found = pace(["a", "b", "c"], now, 60)
    assert (found["a"].requests, found["a"].ttft_ms, found["a"].itl_ms) == (
        1,
        Spread(300.0, 300.0),
        Spread(20.0, 20.0),
    )
    assert (found["a"].tokens_per_second, found["b"].ttft_ms) == (pytest.approx(1.0), None)
    assert found["c"].requests == 0
