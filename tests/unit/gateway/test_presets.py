"""Bodies as presets change them, by path; and mistakes in the description of presets."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.llama.operations import operation_of
from supervisor_app.gateway.llama.preset_mistakes import LARGEST, mistakes_in
from supervisor_app.gateway.llama.presets import PresetError, presets_of, rewrite

CHAT, TEXT, NATIVE = "/v1/chat/completions", "/v1/completions", "/completion"
MESSAGES, RESPONSES, EMBEDDINGS = "/v1/messages", "/v1/responses", "/v1/embeddings"
HI = {"role": "user", "content": "hi"}


def changed(said, body, path=CHAT):
    """Return the body without its model, which is always that of the preset."""
    (preset,) = presets_of({"brief": said}).values()
    form = operation_of("POST", path).presets
    raw = body if isinstance(body, bytes) else json.dumps({"model": "brief", **body}).encode()
    fields = json.loads(rewrite(preset, form, raw))
    assert fields.pop("model") == "brief"
    return fields


@pytest.mark.parametrize(
    ("said", "body", "expected"),
    [
        ({}, {"top_p": 1}, {"top_p": 1}),
        ({"set": {"top_p": 0.5}}, {"top_p": 1}, {"top_p": 0.5}),
        ({"set": {"top_p": 0.5, "stop": None}}, {}, {"top_p": 0.5, "stop": None}),
        ({"default": {"top_p": 0.5}}, {"top_p": 1}, {"top_p": 1}),
        ({"default": {"top_p": 0.5}}, {}, {"top_p": 0.5}),
        ({"default": {"top_p": 0.5}}, {"top_p": None}, {"top_p": 0.5}),
        ({"remove": ["top_p", "seed"]}, {"top_p": 1, "top_k": 3}, {"top_k": 3}),
        ({"remove": ["top_p"], "default": {"top_p": 0.5}}, {"top_p": 1}, {"top_p": 0.5}),
        ({"cap": {"top_k": 40}}, {"top_k": 100}, {"top_k": 40}),
        ({"cap": {"top_k": 40}}, {"top_k": 10}, {"top_k": 10}),
        ({"cap": {"top_k": 40}}, {"top_k": "many"}, {"top_k": 40}),
        ({"cap": {"top_k": 40}}, {}, {}),
        ({"cap": {"n": 1}}, {"n_cmpl": 8}, {"n": 1}),
        ({"set": {"max_tokens": 900}, "cap": {"max_tokens": 512}}, {}, {"max_tokens": 512}),
    ],
)
def test_fields_are_removed_filled_in_set_and_capped_in_this_order(said, body, expected):
    assert changed(said, body) == expected


@pytest.mark.parametrize(
    ("said", "body", "expected"),
    [
        ({"set": {"o": {"a": 1}}}, {"o": {"a": 0, "b": 2}}, {"o": {"a": 1, "b": 2}}),
        ({"set": {"o": {"i": {"a": 1}}}}, {"o": {"i": {"b": 2}}}, {"o": {"i": {"a": 1, "b": 2}}}),
        ({"set": {"o": {"a": 1}}}, {"o": "text"}, {"o": {"a": 1}}),
        ({"set": {"o": "text"}}, {"o": {"a": 1}}, {"o": "text"}),
        ({"default": {"o": {"a": 1, "b": 2}}}, {"o": {"a": 0}}, {"o": {"a": 0, "b": 2}}),
        ({"default": {"o": {"i": {"a": 1}}}}, {"o": {"i": {"b": 2}}}, {"o": {"i": {"b": 2, "a": 1}}}),
        ({"default": {"o": {"a": 1}}}, {"o": [1]}, {"o": [1]}),
        ({"remove": ["o"], "set": {"o": {"a": 1}}}, {"o": {"b": 2}}, {"o": {"a": 1}}),
    ],
)
def test_objects_are_merged_and_replaced_only_after_they_were_removed(said, body, expected):
    assert changed(said, body) == expected


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        (CHAT, "max_tokens"),
        (TEXT, "max_tokens"),
        (NATIVE, "n_predict"),
        ("/infill", "n_predict"),
        (MESSAGES, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, 512),
        ({"n_predict": -1}, 512),
        ({"max_tokens": None}, 512),
        ({"max_tokens": True}, 512),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "max_tokens": 9000}, 100),
        ({"max_output_tokens": 9000}, 512),
        ({"n_predict": 1e9}, 512),
    ],
)
def test_no_spelling_of_the_limit_of_an_answer_gets_around_its_cap(path, spelling, said, expected):
    assert changed({"cap": {"max_tokens": 512}}, said, path) == {spelling: expected}


@pytest.mark.parametrize(
    ("said", "body", "expected"),
    [
        ({"set": {"n_predict": 9}}, {"max_completion_tokens": 100}, {"max_tokens": 9}),
        ({"default": {"n_predict": 9}}, {"max_completion_tokens": 100}, {"max_completion_tokens": 100}),
        ({"default": {"n_predict": 9}}, {"max_completion_tokens": None}, {"max_tokens": 9}),
        ({"remove": ["max_tokens"]}, {"max_completion_tokens": 100, "n_predict": 1}, {}),
    ],
)
def test_all_spellings_of_the_limit_are_one_field(said, body, expected):
    assert changed(said, body) == expected


def test_an_answer_that_has_no_limit_gets_none():
    assert changed({"cap": {"max_tokens": 512}}, {"input": "a"}, EMBEDDINGS) == {"input": "a"}


BE = {"system_prefix": "Be brief."}
BLOCK = {"type": "text", "text": "Be brief."}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, {"messages": [HI]}, {"messages": [{"role": "system", "content": "Be brief."}, HI]}),
        (CHAT, {"messages": []}, {"messages": [{"role": "system", "content": "Be brief."}]}),
        (
            CHAT,
            {"messages": [{"role": "system", "content": "Be kind.", "name": "x"}, HI]},
            {"messages": [{"role": "system", "content": "Be brief.\n\nBe kind.", "name": "x"}, HI]},
        ),
        (
            CHAT,
            {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}, HI]},
            {
                "messages": [
                    {"role": "developer", "content": [BLOCK, {"type": "text", "text": "Be kind."}]},
                    HI,
                ]
            },
        ),
        (CHAT, {"messages": "hi"}, {"messages": "hi"}),
        (CHAT, {}, {}),
        ("/apply-template", {"messages": []}, {"messages": [{"role": "system", "content": "Be brief."}]}),
        (MESSAGES, {"messages": [HI]}, {"messages": [HI], "system": "Be brief."}),
        (MESSAGES, {"system": "Be kind."}, {"system": "Be brief.\n\nBe kind."}),
        (
            MESSAGES,
            {"system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
            {"system": [BLOCK, {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        ),
        ("/v1/messages/count_tokens", {}, {"system": "Be brief."}),
        (RESPONSES, {"input": "hi"}, {"input": "hi", "instructions": "Be brief."}),
        (RESPONSES, {"instructions": "Be kind."}, {"instructions": "Be brief.\n\nBe kind."}),
        (RESPONSES, {"instructions": None}, {"instructions": "Be brief."}),
    ],
)
def test_a_system_prompt_begins_with_the_prefix_in_the_way_of_each_path(path, body, expected):
    assert changed(BE, body, path) == expected


@pytest.mark.parametrize("path", [TEXT, NATIVE, "/infill", EMBEDDINGS, "/rerank", "/v1/audio/speech"])
def test_where_there_is_no_system_prompt_a_prefix_is_refused(path):
    with pytest.raises(PresetError, match="begins with a system prompt, and this path has none"):
        changed(BE, {"prompt": "a"}, path)


@pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"{", b'{"a":1}{"b":2}', b"\xff{}"])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(PresetError, match="changes JSON objects, and this body is none"):
        changed({}, body)


def test_other_values_go_on_as_they_were_written():
    body = b'\xef\xbb\xbf{"a": 1.0000000000000000001, "big": 123456789012345678901234567890, "t": "\\u00e9"}'
    (preset,) = presets_of({"brief": {"set": {"b": 1}}}).values()
    rewritten = rewrite(preset, operation_of("POST", CHAT).presets, body)
    assert rewritten == (
        b'{"a":1.0000000000000000001,"big":123456789012345678901234567890,"t":"\\u00e9","model":"brief","b":1}'
    )


def test_of_a_field_that_is_said_twice_the_last_one_counts_as_for_llama_server():
    assert changed({"cap": {"top_k": 40}}, b'{"top_k": 1, "top_k": 99}') == {"top_k": 40}


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_where_no_model_computes_nothing_is_changed(path):
    body = b'{"content": "a"}'
    (preset,) = presets_of({"brief": {"set": {"b": 1}, **BE}}).values()
    assert rewrite(preset, operation_of("POST", path).presets, body) is body


@pytest.mark.parametrize("path", ["/lora-adapters", "/slots/0", "/v1/streams/lookup", "/props", "/unknown"])
def test_operations_that_do_not_ask_the_model_have_no_presets(path):
    assert operation_of("POST", path).presets is None


# --- Mistakes ------------------------------------------------------------------------------------------

UNTOUCHED = "no preset changes this field: "


@pytest.mark.parametrize(
    ("described", "path", "says"),
    [
        ([1], "", "it is [1], and must be presets by name, such as "),
        ({"a": 1}, "a", "it is 1, and must be a table"),
        ({" a": {}}, " a", "this is no name. Use up to 200 characters"),
        ({"": {}}, "", "this is no name"),
        ({"a\0": {}}, "a\0", "this is no name"),
        ({"a": {"sets": {}}}, "a.sets", "there is no such key. Did you mean set?"),
        ({"a": {"x": {}}}, "a.x", "there is no such key. Known: set, default, cap, remove, system_prefix."),
        ({"a": {"set": 1}}, "a.set", "it is 1, and must be a table of fields of a request"),
        ({"a": {"cap": []}}, "a.cap", 'such as {"max_tokens": 512}.'),
        ({"a": {"cap": {"top_k": True}}}, "a.cap.top_k", "it is True, and must be the largest number"),
        ({"a": {"cap": {"top_k": -1}}}, "a.cap.top_k", "it is -1, and must be the largest number"),
        ({"a": {"cap": {"top_k": "9"}}}, "a.cap.top_k", "it is '9', and must be the largest number"),
        ({"a": {"remove": "top_k"}}, "a.remove", "it is 'top_k', and must be a list of fields"),
        ({"a": {"remove": [1]}}, "a.remove", "it is [1], and must be a list"),
        ({"a": {"remove": ["model"]}}, "a.remove", f"model: {UNTOUCHED}it says which preset"),
        ({"a": {"set": {"model": "x"}}}, "a.set.model", f"{UNTOUCHED}it says which preset is asked for."),
        ({"a": {"default": {"stream": True}}}, "a.default.stream", f"{UNTOUCHED}a client gets its answer"),
        ({"a": {"set": {"messages": []}}}, "a.set.messages", f"{UNTOUCHED}use system_prefix."),
        ({"a": {"set": {"system": ""}}}, "a.set.system", f"{UNTOUCHED}use system_prefix."),
        ({"a": {"set": {"": 1}}}, "a.set.", "this is no name of a field"),
        ({"a": {"system_prefix": " "}}, "a.system_prefix", "it is ' ', and must be a text that is not empty"),
        ({"a": {"system_prefix": "a\0"}}, "a.system_prefix", "it contains a NUL"),
        ({"a": {"set": {"o": {"x": ["\ud800"]}}}}, "a.set.o.x", "half a surrogate pair"),
        ({"a": {"set": {"x": float("nan")}}}, "a.set.x", "it is nan, and must be a number that JSON has"),
        ({"a": {"set": {"x": 2**64}}}, "a.set.x", "and must be a number of at most 64 bits"),
        ({"a": {"set": {"x": object}}}, "a.set.x", "and must be what JSON has"),
        ({"a": {"set": {"n": 1, "n_cmpl": 2}}}, "a.set.n_cmpl", "this is n in another spelling"),
        (
            {"a": {"cap": {"max_tokens": 1, "n_predict": 2}}},
            "a.cap.n_predict",
            "this is max_tokens in another",
        ),
        (
            {"a": {"set": {"x": 1}, "default": {"x": 2}}},
            "a.default.x",
            "set has it, too, and always wins. Leave one of them.",
        ),
        ({"a": {"system_prefix": "x" * LARGEST}}, "", f"{LARGEST} are the most. Shorten the longest text."),
    ],
)
def test_a_mistake_is_a_path_and_a_sentence(described, path, says):
    ((at, what),) = mistakes_in(described)
    assert ".".join(at) == path
    assert says in what


def test_a_value_that_is_nested_too_deep_is_a_mistake():
    value = 1
    for _ in range(25):
        value = [value]
    ((at, what),) = mistakes_in({"a": {"set": {"x": value}}})
    assert (at, what) == (("a", "set", "x"), "it is nested deeper than 20 levels. Flatten it.")


def test_all_mistakes_are_found():
    described = {"a": {"set": {"model": 1, "top_k": 2}}, "b": {"cap": {"n": "x"}, "y": 1}}
    assert [".".join(at) for at, _ in mistakes_in(described)] == ["a.set.model", "b.cap.n", "b.y"]


def test_presets_without_mistakes_have_none():
    described = {
        "qwen:fast": {
            "set": {"temperature": 0.2, "chat_template_kwargs": {"enable_thinking": False}, "stop": None},
            "default": {"top_p": 0.9, "chat_template_kwargs": {"x": [1, "a"]}},
            "cap": {"max_tokens": 512},
            "remove": ["logit_bias"],
            "system_prefix": "You are brief.",
        },
        "plain": {},
    }
    assert list(mistakes_in(described)) == []
