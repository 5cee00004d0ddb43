"""A conversation put together from the bodies of a request and of its answer."""

from __future__ import annotations

import json

import pytest

from supervisor_app.traffic.conversation import turns_of


def told(request=None, answer=None):
    """Each turn as `role note: text`."""
    bodies = [
        each if each is None or isinstance(each, str) else json.dumps(each) for each in (request, answer)
    ]
    return [f"{turn.role} {turn.note}".strip() + f": {turn.text}" for turn in turns_of(*bodies)]


def stream(*events):
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def delta(index=0, **piece):
    return {"choices": [{"index": index, "delta": piece}]}


CALL = {"function": {"name": "look", "arguments": '{"at": "sky"}'}}


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        (
            {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
            ["system: Be kind.", "user: Why?"],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url"}]}
                ]
            },
            ["user: See\n[image_url]"],
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
            ['assistant calls look: {"at": "sky"}'],
        ),
        ({"system": [{"type": "text", "text": "Be kind."}], "messages": []}, ["system: Be kind."]),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "name": "look", "input": {"a": 1}}],
                    },
                    {"role": "user", "content": [{"type": "tool_result", "content": "blue"}]},
                ]
            },
            ['assistant calls look: {"a": 1}', "user: blue"],
        ),
        ({"instructions": "Be kind.", "input": "Why?"}, ["system: Be kind.", "user: Why?"]),
        ({"input": [{"role": "user", "content": "Why?"}]}, ["user: Why?"]),
        ({"prompt": ["one", "two"]}, ["user: one", "user: two"]),
        ({"prompt": [1, 2, 3]}, []),
        ({"messages": "no list", "prompt": 7}, []),
        ("[]", []),
        ('{"messages": [{"role": "us', []),
        ('{"messages": [{"content": "one"}, {"content": "tw', ["user: one", "cut here: …"]),
        (
            {"input": [{"type": "function_call", "name": "look", "arguments": "{}"}]},
            ["assistant calls look: {}"],
        ),
        ({"input": [{"type": "function_call_output", "output": "blue"}]}, ["tool: blue"]),
    ],
)
def test_a_request_is_read_in_the_form_of_its_api(body, turns):
    assert told(body) == turns


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        (
            {"choices": [{"message": {"content": "Air.", "reasoning_content": "Hm."}}]},
            ["reasoning: Hm.", "assistant: Air."],
        ),
        ({"choices": [{"text": "Air."}]}, ["assistant: Air."]),
        ({"content": "Air."}, ["assistant: Air."]),
        ({"content": [{"type": "text", "text": "Air."}]}, ["assistant: Air."]),
        (
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Air."}]}]},
            ["assistant: Air."],
        ),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": [], "content": [{"text": "Hm."}]},
                    {"type": "function_call", "name": "look", "arguments": "{}"},
                ]
            },
            ["reasoning: Hm.", "assistant calls look: {}"],
        ),
        ({"error": {"message": "The context is full."}}, ["error: The context is full."]),
        ({"data": [{"embedding": [0.1]}]}, []),
        ("not json", []),
    ],
)
def test_a_whole_answer_is_read_in_the_form_of_its_api(body, turns):
    assert told(None, body) == turns


@pytest.mark.parametrize(
    ("events", "turns"),
    [
        (
            [
                delta(role="assistant", content=None),
                delta(reasoning_content="Hm."),
                delta(content="A"),
                delta(content="ir."),
            ],
            ["reasoning: Hm.", "assistant: Air."],
        ),
        ([delta(1, content="two"), delta(0, content="one")], ["assistant: one", "assistant: two"]),
        (
            [
                delta(tool_calls=[{"index": 0, "function": {"name": "look", "arguments": '{"at"'}}]),
                delta(tool_calls=[{"index": 0, "function": {"arguments": ': "sky"}'}}]),
            ],
            ['assistant calls look: {"at": "sky"}'],
        ),
        ([{"choices": [{"text": "A"}]}, {"choices": [{"text": "ir."}]}], ["assistant: Air."]),
        ([{"content": "A"}, {"content": "ir.", "stop": True}], ["assistant: Air."]),
        (
            [
                {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm."}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Air."}},
            ],
            ["reasoning: Hm.", "assistant: Air."],
        ),
        (
            [
                {"type": "response.reasoning_text.delta", "delta": "Hm."},
                {"type": "response.output_text.delta", "delta": "Air."},
                {"type": "response.other.delta", "delta": "no"},
            ],
            ["reasoning: Hm.", "assistant: Air."],
        ),
        (
            [
                {
                    "type": "content_block_start",
                    "index": 1,
                    "content_block": {"type": "tool_use", "name": "look"},
                },
                {"type": "content_block_delta", "index": 1, "delta": {"partial_json": '{"at"'}},
                {"type": "content_block_delta", "index": 1, "delta": {"partial_json": ': "sky"}'}},
            ],
            ['assistant calls look: {"at": "sky"}'],
        ),
        (
            [
                {
                    "type": "response.output_item.added",
                    "output_index": 1,
                    "item": {"type": "function_call", "name": "look"},
                },
                {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
                {
                    "type": "response.output_item.done",
                    "output_index": 1,
                    "item": {"type": "function_call", "name": "look"},
                },
            ],
            ["assistant calls look: {}"],
        ),
        (
            [delta(content="A"), {"error": {"code": "upstream_crashed"}}],
            ["assistant: A", 'error: {"code": "upstream_crashed"}'],
        ),
    ],
)
def test_a_stream_is_put_together_in_the_form_of_its_api(events, turns):
    assert told(None, stream(*events) + "data: [DONE]\n\n") == turns


def test_a_stream_that_was_cut_is_read_as_far_as_it_goes():
    assert told(None, stream(delta(content="Air"))[:-2] + '\n\ndata: {"choices": [{"del') == [
        "assistant: Air"
    ]
