"""Requests in flight and usage, in words."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.records.in_flight import InFlight, Phase
from supervisor_app.pages.presenters.traffic import (
    MEANINGS,
    PHASES,
    UsageRow,
    flight_rows,
    queues,
    safe_cell,
    total_of,
    usage_rows,
)


def request(phase, server="default", name="req_a_1", **fields):
    return InFlight(id=name, at=1.0, phase=phase, server=server, **fields)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            request(Phase.GENERATING, tokens=812, tokens_per_second=41.26),
            ("Generating", "812 tokens", "41/s"),
        ),
        (request(Phase.GENERATING, tokens=1, tokens_per_second=0.5), ("Generating", "1 token", "0.5/s")),
        (request(Phase.PREFILL, prefill=0.43), ("Prefill", "43 % of the prompt", "")),
        (request(Phase.PREFILL), ("Prefill", "reads the prompt", "")),
        (request(Phase.QUEUED), ("Queued", "until it is its turn", "")),
    ],
)
def test_a_request_in_flight_says_how_far_it_is(shown, words):
    (row,) = flight_rows([shown], ())
    assert (row.phase, row.remark, row.speed) == words
    assert not row.is_ending


def test_a_cancelled_request_is_about_to_end():
    (row,) = flight_rows([request(Phase.GENERATING, tokens=3)], {"req_a_1"})
    assert (row.phase, row.remark, row.is_ending) == ("Cancelled", "is about to end", True)


def test_each_phase_has_its_words():
    assert set(PHASES) == set(MEANINGS) == set(Phase)


def test_a_queue_says_why_it_waits():
    waiting = [
        request(Phase.LOADING, "coder"),
        request(Phase.HELD, "coder"),
        request(Phase.QUEUED, "small"),
        request(Phase.GENERATING, "other"),
    ]
    counts = {"coder": 300, "small": 1}
    found = queues(counts, waiting, {"coder": "Loading the model: 43 %.", "small": "Serving."})
    assert [(queue.said, queue.server, queue.reason) for queue in found] == [
        ("300 requests wait for", "coder", "Loading the model: 43 %."),
        ("1 request waits for", "small", "It works on as many requests as it takes."),
    ]


def test_a_queue_of_a_server_that_nobody_reports_has_no_reason():
    assert queues({"gone": 1}, [request(Phase.HELD, "gone")], {})[0].reason == ""


def group(name, *sums):
    return {
        "key": name,
        **dict(zip(("requests", "failed", "held"), sums[:3], strict=True)),
        **dict(zip(("prompt_tokens", "cached_tokens", "generated_tokens"), sums[3:], strict=True)),
    }


def test_usage_is_measured_by_its_largest_row():
    rows = usage_rows([group("chat", 9, 1, 2, 150, 9, 50), group("", 1, 0, 0, 40, 0, 10)], "key", "no key")
    assert rows == [
        UsageRow("chat", (9, 1, 2, 150, 9, 50), 100),
        UsageRow("no key", (1, 0, 0, 40, 0, 10), 25),
    ]
    assert total_of(rows) == (10, 1, 2, 190, 9, 60)


def test_usage_without_tokens_has_no_shares():
    assert [row.share for row in usage_rows([group("chat", 1, 0, 0, 0, 0, 0)], "key", "")] == [0]
    assert total_of([]) == (0,) * 6


@pytest.mark.parametrize(
    ("text", "cell"), [("=1+1", "'=1+1"), ("-x", "'-x"), ("@a", "'@a"), ("chat", "chat"), ("", "")]
)
def test_a_spreadsheet_takes_no_name_for_a_formula(text, cell):
    assert safe_cell(text) == cell
