"""Crashes of one cause as one: what belongs together, how often, and whether it has come back."""

from __future__ import annotations

import pytest

from supervisor_app.fleet.crash_groups import DAY_SECONDS, DAYS, Crash, by_day, grouped, seen_again
from supervisor_app.fleet.models import CrashMark
from tests.integration.building import at

NOW = 1_750_000_000.0


def crash(number, ago=0.0, line="GGML_ASSERT(a) failed at 12", **fields):
    told = {"kind": "killed_by_signal", "title": "Killed", "model": "m.gguf", "build": "b11669"}
    return Crash(number=number, line=line, ended_at=NOW - ago, **{**told, **fields})


def groups(*crashes, marks=None):
    return grouped(crashes, marks or {}, NOW)


def mark(like, **fields):
    return {like.key: CrashMark(key=like.key, **fields)}


def test_crashes_that_differ_in_numbers_are_one_group():
    (group,) = groups(crash(3, 10), crash(2, 20, "GGML_ASSERT(a) failed at 99"), crash(1, 30))
    assert [each.number for each in group.crashes] == [3, 2, 1]
    assert (group.newest.number, group.first_at, group.today) == (3, NOW - 30, 3)


@pytest.mark.parametrize(
    "other", [{"kind": "exited"}, {"line": "another"}, {"model": "n.gguf"}, {"build": "b11700"}]
)
def test_kind_line_model_and_build_tell_groups_apart(other):
    assert [group.newest.number for group in groups(crash(2), crash(1, **other))] == [2, 1]


def test_today_counts_the_cause_with_any_build():
    newer, older = groups(crash(3), crash(2, build="b1"), crash(1, DAY_SECONDS, build="b1"))
    assert (newer.today, older.today) == (2, 2)


def test_days_are_counted_back_from_now_and_a_clock_that_was_set_back_is_today():
    days = by_day([crash(4, -99), crash(3), crash(2, DAY_SECONDS), crash(1, DAYS * DAY_SECONDS)], NOW)
    assert days == (*[0] * (DAYS - 2), 1, 2)


@pytest.mark.parametrize(
    ("ago", "build", "again"),
    [
        (5.0, "b11700", True),
        (5.0, "b11701", True),
        (5.0, "", True),
        (5.0, "b11669", False),
        (15.0, "b11700", False),
    ],
)
def test_a_cause_is_back_when_its_build_or_a_newer_one_crashes_after_it_was_resolved(ago, build, again):
    died = crash(1, ago, build=build)
    assert seen_again([died], "b11700", NOW - 10) == (died.ended_at if again else None)
    (group,) = groups(died, marks=mark(died, resolved_build="b11700", resolved_at=at(NOW - 10)))
    assert (group.is_resolved, group.again_since) == (not again, died.ended_at if again else None)


def test_a_cause_is_back_since_its_first_crash_after_that():
    back = [crash(2, 1.0), crash(1, 5.0)]
    assert seen_again(back, "b11669", NOW - 10) == NOW - 5


def test_a_resolved_group_comes_last():
    old, new = crash(1, 20, "other"), crash(2, 15)
    found = groups(new, old, marks=mark(new, resolved_build="b11700", resolved_at=at(NOW - 10)))
    assert [group.newest.number for group in found] == [1, 2]


def test_a_mark_that_only_mutes_resolves_nothing():
    (group,) = groups(crash(1), marks=mark(crash(1), mute_above=3))
    assert (group.is_resolved, group.again_since, group.resolved_in) == (False, None, "")
