from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.unstream import CHAT, NATIVE, TEXT, Assembler, BrokenStreamError, restream
from tests.unit.gateway.bodies import body_of

QUESTION = [{"role": "user", "content": "hi"}]
ANSWER = {"role": "assistant", "content": "I"}
DONE = b"data: [DONE]\n\n"


def sse(*events):
    return b"".join(b"data: %b\n\n" % json.dumps(event, ensure_ascii=False).encode() for event in events)


def assembled(kind, *pieces):
    assembler = Assembler(kind)
    for piece in pieces:
        assembler.feed(piece)
    assert assembler.whole
    return json.loads(assembler.result())


# What can be asked for as a stream


@pytest.mark.parametrize(
    ("kind", "fields", "added"),
    [
        (
            CHAT,
            {"messages": [*QUESTION, ANSWER, *QUESTION], "stream": False, "stop": [], "n": 2},
            {"stream": True, "stream_options": {"include_usage": True}},
        ),
        (CHAT, {"messages": []}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            TEXT,
            {"prompt": ["a", "b"], "stream": None, "logprobs": 2},
            {"stream": True, "timings_per_token": True},
        ),
        (NATIVE, {"prompt": "a", "n_probs": 2, "return_tokens": False}, {"stream": True}),
        (NATIVE, {"prompt": "a", "verbose": False, "n_indent": 0}, {"stream": True}),
        (NATIVE, {"prompt": [354, 359]}, {"stream": True}),
        (NATIVE, {"prompt": ["a"]}, {"stream": True}),
        (NATIVE, {"prompt": {"prompt_string": "a"}}, {"stream": True}),
    ],
)
def test_a_request_is_asked_for_as_a_stream(kind, fields, added):
    assert json.loads(restream(kind, body_of(**fields))) == fields | added


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (CHAT, {"messages": QUESTION, "stream": True}),
        (CHAT, {"messages": QUESTION, "stream": "yes"}),
        (CHAT, {"messages": QUESTION, "stop": "word"}),
        (CHAT, {"messages": QUESTION, "stop": ["word"]}),
        (CHAT, {"messages": QUESTION, "logprobs": True}),
        (CHAT, {"messages": QUESTION, "n_probs": 1}),
        (CHAT, {"messages": QUESTION, "verbose": True}),
        (CHAT, {"messages": QUESTION, "n_indent": 1}),
        (CHAT, {"messages": [*QUESTION, ANSWER]}),
        (CHAT, {"messages": "hi"}),
        (CHAT, {"messages": ["hi"]}),
        (CHAT, {}),
        (TEXT, {"prompt": "a", "stop": ["word"]}),
        (TEXT, {"prompt": "a", "verbose": True}),
        (TEXT, {"prompt": "a", "n_indent": 1}),
        (NATIVE, {"prompt": "a", "stop": ["word"]}),
        (NATIVE, {"prompt": "a", "n_indent": 1}),
        (NATIVE, {"prompt": "a", "return_tokens": True}),
        (NATIVE, {"prompt": "a", "response_fields": ["content"]}),
        (NATIVE, {"prompt": "a", "n": 2}),
        (NATIVE, {"prompt": ["a", "b"]}),
        (NATIVE, {"prompt": [[354], [359]]}),
    ],
)
def test_a_request_whose_answer_no_stream_carries_is_sent_as_it_is(kind, fields):
    assert restream(kind, body_of(**fields)) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"messages":[{"role":7}]}', b'{"messages":' + b"[" * 5000, b"\xff"]
)
def test_an_unreadable_request_is_sent_as_it_is(body):
    assert restream(CHAT, body) is None


def test_a_long_body_is_passed_on_byte_for_byte():
    messages = b'[ {"role":"user", "content":"\\u00e4 \xc3\xa4 1.0e0"} ]'
    assert messages in restream(CHAT, b'{"temperature":0.10, "messages":%b}' % messages)


# Chats


def chat_event(delta=None, index=0, end=None, **fields):
    choices = [] if delta is None else [{"finish_reason": end, "index": index, "delta": delta}]
    return {"choices": choices, "id": "c", "model": "m", "object": "chat.completion.chunk", **fields}


def usage(tokens):
    return chat_event(usage={"completion_tokens": tokens}, timings={"predicted_n": tokens})


