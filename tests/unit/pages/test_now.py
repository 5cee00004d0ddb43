"""Slots and figures of a server in words, and its still charts."""

from __future__ import annotations

import re

import pytest

from supervisor_app.fleet.sample_rules import MINUTE, Mean, Point
from supervisor_app.gateway.records.in_flight import InFlight, Phase
from supervisor_app.pages.presenters.charts import SPANS, charts
from supervisor_app.pages.presenters.now import figures_in_words, latest, milliseconds, rate, slot_rows

DAY = SPANS["day"]
NOW = 1_800_000_000
GIB = 2**30


def slot(number, **fields):
    known = {"task": None, "works": False, "cached": 0, "processed": 0, "decoded": 0, "used": 0, "size": 512}
    return {"id": number, **known, **fields}


def request(name, at=0.0, phase=Phase.GENERATING, **fields):
    return InFlight(id=name, at=at, phase=phase, key=name, **fields)


def told(slots, requests=()):
    return [
        (row.id, row.phase, row.remark, row.context, row.request.key if row.request else "", row.speed)
        for row in slot_rows(slots, requests)
    ]


def test_an_idle_slot_tells_what_lies_in_its_context():
    assert told([slot(0, used=300)]) == [("0", "Idle", "", "300 of 512", "", "")]


def test_a_slot_without_a_context_of_its_own_says_that():
    assert told([slot(0, used=91, shared=1024)])[0][3] == "91 of 1024, shared"


@pytest.mark.parametrize(
    ("fields", "flying", "phase", "remark"),
    [
        ({"decoded": 812}, {}, "Generating", "812 tokens"),
        ({"decoded": 1}, {}, "Generating", "1 token"),
        ({"decoded": 5}, {"tokens": 812}, "Generating", "812 tokens"),
        ({"processed": 500, "cached": 100}, {"phase": Phase.PREFILL}, "Prefill", "600 tokens read"),
        ({"processed": 500}, {"phase": Phase.PREFILL, "prefill": 0.43}, "Prefill", "43 % of the prompt"),
        ({}, {"phase": Phase.SENT}, "Prefill", ""),
    ],
)
def test_a_slot_tells_how_far_it_is(fields, flying, phase, remark):
    ((_, *seen, _, _, _),) = told([slot(0, works=True, task=1, **fields)], [request("chat", **flying)])
    assert seen == [phase, remark]


def test_the_oldest_task_is_the_oldest_request():
    slots = [slot(0, works=True, task=90, decoded=5), slot(1), slot(2, works=True, task=12, decoded=7)]
    requests = [request("young", 200.0, tokens_per_second=41.3), request("old", 100.0, tokens_per_second=4.0)]
    assert [(row[0], row[4], row[5]) for row in told(slots, requests)] == [
        ("0", "young", "41/s"),
        ("1", "", ""),
        ("2", "old", "4.0/s"),
    ]


def test_a_request_whose_slot_nobody_knows_has_a_row_of_its_own():
    assert told([], [request("chat", tokens=30), request("job", 5.0, Phase.SENT)]) == [
        ("", "Generating", "30 tokens", "", "chat", ""),
        ("", "Computing", "the answer comes whole", "", "job", ""),
    ]


def test_a_request_that_waits_has_no_slot():
    assert told([], [request("chat", phase=Phase.QUEUED), request("job", phase=Phase.HELD)]) == []


def test_a_slot_that_does_not_tell_its_size_tells_no_context():
    assert told([slot(0, size=0)])[0][3] == ""


# --- Figures -------------------------------------------------------------------------------------------


def test_the_newest_figures_count_and_those_of_answers_as_a_mean():
    samples = [(1, {"ttft": 100.0, "cpu": 3.0}), (2, {"ttft": 200.0, "cpu": 1.0}), (3, {"cpu": 0.5})]
    assert latest(samples) == {"ttft": 150.0, "cpu": 0.5}
    assert latest([]) == {}


def test_figures_are_told_in_words():
    known = {
        "generated": 41.2,
        "prefilled": 0.0,
        "ttft": 82.4,
        "itl": 7.31,
        "cached": 0.253,
        "context": 1561,
        "context_size": 8192,
        "cpu": 1.26,
        "memory:host": 3.0 * GIB,
        "memory:GPU-0": 19.0 * GIB,
        "memory:GPU-9": 1.0 * GIB,
        "files": 5.0,
        "in_flight": 1,
    }
    said = {figure.name: figure.value for figure in figures_in_words(known, {"GPU-0": "GeForce RTX 4090"})}
    assert said == {
        "Generated": "41/s tokens",
        "Prompts read": "0/s tokens",
        "First token": "82 ms",
        "Between tokens": "7.3 ms",
        "From the cache": "25 %",
        "Context in use": "1561 of 8192 tokens, 19 %",
        "CPU": "1.3 cores",
        "Memory": "3.0 GiB",
        "Memory, GeForce RTX 4090": "19.0 GiB",
        "Memory, GPU-9": "1.0 GiB",
    }


def test_a_context_of_unknown_size_is_told_without_it():
    assert [figure.value for figure in figures_in_words({"context": 5}, {})] == ["5 tokens"]


def test_numbers_are_as_long_as_somebody_reads():
    assert [rate(9.94), rate(9.96), milliseconds(999.4), milliseconds(1400)] == [
        *("9.9/s", "10/s", "999 ms", "1.4 s"),
    ]


# --- Charts --------------------------------------------------------------------------------------------


def minutes(begin, count, **figures):
    return [
        Point(begin + MINUTE * number, {name: Mean(value, 2 * value) for name, value in figures.items()})
        for number in range(count)
    ]


def test_a_chart_tells_least_mean_and_most_of_each_figure_in_words():
    points = minutes(NOW - 7200, 10, generated=10.0) + minutes(NOW - 3600, 10, generated=30.0)
    (chart,) = charts(points, DAY, NOW, {})
    assert chart.title == "Tokens a second"
    assert chart.top == "60/s"
    assert chart.sentence == "Tokens a second. generated: mean 20/s, from 10/s to 60/s."


def test_a_line_has_a_gap_where_nothing_is_known():
    points = minutes(NOW - 7200, 20, cpu=1.0) + minutes(NOW - 3600, 10, cpu=2.0)
    ((line,),) = [chart.lines for chart in charts(points, DAY, NOW, {})]
    assert re.findall("[ML]", line.mean) == ["M", "L", "M"]
    assert line.mean.endswith("50.0H579.2")
    assert line.most.endswith(" 0.0H579.2")


def test_a_chart_begins_where_its_time_begins():
    points = minutes(NOW - 86_400 - 300, 10, cpu=1.0)
    ((line,),) = [chart.lines for chart in charts(points, DAY, NOW, {})]
    assert line.mean.startswith("M0.0 ")


def test_a_figure_that_is_always_nothing_is_drawn_at_the_bottom():
    ((line,),) = [chart.lines for chart in charts(minutes(NOW - 600, 10, cpu=0.0), DAY, NOW, {})]
    assert " 100.0H" in line.mean


def test_each_device_has_a_line_in_the_chart_of_memory():
    points = minutes(NOW - 600, 10, **{"memory:host": 2.0 * GIB, "memory:GPU-0": 8.0 * GIB})
    (chart,) = charts(points, DAY, NOW, {"GPU-0": "GeForce"})
    assert [line.name for line in chart.lines] == ["Memory", "Memory, GeForce"]
    assert chart.top == "16.0 GiB"


def test_nothing_known_is_no_chart():
    assert charts([], DAY, NOW, {}) == []
