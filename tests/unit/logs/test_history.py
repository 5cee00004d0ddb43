"""A log over its files: read in both directions, with places that stay over a rotation."""

from __future__ import annotations

import pytest

from supervisor_app.logs import history as module
from supervisor_app.logs.history import History, Place
from tests.unit.logs.writing import log_in, write


@pytest.fixture
def log(tmp_path):
    return log_in(tmp_path, max_bytes=100, keep=4)


def filled(log, count=30):
    """A log of several files with numbered lines."""
    for number in range(count):
        write(log, f"line {number}\n")
        log.rotate_if_large()
    return log


def texts(lines):
    return [raw.data.decode() for raw in lines]


def numbered(*numbers):
    return [f"line {number}" for number in numbers]


def test_without_any_file_there_is_no_history(log):
    with pytest.raises(FileNotFoundError, match=r"default\.log"):
        History.open(log)


def test_all_files_are_one_text_oldest_first(log):
    with History.open(filled(log)) as history:
        assert len(history.segments) == 3
        assert texts(history.lines_on(history.place_at(0))) == numbered(*range(30))


def test_backwards_it_is_the_same_text(log):
    with History.open(filled(log)) as history:
        assert texts(history.lines_back()) == numbered(*reversed(range(30)))


def test_a_page_goes_on_where_the_last_one_ended(log):
    with History.open(filled(log)) as history:
        newest = list(history.lines_back())[:5]
        assert texts(history.lines_back(newest[-1].place))[:2] == numbered(24, 23)
        assert texts(history.lines_on(newest[-1].place)) == numbered(25, 26, 27, 28, 29)


@pytest.mark.parametrize("size", [16, 40, 1000])
def test_small_blocks_give_the_same_lines(log, size, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", size)
    with History.open(filled(log)) as history:
        assert texts(history.lines_on(history.place_at(0))) == numbered(*range(30))
        assert texts(history.lines_back()) == numbered(*reversed(range(30)))


def test_a_line_longer_than_a_block_comes_in_pieces(log, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    write(log, "x" * 25 + "\nend\n")
    with History.open(log) as history:
        assert "".join(texts(history.lines_on(history.place_at(0)))) == "x" * 25 + "end"
        assert "".join(reversed(texts(history.lines_back()))) == "x" * 25 + "end"


def test_a_line_that_is_being_written_is_read_again_from_its_beginning(log):
    write(log, "one\ntw")
    with History.open(log) as history:
        last = list(history.lines_on(history.place_at(0)))[-1]
    assert (last.data, last.end) == (b"tw", last.place)
    write(log, "o\n")
    with History.open(log) as history:
        assert texts(history.lines_on(last.end)) == ["two"]


def test_a_place_in_the_newest_file_is_found_after_that_was_copied_away(log):
    write(log, "line 0\nline 1\n")
    with History.open(log) as history:
        place = next(history.lines_back()).place
    filled(log, 0)
    for number in range(2, 30):
        write(log, f"line {number}\n")
        log.rotate_if_large()
    with History.open(log) as history:
        assert texts(history.lines_on(place)) == numbered(*range(1, 30))


def test_a_place_that_is_not_kept_any_more_is_the_beginning(log):
    with History.open(filled(log)) as history:
        place = history.place_at(5)
    filled(log, 90)
    with History.open(log) as history:
        assert history.find(place) == (0, 0)


def test_an_older_file_is_known_under_its_next_name(log):
    with History.open(filled(log, 14)) as history:
        place = list(history.lines_on(history.place_at(0)))[3].place
    filled(log, 14)
    with History.open(log) as history:
        assert texts(history.lines_on(place))[0] == "line 3"


def test_positions_and_places_say_the_same(log):
    with History.open(filled(log)) as history:
        places = [raw.place for raw in history.lines_on(history.place_at(0))]
        assert [history.place_at(history.position(place)) for place in places] == places
        assert history.position(history.end) == history.size


def test_where_only_older_files_are_left_they_are_read(log):
    filled(log, 14)
    log.path.unlink()
    with History.open(log) as history:
        assert texts(history.lines_back())[0].startswith("line ")


def test_a_file_that_was_moved_away_is_read_where_it_is(log, tmp_path):
    filled(log, 14)
    log.path.rename(tmp_path / "elsewhere")
    with History.open(log, tmp_path / "elsewhere") as history:
        assert texts(history.lines_back())[0] == "line 13"


def test_a_place_is_told_as_text(log):
    assert Place.parse(str(Place("n1f", 12))) == Place("n1f", 12)


@pytest.mark.parametrize("text", ["", "n", "n.", ".5", "n.x", "n.-1", "a b.5", "n." + "9" * 30, "n.٣"])
def test_a_text_that_is_no_place_is_refused(text):
    with pytest.raises(ValueError, match="no place"):
        Place.parse(text)
