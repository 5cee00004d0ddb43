"""What of a request's head goes on to the server, all of it written anew, and heads that come again."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.http.head_cache import HeadCache
from supervisor_app.gateway.http.heads import BadHeadError
from supervisor_app.gateway.http.request_heads import read_request
from tests.unit.gateway.raw_heads import LINES, raw_head, read
from tests.unit.gateway.second_reader import AUTHORITY, KEY, check_what_goes_on


def sent_to_server(*lines, length=None, **parts):
    """The lines that a server gets, after the request line."""
    head, own_length = read(*lines, **parts)
    raw = head.for_server(AUTHORITY, KEY, own_length if length is None else length)
    assert raw.endswith(b"\r\n\r\n")
    return raw.decode("latin-1").split("\r\n")[1:-2]


# --- An upgrade is never made --------------------------------------------------------------------------

H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"]


@pytest.mark.parametrize(
    "lines",
    [
        H2C,
        [line.lower() for line in H2C],
        [line.upper() for line in H2C],
        ["Connection: upGRADE", "uPgRaDe: websocket", "Sec-WebSocket-Key: x"],
        ["Upgrade: h2c", "HTTP2-Settings: x"],
        ["Connection: Upgrade"],
    ],
    ids=[
        "h2c",
        "small letters",
        "capitals",
        "mixed letters",
        "not named in Connection",
        "nothing to upgrade to",
    ],
)
@pytest.mark.parametrize("framing", [["Content-Length: 3"], ["Transfer-Encoding: chunked"], []])
def test_a_request_for_an_upgrade_is_a_plain_request(lines, framing):
    head, length = read(*lines, *framing)
    assert (head.method, length) == ("POST", {"C": 3, "T": None}[framing[0][0]] if framing else 0)
    sent = [line.lower() for line in sent_to_server(*lines, *framing)]
    assert not [line for line in sent if line.startswith(("upgrade:", "http2-settings:", "connection:"))]


# --- What goes on to the server ------------------------------------------------------------------------


def test_a_server_gets_what_the_client_said_and_our_address_key_and_length():
    assert sent_to_server(
        "X-Title: caf\xe9", "x-title: again", "Content-Type: text/x", "Content-Length: 5"
    ) == [
        "Host: 127.0.0.1:8134",
        "X-Title: caf\xe9",
        "x-title: again",
        "Content-Type: text/x",
        f"Authorization: Bearer {KEY}",
        "Content-Length: 5",
    ]


@pytest.mark.parametrize("target", ["/v1/ch%61t%2Fx?a=%2F&b", "/a?", "/a??b", "/%2561", "/a%3Fb?c"])
@pytest.mark.parametrize("before", ["", "http://elsewhere"])
def test_the_target_goes_on_as_its_client_wrote_it(before, target):
    head, length = read(first=f"POST {before}{target} HTTP/1.1")
    assert head.for_server(AUTHORITY, KEY, length).startswith(f"POST {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "line",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "Proxy-Authenticate: Basic",
        "TE: trailers",
        "Trailer: x",
        "Connection: keep-alive",
        "Expect: 100-continue",
        "Authorization: Bearer lp-secret",
        "AUTHORIZATION: Basic x",
        "X-Api-Key: lp-secret",
    ],
)
def test_fields_for_the_gateway_alone_are_not_passed_on(line):
    assert sent_to_server(line) == sent_to_server()


def test_fields_that_connection_names_are_not_passed_on():
    lines = [
        "Connection: close, X-Hop ,x-other",
        "X-Hop: 1",
        "X-OTHER: 2",
        "Connection: X-Third",
        "X-Third: 3",
    ]
    assert sent_to_server(*lines, "X-Hops: 4") == sent_to_server("X-Hops: 4")


def test_connection_cannot_take_away_what_frames_the_message():
    named = "Connection: content-length, host, authorization, transfer-encoding"
    assert sent_to_server(named, "Content-Length: 5") == sent_to_server("Content-Length: 5")


def test_without_a_key_of_the_server_none_is_sent():
    head, length = read("Authorization: Bearer lp-secret", "X-Api-Key: lp-other")
    raw = head.for_server(AUTHORITY, "", length)
    assert b"lp-" not in raw
    assert b"uthorization" not in raw


def test_only_what_is_fetched_may_come_compressed():
    asked = ["Accept-Encoding: gzip", "Accept-Encoding: br"]
    assert "Accept-Encoding: gzip,br" in sent_to_server(*asked, first="GET / HTTP/1.1")
    assert sent_to_server(*asked) == sent_to_server()


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [
        ("POST", 0, ["Content-Length: 0"]),
        ("POST", 7, ["Content-Length: 7"]),
        ("GET", 0, []),
        ("GET", 7, ["Content-Length: 7"]),
        ("HEAD", 0, []),
        ("DELETE", 0, []),
        ("OPTIONS", 0, []),
        ("PUT", 0, ["Content-Length: 0"]),
    ],
)
def test_the_length_is_written_anew(method, length, framing):
    sent = sent_to_server("X: y", first=f"{method} / HTTP/1.1", length=length)
    assert [line for line in sent if line.lower().startswith(("content-length", "transfer"))] == framing


def test_a_body_without_a_length_is_sent_in_chunks():
    assert sent_to_server("Transfer-Encoding: chunked")[-1] == "Transfer-Encoding: chunked"


def test_cookies_of_our_pages_stay_here():
    """A browser sends them to every port of a host."""
    head, _ = read_request(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: sessionid=1\r\nCookie: b=2\r\n\r\n")
    assert head.forwarded == []


TARGETS = st.sampled_from(
    ["/", "/a?b", "*", "http://h/a", "//h/a", "/a#b", "h:1", "/%0d%0a", "/%61%3f", "?", "/" + "a" * 99]
)


@settings(deadline=None)
@given(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PRI", "DELETE", "TRACE", "M-SEARCH"]),
    TARGETS,
    st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]),
    st.lists(LINES, max_size=5),
    st.sampled_from([None, 0, 5]),
)
def test_whatever_is_taken_goes_on_in_one_reading_only(method, target, version, lines, length):
    try:
        head, own_length = read(*lines, first=f"{method} {target} HTTP/{version}")
    except BadHeadError:
        return
    assert own_length is None or own_length >= 0
    assert head.method == method
    check_what_goes_on(head, length)


# --- Heads that come again -----------------------------------------------------------------------------


def test_a_head_that_comes_again_is_read_as_before():
    cache = HeadCache()
    raw = raw_head("Content-Length: 5", "X: y")
    assert cache.request(raw) == cache.request(raw) == read_request(raw)


def test_the_same_head_with_another_length_is_the_same_but_for_that():
    cache = HeadCache()
    for length in (5, 6, 0, 5):
        raw = raw_head("X: y", f"Content-Length: {length}")
        assert cache.request(raw) == read_request(raw)
        assert cache.request(raw)[1] == length


@pytest.mark.parametrize(
    "other",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length:5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", " folded"],
    ],
)
def test_nothing_that_came_before_makes_a_bad_head_good(other):
    cache = HeadCache()
    for lines in (["Content-Length: 5"], ["Transfer-Encoding: chunked"], [], ["content-length:5"]):
        cache.request(raw_head(*lines))
    with pytest.raises(BadHeadError):
        cache.request(raw_head(*other))


def test_more_heads_than_are_remembered_are_read_all_the_same():
    cache = HeadCache()
    for number in [*range(1500), *range(1500)]:
        raw = raw_head(f"X: {number}")
        assert cache.request(raw)[0].forwarded == [b"X: %d\r\n" % number]


def test_the_head_for_one_server_is_not_that_for_another():
    head, length = read()
    for number in [*range(40), *range(40)]:
        sent = head.for_server(b"server:%d" % number, f"key-{number}", length)
        assert b"Host: server:%d\r\n" % number in sent
        assert b"Bearer key-%d\r\n" % number in sent


@settings(deadline=None)
@given(st.lists(st.lists(LINES, max_size=3), max_size=6))
def test_a_head_means_the_same_whatever_came_before(heads):
    cache = HeadCache()
    for lines in heads:
        raw = raw_head(*lines)
        try:
            expected = read_request(raw)
        except BadHeadError:
            with pytest.raises(BadHeadError):
                cache.request(raw)
        else:
            assert cache.request(raw) == expected


def test_the_memory_for_heads_is_bounded():
    cache = HeadCache()
    tracemalloc.start()
    try:
        for number in range(100):
            cache.request(raw_head(f"X: {number}{'x' * 60_000}"))
            cache.response(
                b"HTTP/1.1 200 OK\r\nX: %d%b\r\nContent-Length: 5\r\n\r\n" % (number, b"x" * 60_000)
            )
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
