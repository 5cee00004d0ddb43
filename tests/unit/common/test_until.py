"""Moments on a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from supervisor_app.common.until import LONGEST_SECONDS, until

NOW = datetime(2026, 11, 30, 13, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("now", NOW),
        ("90m", NOW + timedelta(minutes=90)),
        ("7d", NOW + timedelta(days=7)),
        ("999999999d", NOW + timedelta(seconds=LONGEST_SECONDS)),
        ("14:00", datetime(2026, 11, 30, 14, tzinfo=UTC)),
        ("9:30", datetime(2026, 12, 1, 9, 30, tzinfo=UTC)),
        ("2026-12-01T14:00", datetime(2026, 12, 1, 14, tzinfo=UTC)),
        ("2026-11-30T15:00+01:00", datetime(2026, 11, 30, 15, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_moment_is_read_as_people_write_it(said, expected):
    assert until(said, NOW) == expected


@pytest.mark.parametrize(
    ("said", "why"),
    [("soon", "is no moment"), ("25:00", "is no moment"), ("", "is no moment"), ("2026-11-30", "is over")],
)
def test_a_moment_that_is_none_or_over_is_refused_in_words(said, why):
    with pytest.raises(ValueError, match=why):
        until(said, NOW)
