"""Figures over time: kept, packed, summed."""

from __future__ import annotations

import pytest

from supervisor_app.fleet.sample_rules import (
    HOUR,
    MINUTE,
    Growth,
    Mean,
    Point,
    Thinning,
    longer,
    minutes_of,
    pack,
    unpack,
)

IDLE, WORKING = {"in_flight": 0, "cpu": 0.0}, {"in_flight": 1, "cpu": 0.9}


# --- Kept ----------------------------------------------------------------------------------------------


def kept(course):
    thinning = Thinning()
    return [at for at, figures in course if thinning.keeps(at, figures)]


def test_a_server_that_works_has_a_sample_each_second():
    assert kept([(at, WORKING) for at in range(5)]) == [0, 1, 2, 3, 4]


def test_an_idle_server_has_a_sample_each_minute():
    assert kept([(at, IDLE) for at in range(125)]) == [0, 60, 120]


def test_the_first_idle_second_ends_the_work():
    assert kept([(0, IDLE), (5, WORKING), (6, IDLE), (7, IDLE), (66, IDLE)]) == [0, 5, 6, 66]


def test_a_clock_that_is_set_back_stops_no_samples():
    assert kept([(1000, IDLE), (10, IDLE), (11, IDLE)]) == [1000, 10]


@pytest.mark.parametrize(
    ("figures", "works"),
    [
        ({}, False),
        ({"waiting": 1}, True),
        ({"generated": 3.0}, True),
        ({"prefilled": 3.0}, True),
        ({"ttft": 80.0}, True),
        ({"cpu": 0.05}, False),
        ({"cpu": 0.1}, True),
        ({"context": 900, "memory:host": 5}, False),
    ],
)
def test_a_server_works_if_anything_moves(figures, works):
    assert kept([(0, IDLE), (1, figures)]) == ([0, 1] if works else [0])


# --- Speeds --------------------------------------------------------------------------------------------


def speeds(totals):
    growth = Growth()
    return [growth.speed(total, at) for at, total in totals]


def test_a_speed_is_the_growth_of_the_last_four_seconds():
    assert speeds([(0, 500), (1, 500), (2, 580), (3, 580), (4, 660), (5, 660), (6, 740)]) == [
        *(0.0, 0.0, 40.0, 26.7),
        *(40.0, 40.0, 40.0),
    ]


def test_tokens_that_left_the_slots_before_they_are_on_record_are_counted_once():
    growth = Growth()
    grown = [growth.speed(total, at) for at, total in [(0, 0), (2, 100), (4, 0), (5, 120), (6, 120)]]
    assert grown == [0.0, 50.0, 25.0, 6.7, 5.0]


def test_tokens_that_nobody_records_hide_those_after_them_for_a_few_seconds_only():
    totals = [(0, 0), (2, 100), *((at, 0) for at in range(4, 10)), (10, 20), (14, 20)]
    assert speeds(totals)[-2:] == [5.0, 0.0]


def test_a_speed_over_a_long_pause_is_that_of_the_pause():
    assert speeds([(0, 0), (10, 50)]) == [0.0, 5.0]


def test_a_clock_that_is_set_back_makes_no_negative_speed():
    assert speeds([(100, 0), (101, 50), (3, 60), (4, 70)]) == [0.0, 50.0, 0.0, 10.0]


# --- Packed --------------------------------------------------------------------------------------------


def test_samples_come_out_as_they_were_packed():
    samples = [(1000, {"cpu": 0.5, "generated": 41.0}), (1001, {"cpu": 0.6}), (1007, {"ttft": 80.0})]
    packed = pack(samples)
    assert packed == {
        "t": [0, 1, 7],
        "cpu": [0.5, 0.6, None],
        "generated": [41.0, None, None],
        "ttft": [None, None, 80.0],
    }
    assert list(unpack(1000, packed)) == samples


def test_an_empty_row_holds_no_samples():
    assert list(unpack(1000, {})) == []


# --- Summed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "minutes"),
    [
        ([], {}),
        # Each second of a minute.
        ([(at, {"generated": float(at % 2)}) for at in range(61)], {0: (0.5, 1.0), 60: (0.0, 0.0)}),
        # Ten seconds of work, and nothing until the next sample.
        (
            [(at, {"generated": 60.0}) for at in range(10)] + [(10, {"generated": 0.0})],
            {0: (10.0, 60.0), 60: (0.0, 0.0)},
        ),
        # A sample of the minute before holds.
        ([(-50, {"generated": 7.0}), (10, {"generated": 1.0})], {0: (2.0, 7.0), 60: (1.0, 1.0)}),
        # Nobody looked for a while.
        ([(0, {"generated": 7.0}), (300, {"generated": 1.0})], {0: (7.0, 7.0), 60: (7.0, 7.0)}),
        # Beyond the edges.
        ([(-200, {"generated": 7.0}), (120, {"generated": 1.0})], {}),
    ],
)
def test_a_minute_is_summed_by_the_time_for_which_each_sample_holds(samples, minutes):
    found = {point.at: tuple(point.figures["generated"]) for point in minutes_of(samples, 0, 120)}
    assert found == minutes


def test_figures_of_answers_count_where_answers_ended():
    samples = [(58, {"ttft": 100.0, "cpu": 1.0}), (59, {"ttft": 300.0, "cpu": 1.0}), (60, {"cpu": 1.0})]
    first, second = minutes_of(samples, 0, 120)
    assert first.figures["ttft"] == Mean(200.0, 300.0)
    assert second.figures == {"cpu": Mean(1.0, 1.0)}


def test_the_last_sample_holds_until_the_end_that_is_summed():
    (point,) = minutes_of([(60, {"cpu": 1.0})], 60, 120)
    assert point == Point(60, {"cpu": Mean(1.0, 1.0)})


def test_an_hour_is_the_mean_of_its_minutes_and_the_most_of_all():
    minutes = [Point(HOUR + MINUTE * n, {"cpu": Mean(n, 10.0 * n)}) for n in range(3)]
    assert longer([*minutes, Point(2 * HOUR, {"cpu": Mean(5.0, 6.0)})], HOUR) == [
        Point(HOUR, {"cpu": Mean(1.0, 20.0)}),
        Point(2 * HOUR, {"cpu": Mean(5.0, 6.0)}),
    ]


def test_numbers_are_as_long_as_somebody_reads():
    (point,) = minutes_of([(at, {"cpu": at / 7}) for at in range(60)], 0, 60)
    assert point.figures["cpu"].mean == 4.214
