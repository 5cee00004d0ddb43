"""Errors as the clients of each API read them."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.llama.dialects import (
    Dialect,
    Stream,
    dialect_of,
    error_body,
    error_event,
    error_type,
    id_fields,
)

OPENAI, RESPONSES, ANTHROPIC, LLAMA = Dialect
ERROR = {"message": 'It "died"', "type": "server_error", "param": None, "code": "upstream_crashed"}
NOTHING_KNOWN = Stream()


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", OPENAI),
        ("/chat/completions", OPENAI),
        ("/v1/completions", OPENAI),
        ("/v1/embeddings", OPENAI),
        ("/v1/audio/transcriptions", OPENAI),
        ("/v1/models", OPENAI),
        ("/v1/models/qwen", OPENAI),
        ("/models", OPENAI),
        ("/v1/anything", OPENAI),
        ("/prefix/v1/chat/completions", OPENAI),
        ("", OPENAI),
        ("/v1/responses", RESPONSES),
        ("/responses", RESPONSES),
        ("/v1/responses/input_tokens", RESPONSES),
        ("/v1/messages", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/prefix/v1/messages", ANTHROPIC),
        ("/completion", LLAMA),
        ("/completions", LLAMA),
        ("/infill", LLAMA),
        ("/tokenize", LLAMA),
        ("/slots", LLAMA),
        ("/props", LLAMA),
        ("/models/load", LLAMA),
        ("/v1/stream", LLAMA),
        ("/", LLAMA),
        ("/messages-of-mine", LLAMA),
    ],
)
def test_a_path_belongs_to_one_api(path, dialect):
    assert dialect_of(path) is dialect


@pytest.mark.parametrize(
    ("status", "openai", "anthropic", "llama"),
    [
        (400, "invalid_request_error", "invalid_request_error", "invalid_request_error"),
        (401, "invalid_request_error", "authentication_error", "authentication_error"),
        (403, "invalid_request_error", "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large", "invalid_request_error"),
        (422, "invalid_request_error", "invalid_request_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error", "server_error"),
        (502, "server_error", "api_error", "server_error"),
        (503, "server_error", "api_error", "unavailable_error"),
    ],
)
def test_each_api_has_a_word_of_its_own_for_a_status(status, openai, anthropic, llama):
    words = [error_type(dialect, status, retry_helps=False) for dialect in Dialect]
    assert words == [openai, openai, anthropic, llama]


def test_clients_of_anthropic_are_told_when_a_retry_helps():
    assert error_type(ANTHROPIC, 502, retry_helps=True) == "overloaded_error"
    assert error_type(ANTHROPIC, 429, retry_helps=True) == "rate_limit_error"
    assert error_type(OPENAI, 502, retry_helps=True) == "server_error"


def test_a_request_has_a_name_where_its_clients_look_for_it():
    assert id_fields(OPENAI, "req_a_1") == b"X-Request-Id: req_a_1\r\n"
    assert id_fields(ANTHROPIC, "req_a_1") == b"X-Request-Id: req_a_1\r\nRequest-Id: req_a_1\r\n"


@pytest.mark.parametrize("dialect", [OPENAI, RESPONSES, LLAMA])
def test_an_answer_has_the_error_alone(dialect):
    assert json.loads(error_body(dialect, ERROR)) == {"error": ERROR}


def test_an_answer_to_anthropics_clients_says_besides_that_it_is_an_error():
    assert json.loads(error_body(ANTHROPIC, ERROR)) == {"type": "error", "error": ERROR}


def events_of(dialect, error=ERROR, stream=NOTHING_KNOWN):
    """Name, or none, and data of each."""
    text = error_event(dialect, error, stream).decode()
    assert text.endswith("\n\n")
    events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in text[:-2].split("\n\n")]
    return [(event.get("event"), json.loads(event["data"])) for event in events]


@pytest.mark.parametrize("dialect", [OPENAI, LLAMA])
def test_in_a_stream_an_error_is_data_alone(dialect):
    assert events_of(dialect) == [(None, {"error": ERROR})]


def test_in_a_stream_of_anthropic_an_error_is_an_event_of_that_name():
    assert events_of(ANTHROPIC) == [("error", {"type": "error", "error": ERROR})]


def test_a_stream_of_the_responses_api_fails_before_its_error_is_told():
    began = b'event: response.created\ndata: {"response":{"id":"resp_x-1","object":"response"}}\n\n'
    stream = Stream(beginning=began, model="qwen", asked_at=12.7)
    failed, error = events_of(RESPONSES, stream=stream)
    assert failed == (
        "response.failed",
        {
            "type": "response.failed",
            "sequence_number": 0,
            "response": {
                "id": "resp_x-1",
                "object": "response",
                "created_at": 12,
                "status": "failed",
                "error": {"code": "server_error", "message": 'It "died"'},
                "incomplete_details": None,
                "model": "qwen",
                "output": [],
                "usage": None,
            },
        },
    )
    fields = {key: ERROR[key] for key in ("message", "code", "param")}
    assert error == ("error", {"type": "error", "sequence_number": 1, **fields, "error": ERROR})


def test_events_that_were_numbered_are_numbered_on():
    stream = Stream(end=b'data: {"sequence_number":7}\n\ndata: {"sequence_number": 8,"delta":"a"}\n\n')
    assert [data["sequence_number"] for _, data in events_of(RESPONSES, stream=stream)] == [9, 10]


def test_a_response_of_which_nothing_is_known_fails_all_the_same():
    (_, failed), _ = events_of(RESPONSES)
    assert failed["response"]["id"].startswith("resp_")


@pytest.mark.parametrize("dialect", Dialect)
def test_a_line_break_in_a_message_does_not_break_the_event(dialect):
    *_, (_, data) = events_of(dialect, {**ERROR, "message": "one\n\ntwo"})
    assert data["error"]["message"] == "one\n\ntwo"
