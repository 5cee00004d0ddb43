"""The address of a search among past requests."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest

from supervisor_app.traffic.search import Point, Search

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_an_address_says_all_that_is_searched_for():
    search = Search(
        span="24h",
        since=NOON,
        until=NOON,
        outcome="held",
        key="chat ui",
        model="a&b=c",
        slow=10,
        failed=True,
        sort="duration",
        before=Point(NOON, 7),
    )
    assert Search.read(dict(parse_qsl(search.query))) == search


def test_a_search_for_everything_needs_no_query():
    assert Search.read({}).query == ""
    assert Search.read({"span": "", "model": " ", "slow": "", "failed": "0"}) == Search()


@pytest.mark.parametrize(
    "params",
    [
        {"span": "2 weeks"},
        {"outcome": "lost"},
        {"slow": "7"},
        {"slow": "-1"},
        {"sort": "captured_request"},
        {"from": "yesterday"},
        {"from": "2026-13-99T00:00:00Z"},
        {"to": "2026-11-29T12:00:00"},
        {"before": "2026-11-29T12:00:00+00:00~x"},
        {"before": "2026-11-29T12:00:00+00:00~99999999999999999999"},
        {"before": "7"},
    ],
)
def test_a_value_that_makes_no_sense_is_left_out(params):
    assert Search.read(params) == Search()


def test_another_order_begins_with_the_newest():
    search = Search(failed=True, before=Point(NOON, 7)).sorted_by("held")
    assert search == Search(failed=True, sort="held")


@pytest.mark.parametrize(
    ("search", "narrows"),
    [(Search(), False), (Search(sort="held", before=Point(NOON, 7)), False), (Search(model="x"), True)],
)
def test_an_order_and_a_page_leave_nothing_out(search, narrows):
    assert search.narrows is narrows
