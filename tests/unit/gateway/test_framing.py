"""Where a body ends: the same for any pieces in which it comes, and never where another reader sees it end later."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.http.framing import (
    MAX_LINE,
    MAX_TRAILERS,
    BodyUntilClose,
    ChunkedBody,
    FramingError,
    SizedBody,
)
from tests.unit.gateway.second_reader import check_chunked

TOKEN = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
QUOTED = st.text("abc019 ;=,", max_size=8).map(lambda text: f'"{text}"')
EXTENSION = st.builds(
    lambda name, value: f";{name}{value}", TOKEN, st.just("") | (TOKEN | QUOTED).map("={}".format)
)
TRAILER = st.builds(lambda name, value: f"x-{name}: {value}\r\n", TOKEN, st.text("abc 019:;", max_size=12))


@st.composite
def chunks(draw, content):
    """One chunk, its size in any of the ways in which it may be written."""
    size = f"{len(content):x}".rjust(draw(st.integers(1, 16)), "0")
    size = size.upper() if draw(st.booleans()) else size
    extensions = "".join(draw(st.lists(EXTENSION, max_size=2)))
    return f"{size}{extensions}\r\n".encode() + content + (b"\r\n" if content else b"")


@st.composite
def chunked_messages(draw):
    """Content, and how it is sent."""
    contents = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    sent = [draw(chunks(content)) for content in contents]
    trailers = "".join(draw(st.lists(TRAILER, max_size=2)))
    return b"".join(contents), b"".join((*sent, draw(chunks(b"")), trailers.encode(), b"\r\n"))


def cut(data, places):
    """`data` in pieces, cut at these places, if there are such."""
    edges = [0, *sorted(place for place in places if place <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def take(body, pieces):
    """The content of all pieces, and what follows the body's end."""
    content = rest = b""
    for piece in pieces:
        if body.done:
            rest += piece
        else:
            more, rest = body.feed(piece)
            content += more
    return content, rest


PLACES = st.lists(st.integers(0, 400), max_size=12)


# --- By its length -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=20), PLACES)
def test_a_sized_body_is_so_many_bytes_in_whatever_pieces(content, after, places):
    body = SizedBody(len(content))
    assert take(body, cut(content + after, places)) == (content, after)
    assert body.done
    assert body.eof()


def test_an_empty_body_is_done_before_anything_came():
    body = SizedBody(0)
    assert body.done
    assert body.feed(b"GET ") == (b"", b"GET ")


def test_a_sized_body_that_ends_with_the_connection_is_not_whole():
    body = SizedBody(3)
    assert body.feed(b"ab") == (b"ab", b"")
    assert not body.done
    assert not body.eof()


# --- With the connection -------------------------------------------------------------------------------


def test_a_body_until_the_close_is_all_that_comes():
    body = BodyUntilClose()
    assert take(body, [b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"]) == (
        b"HTTP/1.1 200 OK\r\n\r\n0\r\n\r\n",
        b"",
    )
    assert not body.done
    assert body.eof()


# --- Chunked -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(chunked_messages(), st.binary(max_size=20), PLACES)
def test_a_chunked_body_is_the_same_in_whatever_pieces(message, after, places):
    content, sent = message
    body = ChunkedBody()
    assert take(body, cut(sent + after, places)) == (content, after)
    assert body.done


@settings(deadline=None)
@given(chunked_messages())
def test_a_chunked_body_is_not_done_before_its_last_byte(message):
    content, sent = message
    body = ChunkedBody()
    assert take(body, (bytes([byte]) for byte in sent[:-1])) == (content, b"")
    assert not body.done
    assert not body.eof()
    assert body.feed(sent[-1:]) == (b"", b"")
    assert body.eof()


FRAGMENTS = st.sampled_from(
    [
        b"0",
        b"1",
        b"a",
        b"A",
        b"5",
        b"\r\n",
        b"\r",
        b"\n",
        b";",
        b"=",
        b'"',
        b" ",
        b"\t",
        b"\x00",
        b"-",
        b"+",
        b"0x",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"x: y",
        b":",
        b"\xff",
        b"1\r\n\n\r\n",
        b"_",
        b"\\",
        b"\x7f",
    ]
)


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=16).map(b"".join))
@example(b"5 \r\nhello\r\n0\r\n\r\n")
@example(b"5;a b\r\nhello\r\n0\r\n\r\n")
@example(b'1;a="\\""\r\na\r\n0\r\n\r\n')
@example(b'1;a="\xff"\r\na\r\n0\r\n\r\n')
@example(b"0\r\nx y: z\r\n\r\n")
@example(b"0\r\n: y\r\n\r\n")
@example(b"0\r\nx: \x7f\r\n\r\n")
@example(b"0\r\nx: \xff\r\n\r\n")
@example(b"0\r\nConnection: upgrade\r\n\r\n")
def test_an_accepted_body_is_read_alike_by_another_parser(data):
    check_chunked(data)