def chat_answer(*choices, tokens):
    return {
        "choices": [
            {"finish_reason": end, "index": index, "message": {"role": "assistant", **message}}
            for index, (message, end) in enumerate(choices)
        ],
        "id": "c",
        "model": "m",
        "object": "chat.completion",
        "usage": {"completion_tokens": tokens},
        "timings": {"predicted_n": tokens},
    }


ROLE = {"role": "assistant", "content": None}


def call(index=0, **function):
    started = {"id": f"id{index}", "type": "function"} if "name" in function else {"id": None}
    return {"tool_calls": [{"index": index, **started, "function": function}]}


THOUGHT_AND_CALLED = sse(
    chat_event(ROLE),
    chat_event({"reasoning_content": "Let me "}),
    chat_event({"reasoning_content": "see."}),
    chat_event({"content": "Wait: "}),
    chat_event({"content": "🦙"}),
    chat_event(call(name="weather", arguments="{")),
    chat_event(call(arguments='"city":')),
    chat_event(call(arguments='"Zürich"}')),
    chat_event(call(1, name="time", arguments="{}")),
    chat_event({}, end="tool_calls"),
    usage(9),
)
CALLED = {
    "content": "Wait: 🦙",
    "reasoning_content": "Let me see.",
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich"}'}, "id": "id0"},
        {"type": "function", "function": {"name": "time", "arguments": "{}"}, "id": "id1"},
    ],
}


def test_text_thoughts_and_tool_calls_are_put_together():
    assert assembled(CHAT, THOUGHT_AND_CALLED + DONE) == chat_answer((CALLED, "tool_calls"), tokens=9)


@given(
    st.lists(st.integers(0, len(THOUGHT_AND_CALLED)), max_size=30), st.sampled_from([b":\n\n", b"", b"\r\n"])
)
def test_an_answer_is_the_same_in_whatever_pieces_its_stream_comes(cuts, between):
    stream = between + THOUGHT_AND_CALLED.replace(b"\n\n", b"\n\n" + between) + DONE
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert assembled(CHAT, *pieces) == chat_answer((CALLED, "tool_calls"), tokens=9)


def test_several_choices_come_interleaved_and_the_first_tells_the_usage():
    stream = sse(
        chat_event(ROLE),
        chat_event(ROLE, 1),
        chat_event({"content": "b"}, 1),
        chat_event({"content": "a"}),
        chat_event({}, end="length"),
        usage(1),
        chat_event({"content": "c"}, 1),
        chat_event({}, 1, end="stop"),
        usage(2),
    )
    expected = chat_answer(({"content": "a"}, "length"), ({"content": "bc"}, "stop"), tokens=1)
    assert assembled(CHAT, stream + DONE) == expected


def test_fields_that_are_not_known_are_kept_as_they_are():
    end = b'data: {"choices":[],"new":{"x":1.50},"object":"chat.completion.chunk"}\n\n'
    assembler = Assembler(CHAT)
    assembler.feed(sse(chat_event({"content": "a"}), chat_event({}, end="stop")) + end + DONE)
    assert b'"new":{"x":1.50}' in assembler.result()


@pytest.mark.parametrize(
    ("text", "end", "tokens", "certain"),
    [("", "stop", 1, True), ("", "stop", 2, False), ("", "length", 1, False), ("a", "length", 1, True)],
)
def test_a_chat_without_text_is_certain_only_if_its_one_token_was_the_end(text, end, tokens, certain):
    assembler = Assembler(CHAT)
    assembler.feed(sse(chat_event({"content": text}), chat_event({}, end=end), usage(tokens)) + DONE)
    assert assembler.whole
    assert assembler.certain == certain


# Texts


def text_event(text, index=0, end=None, predicted=None, **fields):
    choice = {"text": text, "index": index, "logprobs": fields.pop("logprobs", None), "finish_reason": end}
    timings = {} if predicted is None else {"timings": {"predicted_n": predicted}}
    return {"choices": [choice], "object": "text_completion", "id": "c", **timings, **fields}


