"""The words for numbers: a table for each function of `supervisor_app.common.words`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor_app.common import moments, words

GIB = 2**30


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 m 00 s"),
        (307, "5 m 07 s"),
        (3599, "59 m 59 s"),
        (3600, "1 h 00 m"),
        (7500, "2 h 05 m"),
        (86399, "23 h 59 m"),
        (86400, "1 d 0 h"),
        (273600, "3 d 4 h"),
        (86400 * 400, "400 d 0 h"),
    ],
)
def test_duration(seconds, said):
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.05, "0.05 s"),
        (0.5, "0.5 s"),
        (0.1 + 0.2, "0.3 s"),
        (1.0, "1 s"),
        (59, "59 s"),
        (59.9999, "1 m"),
        (60, "1 m"),
        (60.9, "1 m"),
        (130, "2 m 10 s"),
        (307, "5 m 07 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (7500, "2 h 05 m"),
        (86400, "1 d"),
        (187200, "2 d 4 h"),
        (float("inf"), "inf s"),
    ],
)
def test_span(seconds, said):
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (2.04, "2.0 s"), (9.94, "9.9 s"), (9.96, "9 s"), (75, "1 m 15 s"), (-1, "0 s")],
)
def test_tenths(seconds, said):
    assert words.tenths(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 ms"), (0.4, "0 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (61_000, "1 m 01 s")],
)
def test_milliseconds(count, said):
    assert words.milliseconds(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-60, "just now"),
        (4.9, "just now"),
        (5, "5 s ago"),
        (59.9, "59 s ago"),
        (60, "1 m ago"),
        (3599, "59 m ago"),
        (3600, "1 h ago"),
        (86400, "1 d ago"),
        (86400 * 400, "400 d ago"),
    ],
)
def test_ago(seconds, said):
    assert words.ago(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "about 1 s left"), (72.0, "about 1 m 12 s left")])
def test_left(seconds, said):
    assert words.left(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99.94 * 1024, "99.9 KiB"),
        (100 * 1024, "100 KiB"),
        (640 * 2**20, "640 MiB"),
        (GIB - 1, "1.0 GiB"),  # not "1024 MiB"
        (5.1 * GIB, "5.1 GiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_size(count, said):
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("more", "less", "guess", "said"),
    [
        (2 * GIB, GIB, False, ("2.0 GiB", "1.0 GiB")),
        (22.4 * GIB, 9 * GIB, True, ("22 GiB", "9.0 GiB")),
        (9.14 * GIB, 9.115 * GIB, False, ("9.14 GiB", "9.11 GiB")),
        (9.1101 * GIB, 9.1199 * GIB, False, ("9.1 GiB", "9.1 GiB")),
        (GIB + 1, GIB, False, ("1.01 GiB", "1.00 GiB")),
        (114 * 2**20, 111 * 2**20, True, ("114.0 MiB", "111.0 MiB")),
        (1, 0, False, ("1 B", "0 B")),
    ],
)
def test_told_apart(more, less, guess, said):
    assert words.told_apart(more, less, guess=guess) == said


@pytest.mark.parametrize(
    ("count", "total", "said"),
    [(100 * 2**20, 2.9 * GIB, "0.1 of 2.9 GiB"), (0, 0, "0 of 0 B"), (GIB, GIB, "1.0 of 1.0 GiB")],
)
def test_part_of(count, total, said):
    assert words.part_of(count, total) == said


@pytest.mark.parametrize(
    ("count", "nouns", "said"),
    [
        (0, ["check"], "0 checks"),
        (1, ["check"], "1 check"),
        (2, ["check"], "2 checks"),
        (1, ["retry", "retries"], "1 retry"),
        (2, ["retry", "retries"], "2 retries"),
    ],
)
def test_counted(count, nouns, said):
    assert words.counted(count, *nouns) == said
    assert said.endswith(f" {words.noun(count, *nouns)}")


@pytest.mark.parametrize(
    ("code", "signal", "said", "said_by_node"),
    [
        (None, None, "unknown", "code null signal null"),
        (0, None, "exit code 0", "code 0 signal null"),
        (1, None, "exit code 1", "code 1 signal null"),
        (None, 9, "signal 9 (SIGKILL)", "code null signal 9"),
        (None, 250, "signal 250 (unknown)", "code null signal 250"),
    ],
)
def test_ending(code, signal, said, said_by_node):
    assert words.ending(code, signal) == said
    assert words.ending_of_node(code, signal) == said_by_node


def test_times():
    at = 1763820000.5
    assert words.iso(at) == "2025-11-22T14:00:00.500Z"
    assert words.iso(at, "seconds") == "2025-11-22T14:00:00Z"
    assert words.iso(None) is None
    assert words.clock(at) == "22 Nov, 14:00 UTC"
    assert words.instant(1_750_000_000.0) == "15 Jun 2025, 15:06:40 UTC"


def test_moments():
    noon = datetime(2025, 11, 22, 12, tzinfo=UTC)
    assert moments.moment(noon.timestamp()) == noon
    assert moments.seconds(noon) == noon.timestamp()
    assert (moments.moment(None), moments.seconds(None)) == (None, None)