@pytest.mark.parametrize(
    "sent",
    {
        "bare line feed after the size": b"5\nhello\r\n0\r\n\r\n",
        "bare line feed after the data": b"5\r\nhello\n0\r\n\r\n",
        "bare carriage return": b"5\rhello\r\n0\r\n\r\n",
        "plus sign": b"+5\r\nhello\r\n",
        "minus sign": b"-5\r\nhello\r\n",
        "hexadecimal mark": b"0x5\r\nhello\r\n",
        "underscore": b"1_0\r\n",
        "space before": b" 5\r\nhello\r\n",
        "space after": b"5 \r\nhello\r\n",
        "tab after": b"5\t\r\nhello\r\n",
        "space before an extension": b"5 ;a\r\nhello\r\n",
        "space in an extension": b"5;a b\r\nhello\r\n",
        "extension without a name": b"5;\r\nhello\r\n",
        "extension with a line feed": b"5;a\n=b\r\nhello\r\n",
        "extension with a NUL": b"5;a\0\r\nhello\r\n",
        "quoted value with a line feed": b'5;a="\n"\r\nhello\r\n',
        "quote that is not closed": b'5;a="b\r\nhello\r\n',
        "17 digits": b"0" * 16 + b"5\r\nhello\r\n",
        "no size": b"\r\nhello\r\n",
        "no digit": b"g\r\nhello\r\n",
        "digit of another alphabet": "٥\r\nhello\r\n".encode(),
        "two sizes": b"5,5\r\nhello\r\n",
        "data longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
        "data shorter than its size": b"5\r\nhell\r\n0\r\n\r\n",
        "data that goes on after a carriage return": b"5\r\nhello\rx\n0\r\n\r\n",
        "trailer with a bare line feed": b"0\r\nx: y\nz: y\r\n\r\n",
        "trailer with a bare carriage return": b"0\r\nx: y\rz\r\n\r\n",
        "trailer with a NUL": b"0\r\nx: \0\r\n\r\n",
        "trailer that is none": b"0\r\nGET / HTTP/1.1\r\n\r\n",
        "trailer without a name": b"0\r\n: y\r\n\r\n",
        "trailer with a space before its colon": b"0\r\nx : y\r\n\r\n",
        "a length as a trailer": b"0\r\nContent-Length: 5\r\n\r\nhello",
        "a coding as a trailer": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        "folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    }.items(),
    ids=lambda row: row[0],
)
@pytest.mark.parametrize("whole", [True, False], ids=["at once", "byte by byte"])
def test_an_ambiguous_body_is_refused(sent, whole):
    data = sent[1]
    pieces = [data] if whole else [bytes([byte]) for byte in data]
    with pytest.raises(FramingError):
        take(ChunkedBody(), pieces)


def test_a_size_may_have_16_digits():
    body = ChunkedBody()
    assert body.feed(b"f" * 16 + b"\r\nhello") == (b"hello", b"")
    assert not body.done


@pytest.mark.parametrize(
    "endless",
    [b"1;" + b"a" * MAX_LINE, b"0\r\nx: " + b"a" * MAX_LINE, b"0\r\n" + b"x: y\r\n" * MAX_TRAILERS],
    ids=["extension", "trailer", "trailers"],
)
@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_the_bytes_around_the_content_are_bounded(endless, size):
    pieces = [endless[start : start + size] for start in range(0, len(endless), size)]
    with pytest.raises(FramingError, match="too long"):
        take(ChunkedBody(), pieces)


def test_trailers_of_any_number_of_lines_up_to_the_bound_are_dropped():
    lines = b"x: y\r\n" * (MAX_TRAILERS // 6 - 10)
    body = ChunkedBody()
    assert body.feed(b"1\r\na\r\n0\r\n" + lines + b"\r\nGET /") == (b"a", b"GET /")


def test_only_some_of_many_chunks_are_read_at_once():
    body = ChunkedBody(at_once=2)
    data = b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\nnext"
    first, rest = body.feed(data)
    assert (first, body.done) == (b"ab", False)
    assert body.feed(rest) == (b"c", b"next")
    assert body.done