def test_texts_and_their_logprobs_are_put_together():
    stream = b"data: null\n\n" + sse(
        text_event("a", predicted=1, logprobs={"content": [{"token": "a"}]}),
        text_event("x", 1, predicted=1),
        text_event("b", predicted=2, logprobs={"content": [{"token": "b"}, {"token": ""}]}),
        text_event("", predicted=2, end="stop", usage={"total_tokens": 3}),
        text_event("", 1, predicted=1, end="length"),
    )
    logprobs = {"content": [{"token": "a"}, {"token": "b"}, {"token": ""}]}
    assert assembled(TEXT, stream + DONE) == {
        "choices": [
            {"text": "ab", "index": 0, "logprobs": logprobs, "finish_reason": "stop"},
            {"text": "x", "index": 1, "logprobs": None, "finish_reason": "length"},
        ],
        "object": "text_completion",
        "id": "c",
        "timings": {"predicted_n": 2},
        "usage": {"total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("at_piece", "at_end", "text"), [(1, 1, "a"), (1, 3, "a\ufffd"), (None, 3, "a"), (1, None, "a")]
)
def test_a_character_that_was_cut_is_told_as_the_server_tells_it(at_piece, at_end, text):
    stream = sse(text_event("a", predicted=at_piece), text_event("", predicted=at_end, end="length"))
    assert assembled(TEXT, stream + DONE)["choices"][0]["text"] == text


def test_a_native_answer_is_put_together():
    stream = sse(
        {"index": 0, "content": "a", "tokens": [1], "stop": False, "tokens_predicted": 1},
        {
            "index": 0,
            "content": "b",
            "stop": False,
            "tokens_predicted": 2,
            "completion_probabilities": [{"token": "b"}],
        },
        {
            "index": 0,
            "content": "",
            "tokens": [],
            "stop": True,
            "tokens_predicted": 4,
            "generation_settings": {"stream": True, "seed": 1, "reasoning_in_content": True},
        },
    )
    assert assembled(NATIVE, stream) == {
        "index": 0,
        "content": "ab\ufffd",
        "tokens": [],
        "stop": True,
        "tokens_predicted": 4,
        "generation_settings": {"stream": False, "seed": 1, "reasoning_in_content": False},
        "completion_probabilities": [{"token": "b"}],
    }


def test_a_native_answer_needs_no_settings():
    assert assembled(NATIVE, sse({"content": "a"}, {"stop": True})) == {"stop": True, "content": "a"}


# Ends


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        (CHAT, b""),
        (CHAT, DONE),
        (CHAT, sse(chat_event({"content": "a"})) + DONE),
        (CHAT, sse(chat_event({"content": "a"}), chat_event({}, end="stop"), usage(1))),
        (CHAT, sse(chat_event({"content": "a"})) + b"proxy error: Failed to read connection"),
        (TEXT, sse(text_event("a"), text_event("x", 1), text_event("", end="stop")) + DONE),
        (NATIVE, sse({"content": "a", "stop": False})),
    ],
)
def test_a_stream_that_ended_too_early_has_no_result(kind, stream):
    assembler = Assembler(kind)
    assembler.feed(stream)
    assert not assembler.whole
    with pytest.raises(BrokenStreamError, match="ended in the middle"):
        assembler.result()


@pytest.mark.parametrize("settings", [b"null", b'{"\xff":1}'])
def test_a_stream_whose_last_event_cannot_be_read_has_no_result(settings):
    assembler = Assembler(NATIVE)
    assembler.feed(b'data: {"content":"a"}\n\ndata: {"stop":true,"generation_settings":%b}\n\n' % settings)
    assert assembler.whole
    with pytest.raises(BrokenStreamError):
        assembler.result()


@pytest.mark.parametrize(
    "data",
    [b"{", b"7", b'{"choices":7}', b'{"choices":[{"delta":[]}]}', b'{"usage":7}', b"\xff", b"[" * 5000],
)
def test_an_event_of_another_kind_breaks_the_stream(data):
    with pytest.raises(BrokenStreamError):
        Assembler(CHAT).feed(b"data: %b\n\n" % data)


@pytest.mark.parametrize("kind", [CHAT, TEXT, NATIVE])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}, 400),
        ({"code": 200, "message": "?"}, 500),
        ({"code": "model_error"}, 500),
        ("gone", 500),
    ],
)
def test_an_error_in_the_stream_becomes_the_answer_it_would_have_been(kind, error, status):
    assembler = Assembler(kind)
    assembler.feed(sse({"error": error}))
    assert assembler.error.status == status
    assert json.loads(assembler.error.body) == {"error": error}
    assert not assembler.whole
