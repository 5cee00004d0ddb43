"""The month of a budget, in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from supervisor_app.traffic.budgets import month_of


def at(moment):
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "first", "end"),
    [
        (at("2026-11-30T23:59:59"), date(2026, 11, 1), at("2026-12-01")),
        (at("2026-12-01"), date(2026, 12, 1), at("2027-01-01")),
        (at("2028-02-29"), date(2028, 2, 1), at("2028-03-01")),
    ],
)
def test_a_month_ends_where_the_next_one_begins(now, first, end):
    month = month_of(now)
    assert (month.first, month.ends_at) == (first, end)
