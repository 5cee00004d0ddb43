"""A line as people see it."""

from __future__ import annotations

import pytest

from supervisor_app.core.machine.logs import MAX_LINE
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.history import Place, RawLine
from supervisor_app.logs.lines import Span, coloured, line_of

PLACE = Place("n", 0)


def line(data: bytes, *secrets: str):
    return line_of(RawLine(PLACE, data, PLACE), Hider(secrets))


@pytest.mark.parametrize(
    ("data", "level", "stamp"),
    [
        (b"0.00.005.881 W srv  main: no key", "W", 5881),
        (b"1.02.000.001 E srv  main: failed", "E", 62_000_001),
        (b"E llama_model_load: error", "E", None),
        (b"F oops: gone", "E", None),
        (b'{"type":"log","time":5,"level":"warn","msg":"srv  main: x"}', "W", 5),
        (b"GGML_ASSERT(x) failed", "-", None),
        (b"\x1b[33m0.00.005.881 W srv  main: no key\x1b[0m", "W", 5881),
    ],
)
def test_level_and_time_are_the_engines_own(data, level, stamp):
    assert (line(data).level, line(data).stamp) == (level, stamp)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("plain", [Span("plain")]),
        ("\x1b[31mred\x1b[0m rest", [Span("red", "c1"), Span(" rest")]),
        ("\x1b[1;92mgo", [Span("go", "b c10")]),
        ("\x1b[2mdim\x1b[22mno", [Span("dim", "d"), Span("no")]),
        ("\x1b[38;5;3mthird\x1b[39m-", [Span("third", "c3"), Span("-")]),
        ("\x1b[38;5;200mmany", [Span("many")]),
        ("\x1b[38;2;1;2;3mtrue\x1b[31mred", [Span("true"), Span("red", "c1")]),
        ("\x1b[44mback", [Span("back")]),
        ("\x1b[mreset", [Span("reset")]),
        ("a\x1b[2Kb\x1b]0;title\x07c\x1bMd", [Span("a"), Span("b"), Span("c"), Span("d")]),
        ("\x1b[31m", []),
        ("half\x1b", [Span("half")]),
    ],
)
def test_colours_become_classes_and_other_sequences_go(text, spans):
    assert list(coloured(text)) == spans


def test_a_secret_that_colours_cut_in_two_is_hidden():
    shown = line(b"key \x1b[31msword\x1b[0mfish", "swordfish")
    assert [span.text for span in shown.spans] == ["key [redacted]"]


def test_colours_stay_beside_what_holds_no_secret():
    assert line(b"\x1b[31mred\x1b[0m").spans == (Span("red", "c1"),)


def test_characters_that_would_rewrite_a_terminal_are_spelled_out():
    assert line("a\u202eb\x07".encode()).text == "a\\u202eb\\x07"


def test_a_line_of_a_megabyte_is_cut():
    assert line(b"x" * 1_000_000).text == "x" * MAX_LINE + "…"


def test_a_progress_that_overwrites_itself_is_one_row():
    assert line(b"10 %\r20 %").text == "10 % 20 %"


def test_invalid_utf8_and_nuls_are_readable():
    assert line(b"\xff a\0b").text == "� ab"
