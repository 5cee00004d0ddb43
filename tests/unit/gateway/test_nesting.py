"""How deep JSON is nested: told while it comes, whatever it is made of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.nesting import DEEPEST, Nesting, is_too_deep


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"1" + b"]}" * (levels // 2)


def in_pieces(body: bytes, size: int, **more) -> bool:
    nesting = Nesting(**more)
    return any(nesting.is_too_deep(body[at : at + size]) for at in range(0, len(body), size))


def depth_of(value) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@pytest.mark.parametrize("size", [1, 2, 7, 10**6])
def test_the_deepest_nesting_passes_and_one_more_level_does_not(size):
    assert not in_pieces(nested(DEEPEST), size)
    assert in_pieces(b"[" + nested(DEEPEST) + b"]", size)


def test_deep_nesting_is_found_before_the_end_of_the_body():
    assert is_too_deep(b"[" * (DEEPEST + 1))


@pytest.mark.parametrize("size", [1, 3, 10**6])
@pytest.mark.parametrize("text", ["[" * 500, '\\"' + "{" * 500, "\\" * 7 + '"' + "[" * 500, '"[' * 300])
def test_brackets_in_strings_are_text(text, size):
    assert not in_pieces(json.dumps({"prompt": text, "more": [text]}).encode(), size)


@pytest.mark.parametrize("size", [1, 3, 10**6])
@pytest.mark.parametrize("before", ["\\", '"', 'a\\"b', "\\\\", ""])
def test_a_string_before_deep_nesting_hides_nothing(before, size):
    body = b'{"x":' + json.dumps(before).encode() + b',"y":' + nested(DEEPEST) + b"}"
    assert in_pieces(body, size)


def test_many_brackets_beside_each_other_are_not_deep():
    assert not is_too_deep(json.dumps([[{}] for _ in range(10_000)]).encode())


@pytest.mark.parametrize("blank", [b"", b"  \n", b"\xef\xbb\xbf"])
def test_white_space_or_a_byte_order_mark_hides_no_nesting(blank):
    assert in_pieces(blank + b"[" * 300, 1)


@pytest.mark.parametrize("body", [b"--boundary\r\n" + b"[" * 300, b"x" + b"{" * 300])
def test_nesting_is_looked_for_in_json_alone(body):
    assert not in_pieces(body, 50)


def test_nesting_is_not_looked_for_in_a_form():
    assert not in_pieces(b"[" * 300, 50, is_json=False)


VALUES = st.recursive(
    st.none() | st.text('[]{}"\\a') | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\'), inner, max_size=3),
    max_leaves=20,
)


@given(st.lists(VALUES) | st.dictionaries(st.text('{"'), VALUES), st.integers(0, 210), st.integers(1, 40))
def test_nesting_is_as_deep_as_a_parser_finds_it(value, wrapped, size):
    body = b"[" * wrapped + json.dumps(value).encode() + b"]" * wrapped
    assert in_pieces(body, size) == (depth_of(value) + wrapped > DEEPEST)
