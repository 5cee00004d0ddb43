"""Heads of answers: what a server says of itself goes on, what it says of its connection does not."""

from __future__ import annotations

import re

import pytest

from supervisor_app.gateway.http.answer_heads import read_response
from supervisor_app.gateway.http.framing import BodyUntilClose, ChunkedBody, SizedBody
from supervisor_app.gateway.http.head_cache import HeadCache
from supervisor_app.gateway.http.heads import BadHeadError, status_line


def raw_answer(*lines, first="HTTP/1.1 200 OK"):
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def read_answer(*lines, first="HTTP/1.1 200 OK", to_head=False):
    return read_response(raw_answer(*lines, first=first), to_head=to_head)


def test_an_answer_goes_on_without_what_is_between_us_and_the_server():
    head, length, body = read_answer(
        "Server: llama.cpp",
        "Keep-Alive: timeout=5, max=100",
        "Connection: keep-alive",
        "Content-Type: Application/JSON",
        "Content-Length: 5",
        "X: caf\xe9",
    )
    lines = head.beginning.decode("latin-1").split("\r\n")
    assert lines == [
        "HTTP/1.1 200 OK",
        "Server: llama.cpp",
        "Content-Type: Application/JSON",
        "X: caf\xe9",
        "",
    ]
    assert (head.status, head.keep_alive, head.is_event_stream, length) == (200, True, False, 5)
    assert body.feed(b"12345") == (b"12345", b"")
    assert body.done


@pytest.mark.parametrize(
    "line", ["Content-Type: text/event-stream", "content-type: Text/Event-Stream; charset=x"]
)
def test_a_stream_of_events_is_known_by_its_type(line):
    assert read_answer(line, "Transfer-Encoding: chunked")[0].is_event_stream


@pytest.mark.parametrize(
    ("lines", "kind", "length", "kept"),
    [
        (["Content-Length: 5"], SizedBody, 5, True),
        (["Content-Length: 0"], SizedBody, 0, True),
        (["Content-Length: 5", "Connection: close"], SizedBody, 5, False),
        (["Transfer-Encoding: chunked"], ChunkedBody, None, True),
        (["Transfer-Encoding: Chunked", "Connection: close"], ChunkedBody, None, False),
        ([], BodyUntilClose, None, False),
        (["Connection: keep-alive"], BodyUntilClose, None, False),
    ],
)
def test_an_answer_ends_by_its_length_its_last_chunk_or_the_connection(lines, kind, length, kept):
    head, found, body = read_answer(*lines)
    assert (type(body), found, head.keep_alive) == (kind, length, kept)


@pytest.mark.parametrize("to_head", [True, False])
@pytest.mark.parametrize("first", ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 200 OK"])
def test_some_answers_have_no_body_whatever_their_length(first, to_head):
    _, length, body = read_answer("Content-Length: 5", first=first, to_head=to_head)
    assert length == 5
    assert body.done is (to_head or "200" not in first)


def test_an_answer_of_http_1_0_ends_with_the_connection_unless_it_says_more():
    assert not read_answer("Content-Length: 5", first="HTTP/1.0 200 OK")[0].keep_alive
    assert read_answer("Content-Length: 5", "Connection: keep-alive", first="HTTP/1.0 200 OK")[0].keep_alive


@pytest.mark.parametrize(
    "raw",
    [
        raw_answer("Content-Length: 5", "Content-Length: 6"),
        raw_answer("Content-Length: 5", "Transfer-Encoding: chunked"),
        raw_answer("Content-Length: -1"),
        raw_answer("Content-Length: 5x"),
        raw_answer("X : y"),
        raw_answer("X: a\0b"),
        raw_answer(first="HTTP/1.1 2000 OK"),
        raw_answer(first="HTTP/3.0 200 OK"),
        raw_answer(first="ICY 200 OK"),
        raw_answer("Connection: upgrade", "Upgrade: websocket", first="HTTP/1.1 101 Switching Protocols"),
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    ],
)
def test_an_answer_that_cannot_be_read_is_a_bad_gateway(raw):
    with pytest.raises(BadHeadError) as caught:
        read_response(raw, to_head=False)
    assert caught.value.status == 502


def test_an_answer_that_comes_again_is_read_as_before():
    cache = HeadCache()
    for size in (5, 0, 7, 5):
        head, length, body = cache.response(raw_answer("X: y", f"Content-Length: {size}"))
        assert (head.status, length) == (200, size)
        assert body.feed(b"12345678") == (b"12345678"[:size], b"12345678"[size:])


def test_a_stream_that_comes_again_is_read_from_its_beginning():
    cache = HeadCache()
    raw = raw_answer("Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    for whole in (b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nab", b"1\r\na\r\n0\r\n\r\n"):
        head, length, body = cache.response(raw)
        assert (head.is_event_stream, length, body.done) == (True, None, False)
        content, rest = body.feed(whole)
        assert b"abc".startswith(content)
        assert (rest, body.done) == (b"", whole.endswith(b"0\r\n\r\n"))


def test_an_answer_that_ends_with_its_connection_does_so_each_time():
    cache = HeadCache()
    assert [type(cache.response(raw_answer("X: y"))[2]) for _ in range(3)] == [BodyUntilClose] * 3


@pytest.mark.parametrize("first", ["HTTP/1.1 304 Not Modified", "HTTP/1.1 204 No Content"])
def test_an_answer_without_a_body_has_none_when_it_comes_again(first):
    cache = HeadCache()
    for size in (5, 5, 0, 5):
        raw = raw_answer('ETag: "x"', f"Content-Length: {size}", first=first)
        assert cache.response(raw)[2].done


@pytest.mark.parametrize("status", [100, 200, 404, 503, 599, 999])
def test_every_status_has_its_line(status):
    assert re.fullmatch(rb"HTTP/1\.1 %d [^\r\n]*\r\n" % status, status_line(status))


@pytest.mark.parametrize("said", ["", "X-Accel-Buffering: no", "x-accel-buffering: yes"])
def test_a_stream_tells_proxies_not_to_keep_it_unless_its_server_says_otherwise(said):
    lines = ["Content-Type: text/event-stream", *([said] if said else []), "Transfer-Encoding: chunked"]
    beginning = read_answer(*lines)[0].beginning.lower()
    assert beginning.count(b"x-accel-buffering: ") == 1
    assert beginning.endswith((said or "X-Accel-Buffering: no").lower().encode() + b"\r\n")
    assert b"x-accel" not in read_answer("Content-Type: text/plain", "Content-Length: 0")[0].beginning.lower()


def test_fields_that_connection_names_are_not_passed_on():
    lines = ("Connection: X-Hop, close", "X-Hop: 1", "X-Other: 2", "Connection: x-third", "X-Third: 3")
    head, _, _ = read_answer(*lines, "Content-Length: 0")
    assert head.beginning == b"HTTP/1.1 200 OK\r\nX-Other: 2\r\n"
    assert not head.keep_alive
