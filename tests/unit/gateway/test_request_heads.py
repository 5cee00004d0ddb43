"""Heads of requests: what they say is read, and what two parsers could read differently is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_app.gateway.http.heads import BadHeadError
from supervisor_app.gateway.http.request_heads import check_beginning, read_request
from tests.unit.gateway.raw_heads import LINES, raw_head, read
from tests.unit.gateway.second_reader import AUTHORITY


def refusal(raw):
    with pytest.raises(BadHeadError) as caught:
        read_request(raw)
    return caught.value


# --- A request that is all right -----------------------------------------------------------------------


def test_a_request_says_what_it_wants():
    head, length = read("Content-Length: 12", first="PUT /v1/files?model=a&b HTTP/1.1")
    assert (head.method, head.path, head.query) == ("PUT", "/v1/files", "model=a&b")
    assert (head.http11, head.keep_alive, head.chunked, length) == (True, True, False, 12)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_that_servers_have_is_taken(method):
    head, length = read(first=f"{method} / HTTP/1.1")
    assert (head.method, length) == (method, 0)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a//b/../c", "/a//b/../c", ""),
        ("/a?", "/a", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/%2e%2e/b", "/../b", ""),
        ("/v1/chat%2Fcomp%6cetions?a=%2F", "/v1/chat/completions", "a=%2F"),
        ("/a%3Fb%23?c", "/a?b#", "c"),
        ("/%2561", "/%61", ""),
        ("/a+b%20c", "/a+b c", ""),
        ("/caf%C3%A9", "/café", ""),
        ("/a?%00%zz#", "/a", "%00%zz#"),
        ("http://gateway/v1/models", "/v1/models", ""),
        ("HTTPS://user@gateway:8001/v1?a=b", "/v1", "a=b"),
        ("http://gateway", "/", ""),
        ("http://gateway?a", "/", "a"),
        ("*", "/", ""),
    ],
)
def test_a_target_is_a_path_and_a_query(target, path, query):
    head, _ = read(first=f"OPTIONS {target} HTTP/1.1")
    assert (head.path, head.query) == (path, query)


def test_absolute_form_is_not_passed_on():
    head, length = read(first="GET http://elsewhere/v1/models HTTP/1.1")
    assert head.for_server(AUTHORITY, "", length).startswith(
        b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:8134\r\n"
    )


@pytest.mark.parametrize(
    ("first", "connection", "kept"),
    [
        ("GET / HTTP/1.1", None, True),
        ("GET / HTTP/1.1", "keep-alive", True),
        ("GET / HTTP/1.1", "Close", False),
        ("GET / HTTP/1.1", "foo, close", False),
        ("GET / HTTP/1.0", None, False),
        ("GET / HTTP/1.0", "Keep-Alive", True),
        ("GET / HTTP/1.0", "close", False),
    ],
)
def test_a_connection_is_kept_as_its_client_wishes(first, connection, kept):
    lines = [] if connection is None else [f"Connection: {connection}"]
    assert read(*lines, first=first)[0].keep_alive is kept


def test_http_1_0_needs_no_host():
    assert not read(first="GET / HTTP/1.0", host=None)[0].http11


def test_an_empty_host_is_a_host():
    assert read(host="")[0].noted[b"host"] == b""


@pytest.mark.parametrize(
    ("line", "first", "expected"),
    [
        ("Expect: 100-continue", "POST / HTTP/1.1", True),
        ("expect: 100-Continue", "POST / HTTP/1.1", True),
        ("Expect: 100-continue", "POST / HTTP/1.0", False),
        ("Expect: something", "POST / HTTP/1.1", False),
        ("X-Other: 100-continue", "POST / HTTP/1.1", False),
    ],
)
def test_a_head_says_that_its_client_waits_for_100_continue(line, first, expected):
    assert read(line, first=first)[0].expects_continue is expected


@pytest.mark.parametrize("nothing", ["Bearer ", "Bearer", "", "Basic dXNlcg=="])
def test_an_authorization_without_a_key_hides_no_other(nothing):
    assert read(f"Authorization: {nothing}", "X-Api-Key: lp-abc")[0].presented_key == "lp-abc"


def test_the_key_of_authorization_counts_before_others():
    assert read("X-Api-Key: lp-a", "Authorization: Bearer lp-b")[0].presented_key == "lp-b"


@pytest.mark.parametrize(
    ("line", "presented"),
    [
        ("Authorization: Bearer lp-abc", "lp-abc"),
        ("authorization: bearer   lp-abc", "lp-abc"),
        ("X-Api-Key: lp-abc", "lp-abc"),
        ("Authorization: Basic lp-abc", ""),
        ("Authorization: Basic YW55Ym9keTpscC1hYmM=", "lp-abc"),
        ("authorization: basic OmxwLWE6Yg==", "lp-a:b"),
        ("Authorization: Basic YW55Ym9keQ==", ""),
        ("Authorization: Basic", ""),
        ("Authorization: Bearer", ""),
        ("X-Api-Key:", ""),
        ("Authorization: Bearer l\xe9", "l\xe9"),
    ],
)
def test_a_key_is_presented_in_either_header(line, presented):
    assert read(line)[0].presented_key == presented


def test_a_key_that_is_a_password_is_known_as_one():
    lines = ("Authorization: Basic YW55Ym9keTpscC1hYmM=", "Authorization: Bearer lp-a", "X-Api-Key: lp-a")
    assert [read(line)[0].key_is_password for line in lines] == [True, False, False]


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer lp-a",
        "X-Api-Key: lp-a",
        "Content-Type: application/json",
        "Origin: http://localhost",
        "Connection: close",
        "Accept-Encoding: gzip",
        "Session: a",
    ],
)
def test_a_field_repeated_with_the_same_value_counts_once(line):
    once, twice = read(line)[0], read(line, line.replace(": ", ":  "))[0]
    assert twice == once
    name = line.partition(":")[0].lower()
    assert sum(each.lower().startswith(name.encode()) for each in twice.forwarded) <= 1


# --- How long its body is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "length"),
    [
        ("Content-Length: 0", 0),
        ("content-length:12", 12),
        ("Content-Length:   12  ", 12),
        ("Content-Length: 0012", 12),
        ("Content-Length: 999999999999999999", 10**18 - 1),
        ("Transfer-Encoding: chunked", None),
        ("transfer-encoding:\tChunked ", None),
    ],
)
def test_a_body_is_sized_or_chunked(line, length):
    head, found = read(line)
    assert found == length
    assert head.chunked is (length is None)


REFUSED = {
    # Two readers, two lengths
    "Content-Length, then Transfer-Encoding": (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
    "Transfer-Encoding, then Content-Length": (["Transfer-Encoding: chunked", "Content-Length: 5"], 400),
    "Content-Length of 0 and Transfer-Encoding": (["Content-Length: 0", "Transfer-Encoding: chunked"], 400),
    "two lengths": (["Content-Length: 5", "Content-Length: 6"], 400),
    "the same length twice": (["Content-Length: 5", "Content-Length: 5"], 400),
    "the same length twice, in other letters": (["Content-Length: 5", "content-length:5"], 400),
    "a list of lengths": (["Content-Length: 5, 5"], 400),
    "a length with a plus": (["Content-Length: +5"], 400),
    "a length with a minus": (["Content-Length: -5"], 400),
    "a hexadecimal length": (["Content-Length: 0x5"], 400),
    "a length with a space within": (["Content-Length: 1 0"], 400),
    "a length with an underscore": (["Content-Length: 1_0"], 400),
    "a length with a point": (["Content-Length: 5.0"], 400),
    "an empty length": (["Content-Length:"], 400),
    "a length of 19 digits": (["Content-Length: 1000000000000000000"], 400),
    "a length of another alphabet": (["Content-Length: \xb2"], 400),
    "an unknown coding": (["Transfer-Encoding: xchunked"], 400),
    "a coding after chunked": (["Transfer-Encoding: chunked, identity"], 400),
    "a coding before chunked": (["Transfer-Encoding: identity, chunked"], 400),
    "no coding": (["Transfer-Encoding: identity"], 400),
    "an empty coding": (["Transfer-Encoding:"], 400),
    "chunked twice": (["Transfer-Encoding: chunked, chunked"], 400),
    "two codings": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
    "two codings, one unknown": (["Transfer-Encoding: x", "Transfer-Encoding: chunked"], 400),
    "a coding in quotes": (['Transfer-Encoding: "chunked"'], 400),
    "a coding after a vertical tab": (["Transfer-Encoding: \x0bchunked"], 400),
    "a coding after a no-break space": (["Transfer-Encoding: \xa0chunked"], 400),
    "a coding with a parameter": (["Transfer-Encoding: chunked;q=1"], 400),
    "an underscore instead of a hyphen": (["Content-Length: 5", "Transfer_Encoding : chunked"], 400),
    # Lines that are two for some
    "a folded line": (["X: a", " b"], 400),
    "a folded coding": (["Transfer-Encoding:", " chunked"], 400),
    "a folded line with a tab": (["X: a", "\tb"], 400),
    "a folded first line": ([" X: a"], 400),
    "a bare line feed": (["X: a\nTransfer-Encoding: chunked"], 400),
    "a bare carriage return": (["X: a\rTransfer-Encoding: chunked"], 400),
    "a NUL": (["X: a\0b"], 400),
    "a NUL in a name": (["X\0: a"], 400),
    "a space before the colon": (["Transfer-Encoding : chunked"], 400),
    "a tab before the colon": (["Content-Length\t: 5"], 400),
    "no colon": (["Transfer-Encoding chunked"], 400),
    "no name": ([": chunked"], 400),
    "a space in a name": (["Content Length: 5"], 400),
    "a name with a byte above ASCII": (["X-\xe9: a"], 400),
    "a name with a control character": (["X\x01: a"], 400),
    "a name with a delimiter": (["X(a): b"], 400),
    "a value with a control character": (["X: a\x01b"], 400),
    "a value with DEL": (["X: a\x7fb"], 400),
    # Twice, of what we read
    "two hosts": (["Host: other"], 400),
    "two keys": (["Authorization: Bearer a", "Authorization: Bearer b"], 400),
    "two types": (["Content-Type: a/b", "Content-Type: c/d"], 400),
    "two origins": (["Origin: http://a", "Origin: http://b"], 400),
    "two expectations": (["Expect: 100-continue", "Expect: 100-continue"], 400),
}


@pytest.mark.parametrize(("lines", "status"), REFUSED.values(), ids=REFUSED)
def test_a_head_that_can_be_read_in_two_ways_is_refused(lines, status):
    assert refusal(raw_head(*lines)).status == status


FIRST_LINES = {
    "HTTP/0.9": ("GET /", 400),
    "HTTP/0.9 with a version": ("GET / HTTP/0.9", 505),
    "HTTP/2.0": ("GET / HTTP/2.0", 505),
    "the preface of HTTP/2": ("PRI * HTTP/2.0", 505),
    "the preface of HTTP/2 as 1.1": ("PRI * HTTP/1.1", 400),
    "HTTP/1.2": ("GET / HTTP/1.2", 505),
    "a version of two digits": ("GET / HTTP/1.10", 505),
    "a version in small letters": ("GET / http/1.1", 400),
    "no version": ("GET / ", 400),
    "two spaces": ("GET  / HTTP/1.1", 400),
    "a tab": ("GET\t/ HTTP/1.1", 400),
    "a space at the end": ("GET / HTTP/1.1 ", 400),
    "a space at the beginning": (" GET / HTTP/1.1", 400),
    "a space in the target": ("GET /a b HTTP/1.1", 400),
    "a byte above ASCII in the target": ("GET /\xe9 HTTP/1.1", 400),
    "a control character in the target": ("GET /\x01 HTTP/1.1", 400),
    "an encoded NUL": ("GET /a%00 HTTP/1.1", 400),
    "an encoded line break": ("GET /a%0D%0Ab HTTP/1.1", 400),
    "an encoded DEL": ("GET /a%7f HTTP/1.1", 400),
    "an escape that is cut": ("GET /a%4 HTTP/1.1", 400),
    "a percent sign alone": ("GET /% HTTP/1.1", 400),
    "an escape of other digits": ("GET /a%4g HTTP/1.1", 400),
    "an escape as in JavaScript": ("GET /%u0061 HTTP/1.1", 400),
    "no UTF-8": ("GET /a%ff HTTP/1.1", 400),
    "a slash that is encoded too long": ("GET /a%c0%af HTTP/1.1", 400),
    "a fragment": ("GET /a#b HTTP/1.1", 400),
    "a fragment before the query": ("GET /a#?b HTTP/1.1", 400),
    "an encoded slash at the beginning": ("GET %2fa HTTP/1.1", 400),
    "no target": ("GET HTTP/1.1", 400),
    "a target without a slash": ("GET v1/models HTTP/1.1", 400),
    "another scheme": ("GET ftp://gateway/ HTTP/1.1", 400),
    "a scheme without a host": ("GET http:///v1 HTTP/1.1", 400),
    "an address as CONNECT has it": ("CONNECT gateway:443 HTTP/1.1", 400),
    "CONNECT with a path": ("CONNECT / HTTP/1.1", 400),
    "an address with another method": ("GET gateway:443 HTTP/1.1", 400),
    "a method in small letters": ("get / HTTP/1.1", 400),
    "an unknown method": ("BREW / HTTP/1.1", 400),
    "an endless method": ("G" * 21 + " / HTTP/1.1", 400),
    "an answer": ("HTTP/1.1 200 OK", 400),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "nothing": ("", 400),
}


@pytest.mark.parametrize(("first", "status"), FIRST_LINES.values(), ids=FIRST_LINES)
def test_a_head_that_is_not_http_1_is_refused(first, status):
    found = refusal(raw_head(first=first))
    assert found.status == status
    assert "\n" not in str(found)


def test_http_1_1_needs_a_host():
    found = refusal(raw_head(host=None))
    assert (found.status, str(found)) == (400, "The header Host is missing.")


def test_transfer_encoding_is_not_known_to_http_1_0():
    assert refusal(raw_head("Transfer-Encoding: chunked", first="POST / HTTP/1.0")).status == 400


def test_a_head_of_bare_line_feeds_is_refused():
    assert refusal(raw_head().replace(b"\r\n", b"\n") + b"\r\n\r\n").status == 400


# --- Heads that have not come whole --------------------------------------------------------------------


def refused_beginning(raw):
    """The status with which the first bytes are refused; None: they may become a head."""
    try:
        check_beginning(raw)
    except BadHeadError as error:
        return error.status
    return None


def check_all_beginnings(raw):
    """What follows cannot change the verdict on a beginning."""
    beginnings = {refused_beginning(raw[:size]) for size in range(len(raw))} - {None}
    if beginnings:
        assert beginnings == {refusal(raw).status}


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\nHost: gateway\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: gateway\n", 400),
        (b"\n", 400),
        (b"\r\n", 400),  # the second empty line
        (b"\rG", 400),
        (b"get", 400),
        (b" GET", 400),
        (b"\x00", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"PRI * HTTP/2.0\r\n", 505),
    ],
)
def test_a_beginning_that_cannot_become_a_head_is_refused_at_once(beginning, status):
    assert refused_beginning(beginning) == status


def test_a_tls_client_is_told_that_this_is_plain_http():
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for size in range(1, len(hello)):
        with pytest.raises(BadHeadError, match="plain HTTP, not HTTPS"):
            check_beginning(hello[:size])
    assert str(refusal(hello + b"\r\n\r\n")) == "This address speaks plain HTTP, not HTTPS."


@pytest.mark.parametrize("lines", [[], ["Content-Length: 5", "X: \xe9"], ["Transfer-Encoding: chunked"]])
def test_no_beginning_of_a_good_head_is_refused(lines):
    raw = raw_head(*lines)
    assert {refused_beginning(raw[:size]) for size in range(len(raw))} == {None}


@pytest.mark.parametrize("lines", [lines for lines, _ in REFUSED.values()], ids=REFUSED)
def test_an_ambiguous_request_is_refused_in_whatever_pieces_it_comes(lines):
    check_all_beginnings(raw_head(*lines))


@pytest.mark.parametrize("first", [first for first, _ in FIRST_LINES.values()], ids=FIRST_LINES)
def test_a_malformed_request_is_refused_in_whatever_pieces_it_comes(first):
    check_all_beginnings(raw_head(first=first))


@settings(deadline=None)
@given(
    st.sampled_from(["GET / HTTP/1.1", "GET / HTTP/2.0", "GET /\n", "", "G", "\x16", "get / HTTP/1.1"]),
    st.lists(LINES, max_size=3),
)
def test_whatever_the_pieces_the_verdict_is_the_same(first, lines):
    check_all_beginnings(raw_head(*lines, first=first))
