"""The digest of the beginning of a conversation: it stays while the conversation grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.hints import (
    prefix_digest,
)
from tests.unit.gateway.bodies import body_of, user

TURN = st.sampled_from(["user", "assistant", "tool"]).flatmap(
    lambda role: st.fixed_dictionaries({"role": st.just(role), "content": st.text()})
)


@given(st.text(), st.text(), st.lists(TURN, max_size=5), st.integers(0, 9))
def test_messages_at_the_end_do_not_change_the_digest(system, question, turns, temperature):
    first = [{"role": "system", "content": system}, user(question)]
    begun = prefix_digest(body_of(messages=first))
    assert begun is not None
    assert prefix_digest(body_of(temperature=temperature, messages=first + turns, stream=True)) == begun


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [user("b")]},
        {"messages": [{"role": "system", "content": "s"}, user("a")]},
        {"system": "s", "messages": [user("a")]},
        {"instructions": "s", "input": [user("a")]},
        {"input": "a"},
        {"prompt": "b"},
        {"prompt": [1, 2]},
        {"prompt": ["a", "b"]},
    ],
)
def test_another_conversation_has_another_digest(other):
    digest = prefix_digest(body_of(**other))
    assert digest is not None
    assert len(digest) == 8
    assert digest != prefix_digest(body_of(messages=[user("a")]))


def test_marks_on_a_message_do_not_change_the_digest():
    plain = user([{"type": "text", "text": "hello"}])
    marked = user([{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}])
    later = [plain, {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}, marked]
    assert prefix_digest(body_of(messages=[marked])) == prefix_digest(body_of(messages=later))


def test_a_prompt_that_grows_keeps_its_digest():
    begun = "x" * 1024
    assert prefix_digest(body_of(prompt=begun)) == prefix_digest(body_of(prompt=begun + "y"))


def test_messages_of_a_wrong_shape_have_a_digest_all_the_same():
    bodies = [{"messages": [7, "a"]}, {"messages": [{"role": 1}]}, {"messages": {"a": 1}}]
    assert len({prefix_digest(body_of(**body)) for body in bodies}) == 3


def test_a_body_without_a_conversation_has_no_digest():
    assert prefix_digest(b'{"content":"tokenize this"}') is None
