"""What is put together from a stream is, field for field, what the real server answers without one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor_app.gateway.llama.operations import operation_of
from supervisor_app.gateway.llama.unstream import Assembler, restream
from tests.integration.gateway.engines import ENGINES, TEMPLATE, engine, make_model_that_says, post

pytestmark = pytest.mark.engine

CHAT, COMPLETION, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
QUESTION = [{"role": "user", "content": "hi"}]
LLAMA = 'root ::= "a🦙b"'
"""Forces an answer of which one character takes four tokens."""
FIXED = {"temperature": 0, "seed": 1, "cache_prompt": False}
VARYING = {"created", "id_slot"}


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "It.", "parameters": parameters}}


TOOLS = [
    tool("weather", city={"type": "string"}, days={"type": "integer"}),
    tool("time", utc={"type": "boolean"}),
]
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "yes"]}}, "required": ["a"]}


def comparable(value):
    """Without what differs between two runs: times, random names, the last digits of a probability."""
    if isinstance(value, dict):
        return {
            key: sorted(inner) if key == "timings" else comparable(inner)
            for key, inner in value.items()
            if key not in VARYING and not (key == "id" and isinstance(inner, str))
        }
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return round(value, 2) if isinstance(value, float) else value


def answered(running, path, body):
    status, answer = post(running, path, body)
    return status, json.loads(answer)


def put_together(running, path, body):
    """Status and answer by way of a stream, and whether it claims to be the same."""
    kind = operation_of("POST", path).assembled
    asked = restream(kind, json.dumps(body).encode())
    assert asked is not None
    status, stream = post(running, path, asked)
    if status != 200:
        return status, json.loads(stream), True
    assembler = Assembler(kind)
    for start in range(0, len(stream), 100):
        assembler.feed(stream[start : start + 100])
    if assembler.error:
        return assembler.error.status, json.loads(assembler.error.body), True
    return status, json.loads(assembler.result()), assembler.certain


def assert_same(running, path, **fields):
    """Returns the message, or whatever the answer is."""
    body = {**FIXED, **fields}
    status, expected = answered(running, path, body)
    got_status, got, certain = put_together(running, path, body)
    assert certain
    assert (got_status, comparable(got)) == (status, comparable(expected))
    return expected["choices"][0].get("message") if "choices" in expected else expected


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tmp_path_factory):
    flags = ("-c", "8192", "-np", "4", "--jinja", "--chat-template-file", str(TEMPLATE))
    with engine(request.param, tmp_path_factory.mktemp("engine"), *flags) as running:
        yield running


CHATS = {
    "plain": {},
    "one token": {"max_tokens": 1},
    "limit of none": {"max_tokens": 0},
    "several choices": {"n": 3},
    "several that differ": {"n": 3, "temperature": 0.9},
    "a character of four tokens": {"grammar": LLAMA},
    "a character that is cut": {"grammar": LLAMA, "max_tokens": 3},
    "nothing": {"grammar": 'root ::= ""'},
    "schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "max_tokens": 60,
    },
    "timings with each token": {"timings_per_token": True},
    "progress": {"return_progress": True},
    "options of a stream": {"stream_options": {"include_usage": False}},
    "pings": {"sse_ping_interval": 1},
    "thoughts": {"grammar": 'root ::= "<think>\\nwell\\n</think>\\n\\nyes it is  "', "max_tokens": 80},
    "thoughts left in": {
        "grammar": 'root ::= "<think>\\nwell\\n</think>\\nyes"',
        "max_tokens": 80,
        "reasoning_format": "none",
    },
    "thoughts in the text": {
        "grammar": 'root ::= "<think>\\nwell\\n</think>\\nyes"',
        "max_tokens": 80,
        "reasoning_format": "deepseek-legacy",
    },
    "no thoughts": {"chat_template_kwargs": {"enable_thinking": False}},
    "tools that are not used": {"tools": TOOLS},
    "a tool that must be used": {"tools": TOOLS, "tool_choice": "required"},
    "the context is full": {"max_tokens": -1, "messages": [{"role": "user", "content": "hi " * 400}]},
    "too long": {"messages": [{"role": "user", "content": "hi " * 9000}]},
    "wrong type": {"max_tokens": "many"},
    "too many choices": {"n": 99},
    "bad grammar": {"grammar": "root ::= ("},
    "bad message": {"messages": [{"role": "user"}]},
    "bad tool": {"tools": [7]},
    "image": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    },
}


@pytest.mark.parametrize("fields", CHATS.values(), ids=CHATS)
def test_chats(server, fields):
    assert_same(server, CHAT, **{"messages": QUESTION, "max_tokens": 12, **fields})


COMPLETIONS = {
    "plain": {},
    "several prompts": {"prompt": ["x", "y", "z"]},
    "one in a list": {"prompt": ["x"]},
    "tokens": {"prompt": [354, 359]},
    "tokens and texts": {"prompt": [354, "x", 359]},
    "several choices": {"n": 2},
    "echo": {"echo": True},
    "progress": {"return_progress": True},
    "no logprobs": {"logprobs": 0},
    "logprobs": {"logprobs": 2},
    "probabilities": {"logprobs": 2, "post_sampling_probs": True},
    "logprobs of a character of four tokens": {"logprobs": 2, "grammar": LLAMA},
    "logprobs of a character that is cut": {"logprobs": 2, "grammar": LLAMA, "max_tokens": 3},
    "logprobs of several prompts": {"logprobs": 1, "prompt": ["x", "y"]},
    "nothing": {"grammar": 'root ::= ""'},
    "empty prompt": {"prompt": ""},
    "too long": {"prompt": "hi " * 9000},
    "no prompt": {"prompt": None},
}


@pytest.mark.parametrize("fields", COMPLETIONS.values(), ids=COMPLETIONS)
def test_completions(server, fields):
    assert_same(server, COMPLETION, **{"prompt": "x", "max_tokens": 12, **fields})


NATIVES = {
    "plain": {},
    "one in a list": {"prompt": ["x"]},
    "tokens": {"prompt": [354, 359]},
    "object": {"prompt": {"prompt_string": "x"}},
    "logprobs": {"n_probs": 2},
    "probabilities": {"n_probs": 2, "post_sampling_probs": True},
    "logprobs of a character of four tokens": {"n_probs": 2, "grammar": LLAMA},
    "logprobs of a character that is cut": {"n_probs": 2, "grammar": LLAMA, "n_predict": 3},
    "thoughts in the text": {"reasoning_format": "deepseek-legacy"},
    "slot": {"id_slot": 1},
    "timings with each token": {"timings_per_token": True},
    "progress": {"return_progress": True},
    "schema": {"json_schema": {"enum": ["a", "b"]}},
    "too long": {"prompt": "hi " * 9000},
    "no prompt": {"prompt": None},
}


@pytest.mark.parametrize("fields", NATIVES.values(), ids=NATIVES)
def test_native_completions(server, fields):
    assert_same(server, NATIVE, **{"prompt": "x", "n_predict": 12, **fields})


@pytest.mark.parametrize("limit", range(6))
def test_a_character_is_cut_where_the_server_cuts_it(server, limit):
    grammar = 'root ::= "🦙"'
    assert_same(server, COMPLETION, prompt="x", max_tokens=limit, grammar=grammar)
    assert_same(server, NATIVE, prompt="x", n_predict=limit, grammar=grammar)


CALL = '{"name": "weather", "arguments": {"city": "Zü', 'rich", "days', '": 1}}'
SCRIPTS: dict[str, Any] = {
    "call": (["<tool_call>\n", *CALL, "\n</tool", "_call>"], {"tools": TOOLS}, {"tool_calls"}),
    "thought, text and call": (
        ["<think>\n", "Let me", " see.", "\n</think>\n\n", "Wait.", "<tool_call>\n", *CALL, "\n</tool_call>"],
        {"tools": TOOLS, "tool_choice": "required"},
        {"reasoning_content", "content", "tool_calls"},
    ),
    "two calls": (
        [
            "<tool_call>\n",
            *CALL,
            "\n</tool_call>\n",
            '<tool_call>\n{"name": "time", ',
            '"arguments": {"utc": true}}',
            "\n</tool_call>",
        ],
        {"tools": TOOLS, "parallel_tool_calls": True},
        {"tool_calls"},
    ),
    "no tools": (["<tool_call>\n", *CALL, "\n</tool_call>"], {}, {"content"}),
    "white space at the end": (["Well", " \n", "\t", "  "], {}, {"content"}),
    "white space": ([" \n", "\t", "  "], {}, set()),
}
"""Pieces of an answer, what to ask for, and of what the message is to be made; nothing: it cannot be known."""


@pytest.fixture(scope="module", params=SCRIPTS)
def scripted(request, tmp_path_factory):
    """A server that answers every chat in the same words, what to ask it, and the script."""
    pieces, fields, parts = SCRIPTS[request.param]
    directory = tmp_path_factory.mktemp("scripted")
    model = make_model_that_says(directory / "scripted.gguf", *pieces)
    flags = ("-m", str(model), "-c", "4096", "-np", "1", "--jinja", "--chat-template-file", str(TEMPLATE))
    with engine("llama-server", directory, *flags) as running:
        yield running, {**FIXED, "messages": QUESTION, **fields}, pieces, parts


def test_an_answer_cut_anywhere_is_the_same_or_said_to_be_uncertain(scripted):
    running, body, pieces, parts = scripted
    for limit in range(1, len(pieces) + 2):
        status, expected = answered(running, CHAT, {**body, "max_tokens": limit})
        got_status, got, certain = put_together(running, CHAT, {**body, "max_tokens": limit})
        if certain:
            assert (got_status, comparable(got)) == (status, comparable(expected))
    message = expected["choices"][0]["message"]
    assert certain == bool(parts)
    assert expected["choices"][0]["finish_reason"] != "length"
    assert not parts or {key for key in message if message[key]} == {"role", *parts}
