from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.operations import operation_of
from supervisor_app.gateway.llama.sse import OTHER, WHOLE, ContentScanner

COMMENT = b":\n\n"
"""As llama-server sends it while a stream has nothing to say."""


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


def test_content_that_was_seen_stays_seen():
    scanner = ContentScanner()
    assert scanner.feed(b"data: x\n\n")
    assert scanner.feed(COMMENT)
    assert scanner.seen


def has_content(stream: bytes) -> bool:
    lines = stream.replace(b"\r", b"\n").split(b"\n")
    return any(line and not line.startswith(b":") for line in lines)


@given(st.lists(st.sampled_from([b":", b"\n", b"\r", b"x", b"data:", COMMENT, b""]), max_size=12))
def test_events_are_the_same_in_whatever_pieces_they_come(pieces):
    scanner = ContentScanner()
    so_far = b""
    for piece in pieces:
        so_far += piece
        assert scanner.feed(piece) == has_content(so_far)


def kind_of(path):
    return operation_of("POST", path).events or OTHER


CHAT, MESSAGES, RESPONSES, NATIVE = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/completion"
NAMED = b'event: %s\ndata: {"type":"%s"}\n\n'
PIECE = b'data: {"index":0,"content":"a","stop":false,"tokens_predicted":1}\n\n'
LAST = b'data: {"index":0,"content":"","stop":true,"prompt":"x","generation_settings":{"stop":[]}}\n\n'


def named(name):
    return NAMED % (name, name)


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (CHAT, b'data: {"choices":[]}\n\ndata: [DONE]\n\n'),
        (CHAT, b"data:[DONE]\r\n\r\n"),
        (CHAT, b"data: [DONE]"),
        ("/chat/completions", b"data: [DONE]\n\n"),
        ("/v1/completions", b"data: [DONE]\n\n"),
        (MESSAGES, named(b"message_stop")),
        (RESPONSES, named(b"response.completed")),
        (RESPONSES, named(b"response.created") + named(b"response.incomplete")),
        (NATIVE, PIECE + LAST),
        ("/completions", LAST),
        ("/infill", PIECE + LAST),
        ("/v1/anything", b"data: 1\n\n"),
        ("/v1/anything", b""),
    ],
)
def test_a_stream_is_whole_with_the_last_event_of_its_kind(path, end):
    assert kind_of(path).status_at(end) == WHOLE


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (CHAT, b'data: {"choices":[]}\n\n'),
        ("/chat/completions", b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n'),
        (CHAT, b""),
        (MESSAGES, named(b"content_block_stop")),
        (RESPONSES, named(b"response.created") + named(b"response.output_text.delta")),
        (RESPONSES, named(b"response.output_item.done")),
        ("/responses", named(b"response.created")),
        (RESPONSES, b'event: response.completed\ndata: {"type":"response.comp'),
        (RESPONSES, named(b"response.created") + b":\n\n"),
        (NATIVE, PIECE),
        ("/completions", PIECE + PIECE),
        ("/infill", PIECE),
        (NATIVE, LAST + PIECE),
        (NATIVE, LAST[:40]),
        (NATIVE, b"data: null\n\n"),
        (NATIVE, b""),
    ],
)
def test_a_stream_without_its_end_is_not_whole(path, end):
    assert kind_of(path).status_at(end) is None


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, NATIVE])
@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b'data: {"error":{"code":500,"message":"Context size has been exceeded."}}\n\n', 500),
        (b'data: {"error":{"code":503,"message":"no \\"code\\":400"}}\n\n', 503),
        (b'data: {"error":{"message":"too long","code": 400}}\n\n', 400),
        (b'data: {"error":{"code":200}}\n\n', 500),
        (b'data: { "error" : "no"}\r\n\r\n', 500),
        (b'error: {"code":501}\n\n', 501),
        (b'event: error\ndata: {"type":"error","error":{}}\n\n', 500),
        (named(b"response.failed"), 500),
    ],
)
def test_a_stream_that_ends_with_an_error_of_its_server_says_so_itself(path, event, status):
    assert kind_of(path).status_at(PIECE + event) == status


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", MESSAGES, RESPONSES, NATIVE])
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"text":"a"}],"model":"error","stop":false}\n\n',
        b'data: {"choices":[{"logprobs":[{"token":"error"}]}],"stop":false}\n\n',
        b'data: {"choices":[],"stop":false,"delta":{"error":"\\nevent: error\\ndata: {\\"error\\":"}}\n\n',
        b'event: errors\ndata: {"stop":false}\n\n',
    ],
)
def test_an_event_that_only_has_the_word_in_it_is_no_error(path, event):
    assert kind_of(path).status_at(event) is None


@pytest.mark.parametrize("path", [RESPONSES, NATIVE])
def test_a_last_event_that_is_too_long_to_be_seen_whole_is_believed(path):
    end = b'ings":{"stop":[]},"prompt":"data: {\\n\\n"}\n\n'
    assert kind_of(path).status_at(end) == WHOLE
    assert kind_of(path).status_at(end[:-5]) is None


def test_the_last_event_may_have_only_what_its_client_wants_to_hear():
    assert kind_of(NATIVE).status_at(PIECE + b'data: {"content":""}\n\n') == WHOLE
    assert kind_of(NATIVE).status_at(PIECE + b'data: {"generation_settings":{"stop":[]}}\n\n') == WHOLE
