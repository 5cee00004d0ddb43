"""Where the lives of a server are in its log, and when a line was written."""

from __future__ import annotations

import pytest

from supervisor_app.logs import lives as module
from supervisor_app.logs.history import History
from supervisor_app.logs.lives import Lives, time_of
from tests.unit.logs.writing import BEGAN, life, log_in, mark, stamped, write

FIRST = life(1, BEGAN + 0.2, BEGAN + 60, title="Out of memory")
SECOND = life(2, BEGAN + 100.3)


@pytest.fixture
def log(tmp_path):
    return log_in(tmp_path, keep=3)


def lived(log, *parts, known=(FIRST, SECOND)):
    write(log, "".join(parts))
    history = History.open(log)
    return history, Lives(history, known)


def place_of(history, text):
    return next(raw.place for raw in history.lines_on(history.place_at(0)) if text in raw.data.decode())


def test_a_line_belongs_to_the_life_whose_mark_is_before_it(log):
    history, lives = lived(log, mark(BEGAN), "one\n", mark(BEGAN + 100), "two\n")
    assert lives.of(place_of(history, "one")) == FIRST
    assert lives.of(place_of(history, "two")) == SECOND
    assert [begin.life.number for begin in lives.begins] == [1, 2]
    assert lives.beginning_at(place_of(history, "starting")) == 0
    assert lives.before(1) == FIRST
    assert lives.last == SECOND


def test_a_mark_that_a_client_had_written_counts_for_nothing(log):
    forged = [mark(BEGAN + 100, "llama-server -m b.gguf"), mark(BEGAN + 50), mark(BEGAN)]
    history, lives = lived(log, mark(BEGAN), "one\n", *forged, "x\n", mark(BEGAN + 100), "two\n")
    assert lives.of(place_of(history, "x")) == FIRST
    assert lives.of(place_of(history, "two")) == SECOND


def test_a_start_that_came_to_nothing_is_no_life(log):
    history, lives = lived(log, mark(BEGAN + 99), mark(BEGAN + 100), "two\n", known=[SECOND])
    assert lives.begins[0].place == history.place_at(len(mark()))


def test_the_rest_of_a_life_whose_beginning_is_not_kept_is_still_its_own(log):
    history, lives = lived(log, "one\n", mark(BEGAN + 100), "two\n")
    assert lives.of(place_of(history, "one")) == FIRST
    assert lives.before(0) == FIRST
    assert lives.end_of(1) == place_of(history, "starting")


def test_without_a_mark_the_newest_life_wrote_it(log):
    history, lives = lived(log, "two\n")
    assert lives.of(place_of(history, "two")) == SECOND
    assert lives.last == SECOND


def test_a_log_of_nobody(log):
    history, lives = lived(log, "one\n", known=[])
    assert lives.of(place_of(history, "one")) is None
    assert lives.at(BEGAN) == history.place_at(0)


def test_a_life_that_was_adopted_has_no_mark(log):
    _, lives = lived(log, mark(BEGAN), "one\n", known=[life(1, BEGAN + 0.2, argv=())])
    assert lives.begins == []


def test_where_a_life_ends(log):
    history, lives = lived(log, mark(BEGAN), "one\n", mark(BEGAN + 100), "two\n")
    assert lives.end_of(1) == lives.begins[1].place
    assert lives.end_of(2) == history.end
    assert lives.end_of(9) is None


def test_the_time_of_a_line():
    assert time_of(1_500_000, FIRST) == pytest.approx(BEGAN + 1.7)
    assert time_of(None, FIRST) is None
    assert time_of(5, None) is None


@pytest.mark.parametrize(
    ("after", "text"), [(5.2, "second 5"), (4.7, "second 5"), (0.0, "second 0"), (39.2, "second 39")]
)
@pytest.mark.parametrize("block", [64, 1024 * 1024])
def test_a_moment_is_found(log, after, text, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block * 16)
    lines = [stamped(second, f"srv  main: second {second}") for second in range(40)]
    history, lives = lived(log, mark(BEGAN), *lines, mark(BEGAN + 100), stamped(1, "srv  main: later"))
    assert lives.at(BEGAN + after) in (place_of(history, text), place_of(history, "starting"))
    assert lives.at(BEGAN + 101.3) == place_of(history, "later")


def test_a_moment_after_all_is_the_end(log):
    history, lives = lived(log, mark(BEGAN + 100), stamped(1, "srv  main: x"))
    assert lives.at(BEGAN + 5000) == history.end


def test_a_moment_in_a_life_without_a_beginning(log):
    history, lives = lived(log, stamped(3, "srv  main: x"), stamped(5, "srv  main: y"), mark(BEGAN + 100))
    assert lives.at(BEGAN + 5) == place_of(history, "y")


def test_marks_are_found_over_all_files_and_once(log):
    small = log_in(log.path.parent, max_bytes=60, keep=5)
    for part in (mark(BEGAN), "one\n", mark(BEGAN + 100), "two\n"):
        write(small, part)
        small.rotate_if_large()
    for _ in range(2):
        with History.open(small) as history:
            assert [begin.life.number for begin in Lives(history, [FIRST, SECOND]).begins] == [1, 2]


def test_a_mark_that_comes_later_is_seen(log):
    lived(log, mark(BEGAN), "half a li")
    _, lives = lived(log, "ne\n", mark(BEGAN + 100))
    assert [begin.life.number for begin in lives.begins] == [1, 2]


def test_a_log_that_was_cut_is_read_anew(log):
    lived(log, mark(BEGAN), "one\n", mark(BEGAN + 100))
    log.path.write_text("")
    _, lives = lived(log, mark(BEGAN + 100))
    assert [begin.place.offset for begin in lives.begins] == [0]
