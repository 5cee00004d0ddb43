"""Hints of the beginning of a body, as soon as they are whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.hints import (
    TOO_LONG,
    hints_of_beginning,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4), JSON, st.booleans(), st.data())
def test_in_a_prefix_the_model_is_found_as_soon_as_it_is_whole(others, model, ascii_only, data):
    others.pop("model", None)
    before = data.draw(st.integers(0, len(others)))
    fields = list(others.items())
    fields.insert(before, ("model", model))
    body = json.dumps(dict(fields), ensure_ascii=ascii_only).encode()
    known = len(json.dumps(dict(fields[: before + 1]), ensure_ascii=ascii_only).encode()) - 1
    prefix = body[: data.draw(st.integers(0, len(body)))]
    expected = model if isinstance(model, str) and len(prefix) >= known else None
    assert hints_of_beginning(prefix).model == expected


@pytest.mark.parametrize(
    "prefix",
    [
        b'{"messages":[{"role":"user","content":"\\"model\\":\\"b\\"',
        b'{"messages":[{"model":"b"}',
        b'{"metadata":{"model":"b"},',
        b'{"a":"model","b":"c"',
        b'{"model":7,"name":"b"',
        b'{"model":["b"]',
        b'{"model"',
        b'{"model" : "b',
        b'{"content":"cut \\"model\\":\\"b\\"',
        b'{"content":"cut "model":"b"',
        b'{"model":"\\ud800"}',
        b'"model":"b"',
        b"",
    ],
)
def test_only_a_model_at_the_top_level_counts(prefix):
    assert hints_of_beginning(prefix).model is None


def test_an_escaped_key_is_the_same_key():
    prefix = b' { "a" : [ "}" ] , "mod\\u0065l" : "ti\\"ny" , "messages": ['
    assert hints_of_beginning(prefix).model == 'ti"ny'


@pytest.mark.parametrize(
    ("prefix", "stream"),
    [
        (b'{"stream":true,"messages":[', True),
        (b'{"messages":[{"stream":false}], "stream" : true', True),
        (b'{"model":"a","stream":tr', False),
        (b'{"stream":false,"messages":[', False),
        (b'{"stream":"true","messages":[', False),
        (b'{"options":{"stream":true},"messages":[', False),
        (b'{"stream"', False),
    ],
)
def test_in_a_prefix_the_top_level_stream_is_found(prefix, stream):
    assert hints_of_beginning(prefix).stream is stream


def test_hints_are_looked_for_only_to_a_bound():
    far = b'{"messages":[' + b"[]," * 200_000 + b'0],"model":"a"'
    assert hints_of_beginning(far).model is None


def test_a_model_in_the_beginning_of_a_body_is_in_doubt():
    assert hints_of_beginning(b'{"model":"a","x":"').doubt == TOO_LONG
    assert hints_of_beginning(b"").doubt == TOO_LONG
