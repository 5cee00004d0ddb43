"""What is recognized without being read is what it would have been read as."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.http.head_cache import HeadCache, pattern_of
from supervisor_app.gateway.http.heads import END, BadHeadError
from supervisor_app.gateway.http.request_heads import read_request

REQUEST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\n"
HEAD, _ = read_request(REQUEST)


def usual(raw=REQUEST):
    pattern = pattern_of(raw, HEAD)
    assert pattern is not None
    return pattern


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 12_345])
def test_the_same_head_is_recognized_whatever_its_length(body):
    data = REQUEST.replace(b"5", b"%d" % len(body)) + body
    assert usual().body_of(data) == body


OTHERS = {
    "another path": REQUEST.replace(b"embeddings", b"embeddingz") + b"hello",
    "another field of the same size": REQUEST.replace(b"application", b"applicatiom") + b"hello",
    "another spelling": REQUEST.replace(b"Content-Length", b"content-length") + b"hello",
    "too little": REQUEST + b"hell",
    "too much": REQUEST + b"hello!",
    "no length": REQUEST.replace(b": 5", b": ") + b"hello",
    "a sign": REQUEST.replace(b": 5", b": +5") + b"hello",
    "a space": REQUEST.replace(b": 5", b":  5") + b"hello",
    "two lengths": REQUEST.replace(b": 5", b": 5, 5") + b"hello",
    "digits of another script": REQUEST.replace(b": 5", ": ٥".encode()) + b"hello",
    "too many digits": REQUEST.replace(b": 5", b": " + b"0" * 30 + b"5") + b"hello",
    "half a head": REQUEST[:-10],
    "nothing": b"",
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_a_head_that_differs_in_anything_else_is_read_anew(data):
    assert usual().body_of(data) is None


def test_a_long_head_is_not_kept_for_each_connection():
    long = REQUEST.replace(b"localhost", b"localhost\r\nX: " + b"x" * 5000)
    assert pattern_of(long, HEAD) is None


@pytest.mark.parametrize("line", [b"", b"Content-length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_head_without_the_usual_length_is_no_pattern(line):
    assert pattern_of(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n", HEAD) is None


@given(
    st.integers(0, len(REQUEST)),
    st.integers(0, 3),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b"5", b" ", b"x", b"Content-Length: 5\r\n"])
    | st.binary(max_size=3),
    st.binary(max_size=12),
)
def test_whatever_is_recognized_is_what_it_would_have_been_read_as(at, cut, put, body):
    data = REQUEST[:at] + put + REQUEST[at + cut :] + body
    found = usual().body_of(data)
    if found is not None:
        end = data.find(END) + len(END)
        head, length = read_request(data[:end])
        assert (head, length, data[end:]) == (HEAD, len(found), found)


@given(st.integers(0, len(REQUEST)), st.integers(0, 3), st.binary(max_size=3))
def test_heads_that_were_read_before_make_no_difference(at, cut, put):
    heads = HeadCache()
    heads.request(REQUEST)
    data = REQUEST[:at] + put + REQUEST[at + cut :]
    with suppress(BadHeadError):
        assert heads.request(data) == read_request(data)
        return
    with pytest.raises(BadHeadError):
        read_request(data)
