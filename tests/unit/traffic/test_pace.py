"""The pace of a server: percentiles of its streams, and tokens that fall within a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from supervisor_app.traffic.pace import Answered, Pace, Spread, itl_of, paces

SINCE = datetime(2026, 11, 30, 1, 0, tzinfo=UTC)
NOW = SINCE + timedelta(minutes=1)


def answered(began=10.0, took=2000.0, server="a", streamed=True, ttft=500.0, tokens=100, speed=50.0):
    begun = SINCE + timedelta(seconds=began)
    return Answered(server, begun, streamed, ttft, took, tokens, speed)


def pace_of(*rows):
    return paces(rows, ["a"], SINCE, NOW)["a"]


def test_a_server_that_nobody_asked_has_no_pace():
    assert paces([answered(server="other")], ["a"], SINCE, NOW) == {"a": Pace()}


def test_percentiles_are_of_values_that_were_measured():
    found = pace_of(*(answered(ttft=float(number), speed=1000 / number) for number in range(1, 101)))
    assert found.ttft_ms == Spread(50.0, 95.0)
    assert found.itl_ms is not None
    assert round(found.itl_ms.p95) == 95


@pytest.mark.parametrize(
    ("row", "itl"),
    [
        pytest.param(answered(speed=50.0), 20.0, id="as its server measured it"),
        pytest.param(
            answered(speed=None, took=1500.0, ttft=500.0, tokens=11), 100.0, id="as its client saw it"
        ),
        pytest.param(answered(speed=None, tokens=1), None, id="one token has no other"),
        pytest.param(answered(speed=None, streamed=False), None, id="an answer that came whole"),
        pytest.param(answered(speed=None, ttft=None), None, id="no content"),
        pytest.param(answered(speed=None, tokens=None), None, id="nobody counted"),
    ],
)
def test_the_time_between_tokens(row, itl):
    assert itl_of(row) == itl


def test_the_first_token_of_an_answer_that_came_whole_says_nothing():
    assert pace_of(answered(streamed=False)).ttft_ms is None


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        pytest.param(answered(), 100, id="all within"),
        pytest.param(answered(began=-1, took=2000.0, ttft=None), 50, id="half before"),
        pytest.param(answered(began=-1, took=2000.0, ttft=1000.0), 100, id="the prompt before"),
        pytest.param(answered(began=5, took=0.0, ttft=None), 100, id="in no time"),
        pytest.param(answered(began=5, took=100.0, ttft=100.0), 100, id="all at its end"),
    ],
)
def test_tokens_count_where_they_came(row, tokens):
    assert pace_of(row).tokens_per_second == pytest.approx(tokens / 60)


def test_a_request_that_ended_before_is_left_out():
    assert pace_of(answered(began=-10, took=2000.0)) == Pace()


def test_requests_without_counts_have_no_tokens():
    assert pace_of(answered(tokens=None)).tokens_per_second is None
