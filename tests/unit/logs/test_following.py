"""Following a log: what is new, bounded, and the mark of a start that nobody knows yet."""

from __future__ import annotations

import pytest

from supervisor_app.logs import following
from supervisor_app.logs.following import Follower
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.history import History
from supervisor_app.logs.search import Filter, Matcher
from tests.unit.logs.writing import BEGAN, life, log_in, mark, write

HIDER = Hider()
FIRST = life(1, BEGAN + 0.2)


@pytest.fixture
def log(tmp_path):
    log = log_in(tmp_path)
    write(log, mark() + "old\n")
    return log


def news(follower, log, known=(FIRST,), now=0.0):
    with History.open(log) as history:
        return follower.news(history, known, HIDER, now)


def at_end(log, matcher=None):
    with History.open(log) as history:
        return Follower(history.end, matcher)


def texts(told):
    return [item.get("s", "mark") for item in told["items"]]


def test_nothing_is_new_at_first(log):
    assert news(Follower(), log) is None


def test_new_lines_are_told_once(log):
    follower = at_end(log)
    write(log, "new\n")
    told = news(follower, log)
    assert texts(told) == ["new"]
    assert told["skippedBytes"] == 0
    assert news(follower, log) is None


def test_a_line_that_is_being_written_is_told_again_when_it_has_more(log):
    follower = at_end(log)
    write(log, "load")
    first = news(follower, log)
    assert news(follower, log) is None
    write(log, "ed\n")
    second = news(follower, log)
    assert texts(first) + texts(second) == ["load", "loaded"]
    assert first["items"][0]["c"] == second["items"][0]["c"]


def test_of_a_flood_the_end_is_told_and_how_much_was_left_out(log, monkeypatch):
    monkeypatch.setattr(following, "PUSH_BYTES", 40)
    follower = at_end(log)
    write(log, "".join(f"line {number}\n" for number in range(100)))
    told = news(follower, log)
    assert texts(told)[-1] == "line 99"
    assert told["skipped"] == 100 - len(told["items"])
    assert told["skippedBytes"] > 700


def test_of_a_greater_flood_the_lines_are_not_counted(log, monkeypatch):
    monkeypatch.setattr(following, "PUSH_BYTES", 40)
    monkeypatch.setattr(following, "COUNTED_BYTES", 100)
    follower = at_end(log)
    write(log, "".join(f"line {number}\n" for number in range(100)))
    assert news(follower, log)["skipped"] is None


def test_a_filter_picks_lines_and_passes_over_the_others(log):
    follower = at_end(log, Matcher(Filter(text="odd"), HIDER))
    write(log, "even\nodd\n")
    assert texts(news(follower, log)) == ["odd"]
    write(log, "even\n")
    assert news(follower, log) is None


def test_a_start_waits_until_the_history_has_its_run(log):
    follower = at_end(log)
    second = life(2, BEGAN + 100.2)
    write(log, "last\n" + mark(BEGAN + 100) + "first\n")
    assert texts(news(follower, log)) == ["last"]
    assert follower.waits_for_run
    assert news(follower, log, now=1.0) is None
    assert texts(news(follower, log, [FIRST, second], now=2.0)) == ["mark", "first"]
    assert not follower.waits_for_run


def test_a_start_that_never_became_a_run_is_a_line(log):
    follower = at_end(log)
    write(log, mark(BEGAN + 100) + "next\n")
    assert news(follower, log, now=0.0) is None
    assert len(texts(news(follower, log, now=4.0))) == 2


def test_a_follower_goes_on_over_a_rotation(log):
    small = log_in(log.path.parent, max_bytes=100, keep=5)
    follower = at_end(small)
    for number in range(20):
        write(small, f"line {number}\n")
        small.rotate_if_large()
    assert texts(news(follower, small)) == [f"line {number}" for number in range(20)]


def test_how_the_last_life_ended_is_told(log):
    follower = at_end(log)
    write(log, "bye\n")
    assert news(follower, log, [life(1, BEGAN + 0.2, BEGAN + 5)])["tail"]["title"] == "Out of memory"


def test_a_log_that_appears_is_told_from_its_beginning(log):
    follower = Follower()
    follower.finds_no_log()
    assert texts(news(follower, log)) == ["mark", "old"]
