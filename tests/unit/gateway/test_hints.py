"""Hints of a request, read from its whole JSON or its query as llama-server reads them."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.llama.hints import (
    AMBIGUOUS,
    NO_HINTS,
    Hints,
    hints_of,
    hints_of_query,
    prefix_digest,
)
from tests.unit.gateway.bodies import body_of, user

# JSON


def test_hints_are_model_stream_limit_and_session():
    body = body_of(
        messages=[user("hello")], model="tiny", stream=True, max_tokens=7, prompt_cache_key="chat-1"
    )
    assert hints_of(body, b"application/json") == Hints(
        model="tiny", stream=True, max_tokens=7, session="chat-1"
    )


def test_the_type_that_curl_sends_is_no_obstacle():
    assert hints_of(body_of(model="tiny"), b"application/x-www-form-urlencoded").model == "tiny"


def test_a_hint_inside_of_a_message_is_ignored():
    assert (
        hints_of(body_of(messages=[user('"model":"b","stream":true')], metadata={"model": "c"})) == NO_HINTS
    )


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'\xef\xbb\xbf{"mod\\u0065l":"b"}'])
def test_names_are_read_as_the_server_reads_them(body):
    assert hints_of(body).model == "b"


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 3, "n_predict": 2}, 2),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 4),
        ({"max_tokens": 3, "n_predict": None}, 3),
        ({"max_output_tokens": 5}, 5),
        ({"max_tokens": 2.7}, 2),
        ({"max_tokens": 3, "n_predict": -1}, None),
        ({"max_tokens": "3"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": 10**30}, 2**31 - 1),
        ({}, None),
    ],
)
def test_the_limit_is_the_one_that_the_server_goes_by(fields, limit):
    assert hints_of(body_of(**fields)).max_tokens == limit


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"n": 4}, 4),
        ({"n": 2.9}, 2),
        ({"n": 4, "n_cmpl": 2}, 2),
        ({"n": 4, "n_cmpl": None}, 4),
        ({"n": 4, "model": 7}, 4),
        ({"n": 10**30}, 2**31 - 1),
        ({"n": 0}, 1),
        ({"n": -1}, 1),
        ({"n": None}, 1),
        ({"n": "4"}, 1),
        ({"n": True}, 1),
        ({}, 1),
    ],
)
def test_the_number_of_answers_is_read_as_the_server_reads_it(fields, answers):
    assert hints_of(body_of(**fields)) == Hints(answers=answers)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("one", 1),
        (["one", ""], 2),
        ([1, 2, 3], 1),
        ([1, "one"], 1),
        (["one", 1, "two"], 1),
        ([[1, 2], [3]], 2),
        (["one", [1, "two"], {"prompt_string": "three"}], 3),
        ({"prompt_string": "one"}, 1),
        ([], 1),
        (["one", None], 1),
        (None, 1),
    ],
)
def test_prompts_are_counted_as_the_server_takes_them(prompt, prompts):
    assert hints_of(body_of(prompt=prompt)) == Hints(prompts=prompts)
    assert hints_of(body_of(prompt=prompt, n=2, model=7)) == Hints(answers=2, prompts=prompts)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": 7, "stream": "yes", "max_tokens": [], "session_id": {}},
        {"model": {"id": "a"}, "stream": 1, "prompt_cache_key": None},
        {"model": "m" * 2000},
    ],
)
def test_a_wrong_type_is_ignored(fields):
    assert hints_of(body_of(**fields)) == NO_HINTS


def test_a_wrong_type_does_not_hide_the_others():
    assert hints_of(body_of(model="tiny", max_tokens="many", messages=7)) == Hints(model="tiny")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model":"a"',
        b'{"model":"a"} x',
        b'["model"]',
        b'{"model":"a\xff"}',
        b'{"model":"\\ud800"}',
        b'{"model":"a","x":' + b'{"x":' * 5000 + b"1" + b"}" * 5001,
        b"\x00\xff",
    ],
)
def test_a_body_that_cannot_be_read_gives_no_hints(body):
    assert hints_of(body) == NO_HINTS
    assert prefix_digest(body) is None


# Query


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ("model=tiny", "tiny"),
        ("a=b&model=t%69ny+2", "tiny 2"),
        ("model=", None),
        ("supermodel=a", None),
        ("", None),
    ],
)
def test_a_query_names_the_model(query, model):
    assert hints_of_query(query) == Hints(model)


@pytest.mark.parametrize(
    "query",
    [
        "model=a&model=b",
        "model=a&model=b&model=a",
        "model=a&mod%65l=b",
        "model=b#&model=a",
        "model=b&model=",
        "model=a&%u006dodel=b",
    ],
)
def test_a_body_that_servers_read_differently_is_in_doubt(query):
    assert hints_of_query(query).doubt == AMBIGUOUS
