"""Streams that go on without their clients, and which server has one."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.http.request_heads import read_request
from supervisor_app.gateway.llama.conversations import (
    conversation_in,
    lookup,
    lookup_of_key,
    makes_it,
    newest,
    query_of_key,
    streams_in,
    without_key,
)


@pytest.mark.parametrize(
    ("request_line", "conversation"),
    [
        ("GET /v1/stream?conv_id=a%20b&from=0", "a b"),
        ("HEAD /v1/stream?conv_id=a", "a"),
        ("DELETE /llama/v1/stream?conv_id=a", "a"),
        ("GET /v1/%73tream?conv_id=a", "a"),
        ("GET /v1/stream", ""),
        ("GET /v1/stream?conv_id=", ""),
        ("POST /v1/stream?conv_id=a", ""),
        ("GET /v1/streams?conv_id=a", ""),
    ],
)
def test_the_conversation_of_a_stream_request_is_read(request_line, conversation):
    head = head_of(request_line)
    assert head.conversation == conversation
    assert head.asks_for_streams is bool(conversation)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_key_asks_after_its_own_streams_alone(method):
    head = head_of(f"{method} /v1/stream?conv_id=key8:a")
    assert head.names_conversation
    assert head.of_key(7).target == b"/v1/stream?conv_id=key7%3Akey8%3Aa"


def head_of(request_line):
    head, _ = read_request(f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return head


def test_a_question_after_several():
    assert head_of("POST /v1/streams/lookup").asks_for_streams
    assert not head_of("GET /v1/streams/lookup").asks_for_streams
    assert json.loads(lookup("a")) == {"conversation_ids": ["a"]}


def test_an_order_about_an_answer_that_is_being_made():
    assert head_of("POST /llama/v1/chat/completions/control").asks_for_streams


@pytest.mark.parametrize(
    ("request_line", "is_plain"),
    [
        ("POST /v1/chat/completions", True),
        ("POST /v1/chat/completions/control", False),
        ("POST /v1/streams/lookup", False),
        ("POST /models/load", False),
        ("POST /llama/models/unload", False),
        ("POST /models", False),
    ],
)
def test_whatever_takes_more_than_passing_on_is_not_plain(request_line, is_plain):
    assert head_of(request_line).is_plain is is_plain


@pytest.mark.parametrize(
    ("told", "makes"),
    [
        ('{"success": true}', True),
        ('{"success": false, "message": "reasoning control not enabled for this completion"}', True),
        ('{"success": false, "message": "no active completion for this id"}', False),
        ("[]", False),
    ],
)
def test_the_server_that_makes_an_answer_is_found(told, makes):
    assert makes_it(told.encode()) is makes


@pytest.mark.parametrize("told", ["{}", "[]", "[1]", "null"])
def test_an_answer_that_is_no_list_of_streams_is_ignored(told):
    assert streams_in(told.encode()) == []


def stream(conversation="a", **fields):
    return {"conversation_id": conversation, **fields}


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ([], None),
        ([[], [stream("b")]], None),
        ([[], [stream("b"), stream()]], 1),
        ([[stream(started_at=5)], [stream(started_at=9)], [stream(started_at=7)]], 1),
        ([[stream(started_at="soon")], [stream(started_at=1)]], 1),
    ],
)
def test_the_server_with_the_newest_stream_of_a_conversation_has_it(told, number):
    assert newest("a", told) == number


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("conv_id=a", "conv_id=key7%3Aa"),
        ("from=5&conv_id=a%20b", "conv_id=key7%3Aa%20b&from=5"),
        ("conv_id=a&x=%2F&conv_id=b&con%76_id=c", "conv_id=key7%3Aa&x=%2F"),
    ],
)
def test_a_key_has_conversations_of_its_own(query, sent):
    assert query_of_key(7, query) == sent
    assert conversation_in(sent).startswith("key7:a")


def test_a_key_asks_after_its_own_and_is_told_of_them_by_its_own_names():
    assert json.loads(lookup_of_key(7, b'{"conversation_ids": ["a", "key8:a"]}')) == {
        "conversation_ids": ["key7:a", "key7:key8:a"]
    }
    assert without_key(7, stream("key7:a", is_done=True)) == stream("a", is_done=True)
