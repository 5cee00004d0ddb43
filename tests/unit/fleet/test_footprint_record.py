"""The best source of a need, and what runs and deaths add to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.devices import HOST
from supervisor_app.core.placement.world import Source
from supervisor_app.fleet.footprint_record import Record, best, others_of

GIB = 2**30
GPU = "GPU-1"
NOW = 1_790_000_000.0

ESTIMATED = Record(identity="one", build="b11669", estimated={GPU: 10 * GIB, HOST: GIB})
TOLD = replace(ESTIMATED, told={GPU: 10 * GIB, HOST: 2 * GIB})
MEASURED = TOLD.after_run({GPU: 11 * GIB, HOST: GIB // 2}, "run 1", NOW)


@pytest.mark.parametrize(
    ("record", "source", "sentence"),
    [
        (Record(identity="one", build=""), Source.UNKNOWN, "an unknown amount of memory"),
        (ESTIMATED, Source.ESTIMATED, "about 11 GiB (estimated)"),
        (TOLD, Source.TOLD, "12.0 GiB (told by the engine, build b11669)"),
        (MEASURED, Source.MEASURED, "11.5 GiB (measured in 1 run, build b11669)"),
    ],
)
def test_the_best_source_is_used_and_named(record, source, sentence):
    known = best(record)
    assert (known.source, known.sentence) == (source, sentence)


def test_a_run_counts_once_and_the_most_of_all_runs_counts():
    record = MEASURED.after_run({GPU: 12 * GIB}, "run 1", NOW).after_run({GPU: 9 * GIB}, "run 2", NOW)
    assert (record.runs, record.measured) == (2, {GPU: 12 * GIB, HOST: GIB // 2})


def test_runs_of_another_build_rank_between_an_estimate_and_what_this_build_tells():
    newer = replace(ESTIMATED, build="b11700")
    others = others_of(newer, [MEASURED, newer])
    assert best(newer, others).sentence == "11.5 GiB (measured in 1 run, build b11669)"
    assert best(replace(newer, told={GPU: GIB}), others).source is Source.TOLD


def test_of_other_builds_the_one_that_was_measured_last_counts():
    older = replace(MEASURED, build="b11000", measured_at=NOW - 1)
    unmeasured = replace(TOLD, build="b12000")
    newer = replace(ESTIMATED, build="b11700")
    assert [record.build for record in others_of(newer, [older, unmeasured, MEASURED])] == [
        "b11669",
        "b11000",
    ]


def test_a_measurement_that_could_not_see_a_gpu_is_none():
    """As in a container, where the driver knows other pids."""
    blind = TOLD.after_run({HOST: GIB}, "run 1", NOW)
    assert best(blind).source is Source.TOLD


def test_a_death_for_want_of_memory_raises_what_it_lacked_and_says_so():
    known = best(ESTIMATED.after_want({GPU: 0}, ESTIMATED.estimated, NOW))
    assert known.devices == {GPU: 12 * GIB, HOST: GIB}
    assert known.sentence == (
        "about 13 GiB (estimated), raised by 18 % because it ran out of memory on 2026-09-21"
    )


def test_more_than_was_known_may_have_been_seen_at_the_death():
    raised = ESTIMATED.after_want({GPU: 12 * GIB}, ESTIMATED.estimated, NOW).raised
    assert raised[GPU] == pytest.approx(14.4 * GIB)


def test_a_death_that_names_no_device_raises_all():
    raised = ESTIMATED.after_want({}, ESTIMATED.estimated, NOW).raised
    assert raised == {GPU: 12 * GIB, HOST: pytest.approx(1.2 * GIB)}


def test_deaths_add_up_to_twice_what_was_known_and_no_further():
    record = ESTIMATED
    for _ in range(9):
        record = record.after_want({GPU: 0}, best(record).devices, NOW)
    assert best(record).devices[GPU] == 20 * GIB


def test_of_what_nobody_knows_nothing_is_raised():
    assert best(Record(identity="one", build="").after_want({}, {}, NOW)).source is Source.UNKNOWN


def test_a_run_that_lives_shows_that_less_was_enough():
    died = MEASURED.after_want({GPU: 0}, MEASURED.measured, NOW)
    assert best(died).raised
    assert best(died.after_run({GPU: 10 * GIB}, "run 2", NOW)).devices[GPU] == 11 * GIB
