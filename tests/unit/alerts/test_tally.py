"""Lines that are watched for: the first is told at once, later ones once a minute with their number."""

from __future__ import annotations

import pytest

from supervisor_app.alerts.tally import EVERY_SECONDS, Tally

NOW = 1_750_000_000.0


def test_the_first_line_is_told_at_once_and_named():
    tally = Tally().add(2, "first", NOW).add(3, "later", NOW + 1)
    assert (tally.count, tally.line, tally.at, tally.is_due(NOW)) == (5, "first", NOW, True)


def test_nothing_is_due_without_a_line():
    assert not Tally().skip(5).is_due(NOW)


@pytest.mark.parametrize(
    ("later", "due"), [(0.0, False), (EVERY_SECONDS - 1, False), (EVERY_SECONDS, True), (-5, True)]
)
def test_the_next_message_waits_for_a_minute_unless_the_clock_was_set_back(later, due):
    tally = Tally().add(1, "x", NOW).told(NOW)
    assert (tally.count, tally.skipped) == (0, 0)
    assert tally.add(1, "y", NOW + 1).is_due(NOW + later) is due


def test_bytes_that_were_not_looked_at_add_up():
    assert Tally().skip(5).skip(7).skipped == 12
