"""How often a server that starts is looked at: at once when it is quick, hardly ever when it takes long."""

from __future__ import annotations

from itertools import accumulate, takewhile

import pytest

from supervisor_app.core.spec import HealthPolicy


def looks(policy: HealthPolicy, seconds: float) -> list[float]:
    """Seconds after the spawn at which a server is looked at that is ready after `seconds`; the last finds it so."""
    pauses = (policy.starting_interval(checks) for checks in range(10_000))
    at = accumulate(pauses)
    before = list(takewhile(lambda moment: moment < seconds, at))
    return [*before, sum(policy.starting_interval(checks) for checks in range(len(before) + 1))]


def test_the_first_look_is_after_ten_milliseconds():
    assert HealthPolicy().starting_interval(0) == 0.01


@pytest.mark.parametrize("ready_after", [0.005, 0.03, 0.06, 0.5, 2.0, 9.0])
def test_ready_is_seen_a_tenth_later_at_most(ready_after):
    assert looks(HealthPolicy(), ready_after)[-1] <= 1.1 * ready_after + 0.01


@pytest.mark.parametrize("interval_ms", [250, 1000, 10_000])
def test_the_pauses_only_grow_and_end_at_the_interval(interval_ms):
    pauses = [HealthPolicy(interval_ms=interval_ms).starting_interval(checks) for checks in range(200)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == interval_ms / 1000


def test_an_interval_that_is_shorter_than_the_first_pause_is_kept():
    assert {HealthPolicy(interval_ms=5).starting_interval(checks) for checks in range(100)} == {0.005}


def test_a_load_of_minutes_is_hardly_looked_at_more_often_than_the_interval_says():
    assert len(looks(HealthPolicy(), 600.0)) < 600 + 50


def test_a_start_that_never_ends_has_a_pause_all_the_same():
    assert HealthPolicy(interval_ms=2**31 - 1).starting_interval(10**9) > 1000
