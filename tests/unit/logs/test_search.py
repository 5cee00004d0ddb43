"""Searching: what is found, how far was looked, and that nothing hidden is revealed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.logs import search as module
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.history import History
from supervisor_app.logs.lines import LEVELS, level_of, plain_text
from supervisor_app.logs.search import BadFilterError, Budget, Filter, Matcher, search
from tests.unit.logs.writing import log_in, write

HIDER = Hider(("swordfish",))
BLOCK = (
    b"0.00.000.001 I srv  main: one\n"
    b"0.00.000.002 E srv  main: Out of memory\n"
    b"an echo without a level\n"
    b"\n"
    b"the key is swordfish\n"
    b"0.00.000.003 W srv  main: token = secret-abc\n"
    b"\x1b[31m0.00.000.004 E \x1b[0msrv  main: coloured\n"
    b"0.00.000.005 D srv  main: last"
)


def found(block=BLOCK, **wanted):
    if "levels" in wanted:
        wanted["levels"] = frozenset(wanted["levels"])
    matcher = Matcher(Filter(**wanted), HIDER)
    return [plain_text(line).rpartition(": ")[2] for _, line in matcher.lines_in(block)]


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ({"text": "one"}, ["one"]),
        ({"text": "out of"}, ["Out of memory"]),
        ({"text": "Out of"}, ["Out of memory"]),
        ({"text": "OUT OF"}, []),
        ({"text": "o.e"}, []),
        ({"text": "o.e$", "is_pattern": True}, ["one"]),
        ({"text": r"\S+ OUT", "is_pattern": True}, []),
        ({"text": r"\S+ out", "is_pattern": True}, ["Out of memory"]),
        ({"text": "^an .*level$", "is_pattern": True}, ["an echo without a level"]),
        ({"text": "E srv"}, ["Out of memory", "coloured"]),
        ({"levels": "E"}, ["Out of memory", "coloured"]),
        ({"levels": "ED"}, ["Out of memory", "coloured", "last"]),
        ({"levels": ""}, []),
        ({"levels": "-"}, ["an echo without a level", "the key is swordfish"]),
        ({"text": "memory", "levels": "W"}, []),
        ({"text": "main", "is_inverse": True}, ["an echo without a level", "the key is swordfish"]),
        (
            {"text": "m[ae]|^an", "is_pattern": True, "is_inverse": True, "levels": "-"},
            ["the key is swordfish"],
        ),
    ],
)
def test_lines_that_are_found(wanted, lines):
    assert found(**wanted) == lines


@pytest.mark.parametrize(
    "wanted",
    [
        {"text": "swordfish"},
        {"text": "swo"},
        {"text": "secret-abc"},
        {"text": "swordf[i]sh", "is_pattern": True},
        {"text": r"token = (\[|secret-a)", "is_pattern": True, "levels": "E"},
    ],
)
def test_a_secret_is_not_found(wanted):
    assert found(**wanted) == []


@pytest.mark.parametrize("guess", ["secret-a", "secret-b", "no"])
def test_no_pattern_tells_whether_a_guess_of_a_secret_is_right(guess):
    assert found(text=rf"token = (\[|{guess})", is_pattern=True) == []


@pytest.mark.parametrize("line", [b"token = abc", b"token = (abc"])
def test_an_end_of_a_word_is_looked_for_in_what_is_shown(line):
    assert list(Matcher(Filter(text=r"= \B", is_pattern=True), HIDER).lines_in(line)) == [(0, line)]


@pytest.mark.parametrize("guess", ["red", "d", "sword", "[redacted]"])
def test_no_text_tells_of_a_secret_either(guess):
    assert "the key is swordfish" not in found(text=guess)


@pytest.mark.parametrize("guess", ["sword", "shark"])
def test_lines_without_a_text_tell_nothing_either(guess):
    assert "the key is swordfish" in found(text=guess, is_inverse=True)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                [
                    "0.00.000.001 E ",
                    "W ",
                    "ab",
                    "b",
                    "é",
                    "\x1b[31m",
                    "token=x",
                    " ",
                    "swordfish",
                    "\r",
                    "\x00",
                    "fileE ",
                    "E ",
                    "F b",
                    "\t",
                    "\u3000",
                    '{"type":"log","level":"error","msg":"b","time":1}',
                ]
            ),
            max_size=5,
        ).map("".join),
        max_size=8,
    ),
    st.sampled_from(["ab", "b", "é", "a.?b", "^W", "b$", "[^a]b", r"\s"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([frozenset(LEVELS), frozenset("E"), frozenset("EW-")]),
)
def test_a_block_gives_what_a_look_at_each_shown_line_gives(lines, text, is_pattern, is_inverse, levels):
    wanted = Filter(text=text, is_pattern=is_pattern, is_inverse=is_inverse, levels=levels)
    block = "\n".join(lines).encode()
    plain = [(line.encode(), plain_text(line.encode())) for line in lines]

    def is_found(shown):
        pattern = text if is_pattern else re.escape(text)
        pieces = shown.split("[redacted]")
        return any(re.search(pattern, piece, re.IGNORECASE | re.MULTILINE) for piece in pieces)

    expected = [
        raw
        for raw, shown in plain
        if shown.strip() and level_of(shown) in levels and is_found(HIDER.hide(shown)) is not is_inverse
    ]
    assert [line for _, line in Matcher(wanted, HIDER).lines_in(block)] == expected


@pytest.mark.parametrize("text", ["(", "a{2000}{2000}", "(?=x)", "x" * 2000, "\\p{Foo}"])
def test_a_text_that_is_no_pattern_is_explained(text):
    with pytest.raises(BadFilterError, match=r"no pattern|too long"):
        Matcher(Filter(text=text, is_pattern=True), HIDER)


def test_half_a_character_is_explained():
    with pytest.raises(BadFilterError, match="half a character"):
        Matcher(Filter(text="\ud800"), HIDER)


def test_a_pattern_that_explodes_elsewhere_is_answered():
    assert found(b"a" * 100_000 + b"\n", text="(a+)+$x", is_pattern=True) == []


@pytest.fixture
def history(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 50)
    log = log_in(tmp_path, max_bytes=100, keep=9)
    for number in range(40):
        write(log, f"line {number}{' odd' if number % 2 else ''}\n")
        log.rotate_if_large()
    with History.open(log) as history:
        yield history


def look(history, before=None, clock=lambda: 0.0, **budget):
    matcher = Matcher(Filter(text="odd"), HIDER)
    result = search(history, matcher, before, Budget(**budget), clock)
    return [int(raw.data.split()[1]) for raw in result.lines], result


def test_the_newest_lines_are_found_in_order_over_all_files(history):
    numbers, result = look(history)
    assert numbers == list(range(1, 40, 2))
    assert result.reached is None
    assert result.searched_bytes == history.size


def test_a_search_goes_on_where_the_last_one_ended(history):
    seen, before = [], None
    while True:
        numbers, result = look(history, before, lines=3)
        assert len(numbers) <= 3
        seen = numbers + seen
        before = result.reached
        if before is None:
            break
    assert seen == list(range(1, 40, 2))


def test_a_search_that_takes_too_long_says_how_far_it_came(history):
    ticks = iter(range(100))
    numbers, result = look(history, clock=lambda: next(ticks), seconds=2)
    assert result.reached is not None
    assert 0 < result.searched_bytes < history.size
    rest, _ = look(history, result.reached)
    assert rest + numbers == list(range(1, 40, 2))
