from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.sse import ContentScanner, error_event

COMMENT = b":\n\n"
"""As llama-server sends it while a stream has nothing to say."""

ERROR = {"message": 'It "died"', "type": "server_error", "code": "upstream_crashed"}


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\n",
        COMMENT,
        b":\r\n\r\n",
        b": ping\n\n: data: not yet\n\n",
        b":data: a comment that is not at its end",
        b"\r\r\n\n",
    ],
)
def test_comments_and_blank_lines_are_no_content(stream):
    assert not ContentScanner().feed(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"choices":[]}\n\n',
        b"event: message_start\n",
        b"d",
        COMMENT + b"data",
        b": ping\r\rdata: x",
        b"\n\n data: with a space before it is a line all the same",
    ],
)
def test_every_other_line_is_content(stream):
    assert ContentScanner().feed(stream)


def test_what_was_seen_stays_seen():
    scanner = ContentScanner()
    assert scanner.feed(b"data: x\n\n")
    assert scanner.feed(COMMENT)
    assert scanner.seen


def has_content(stream: bytes) -> bool:
    lines = stream.replace(b"\r", b"\n").split(b"\n")
    return any(line and not line.startswith(b":") for line in lines)


@given(st.lists(st.sampled_from([b":", b"\n", b"\r", b"x", b"data:", COMMENT, b""]), max_size=12))
def test_the_pieces_in_which_it_comes_do_not_matter(pieces):
    scanner = ContentScanner()
    so_far = b""
    for piece in pieces:
        so_far += piece
        assert scanner.feed(piece) == has_content(so_far)


def fields_of(event: bytes) -> dict[str, str]:
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    return dict(line.split(": ", 1) for line in event.decode().splitlines() if line)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/completion"])
def test_an_error_in_the_style_of_openai_is_data_alone(path):
    fields = fields_of(error_event(ERROR, path))
    assert list(fields) == ["data"]
    assert json.loads(fields["data"]) == {"error": ERROR}


def test_an_error_in_the_style_of_anthropic_is_an_event_of_that_name():
    fields = fields_of(error_event(ERROR, "/v1/messages"))
    assert fields["event"] == "error"
    assert json.loads(fields["data"]) == {"type": "error", "error": ERROR}


def test_an_error_of_the_responses_api_has_its_fields_and_what_clients_raise_for():
    fields = fields_of(error_event(ERROR, "/v1/responses"))
    assert fields["event"] == "error"
    data = json.loads(fields["data"])
    assert data.pop("error") == ERROR
    assert data == {
        "type": "error",
        "code": "upstream_crashed",
        "message": 'It "died"',
        "param": None,
        "sequence_number": 0,
    }


def test_a_line_break_in_a_message_does_not_break_the_event():
    fields = fields_of(error_event({"message": "one\n\ntwo"}, "/v1/chat/completions"))
    assert json.loads(fields["data"])["error"]["message"] == "one\n\ntwo"
