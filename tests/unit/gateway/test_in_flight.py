"""What people see of requests in flight: how fast answers grow, how much of a prompt is read."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.plane.sight import prefill_of
from supervisor_app.gateway.records.in_flight import (
    InFlight,
    Phase,
    ServerCounts,
    Sight,
    tokens_of,
    with_speeds,
)


def request(name, tokens=None, phase=Phase.GENERATING):
    return InFlight(id=name, at=1.0, phase=phase, server="default", tokens=tokens)


def sight(*requests):
    return Sight(
        counts={"default": ServerCounts(len(requests))}, requests=list(requests), total=len(requests)
    )


def test_the_speed_of_an_answer_is_what_came_since_the_last_look():
    seen = with_speeds(sight(request("a", 50), request("b", 30)), {"a": 10, "b": 20}, 2.0)
    assert [each.tokens_per_second for each in seen.requests] == [20.0, 5.0]
    assert seen.counts["default"].tokens_per_second == 25.0


@pytest.mark.parametrize(
    ("seen", "before"),
    [
        (request("new", 50), {}),
        (request("a"), {"a": 10}),
        (request("a", 50, Phase.QUEUED), {"a": 10}),
    ],
    ids=["seen for the first time", "tokens are not told", "it waits"],
)
def test_a_request_without_two_looks_at_a_growing_answer_has_no_speed(seen, before):
    shown = with_speeds(sight(seen), before, 1.0)
    assert shown.requests[0].tokens_per_second is None
    assert shown.counts["default"].tokens_per_second is None


def test_an_answer_that_begins_anew_has_no_negative_speed():
    assert with_speeds(sight(request("a", 3)), {"a": 40}, 1.0).requests[0].tokens_per_second == 0


def test_two_looks_at_one_moment_tell_no_speed():
    assert with_speeds(sight(request("a", 3)), {"a": 1}, 0.0).requests[0].tokens_per_second is None


def test_tokens_are_remembered_of_answers_that_tell_them():
    assert tokens_of([request("a", 3), request("b"), request("c", 0)]) == {"a": 3, "c": 0}


PROGRESS = b'data: {"choices":[{"delta":{}}],"prompt_progress":{"total":200,"cache":0,"processed":%d,"time_ms":9}}\n\n'


@pytest.mark.parametrize(
    ("tail", "share"),
    [
        ([PROGRESS % 50], 0.25),
        ([PROGRESS % 50, PROGRESS % 150], 0.75),
        ([PROGRESS % 900], 1.0),
        ([PROGRESS % 200, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'], None),
        ([], None),
        ([b'"prompt_progress":{"total":0,"processed":0}'], None),
        ([b'"prompt_progress":{"total":"many","processed":-1}'], None),
        ([b'"prompt_progress":'], None),
    ],
)
def test_the_share_of_a_prompt_that_is_read_is_that_of_the_last_event(tail, share):
    assert prefill_of(tail) == share
