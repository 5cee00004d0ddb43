from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.gateway.llama.hints import Hints
from supervisor_app.gateway.llama.meter import usage_of, usage_of_all
from supervisor_app.gateway.llama.operations import operation_of
from supervisor_app.gateway.llama.usage import NO_USAGE, Usage

TIMINGS = (
    b'"timings":{"cache_n":20,"prompt_n":1,"prompt_ms":0.474,"prompt_per_token_ms":0.474,'
    b'"prompt_per_second":2109.704641350211,"predicted_n":3,"predicted_ms":1.123,'
    b'"predicted_per_token_ms":0.5615,"predicted_per_second":1780.5}'
)
OPENAI_USAGE = (
    b'"usage":{"completion_tokens":3,"prompt_tokens":21,"total_tokens":24,'
    b'"prompt_tokens_details":{"cached_tokens":20}}'
)
RESPONSES_USAGE = (
    b'"usage":{"input_tokens":21,"output_tokens":3,"total_tokens":24,'
    b'"input_tokens_details":{"cached_tokens":20}}'
)
COUNTED = Usage(prompt_tokens=21, cached_tokens=20, generated_tokens=3)
MEASURED = Usage(prompt_tokens=21, cached_tokens=20, generated_tokens=3, tokens_per_second=1780.5)

# As a real server ended its answers.
ANSWERS = {
    "chat": (b'"content":" a"}}],"created":1,' + OPENAI_USAGE + b',"id":"c",' + TIMINGS + b"}", MEASURED),
    "chat stream": (
        b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1,"id":"c",'
        + TIMINGS
        + b"}\n\ndata: [DONE]\n\n",
        MEASURED,
    ),
    "chat stream with include_usage": (
        b'data: {"choices":[],' + OPENAI_USAGE + b"," + TIMINGS + b"}\n\ndata: [DONE]\n\n",
        MEASURED,
    ),
    "native": (
        b'{"index":0,"content":" a","tokens_predicted":3,"tokens_evaluated":21,"prompt":"<s> hi",'
        b'"stopping_word":"","tokens_cached":23,' + TIMINGS + b"}",
        MEASURED,
    ),
    "native with probabilities": (
        b'"tokens_cached":23,' + TIMINGS + b',"completion_probabilities":[{"id":354,"token":" the"}]}',
        MEASURED,
    ),
    "native stream that was cut": (
        b'data: {"index":0,"content":" b","tokens":[9],"stop":false,"tokens_predicted":2,"tokens_evaluated":21}'
        b'\n\ndata: {"index":0,"content":" a","tokens":[8],"stop":false,"tokens_predicted":3,"tokens_evaluated":21}'
        b'\n\ndata: {"index":0,"cont',
        Usage(prompt_tokens=21, generated_tokens=3),
    ),
    "messages": (
        b'"stop_sequence":null,"usage":{"cache_read_input_tokens":20,"input_tokens":1,"output_tokens":3}}',
        COUNTED,
    ),
    "messages of an older server": (
        b'"stop_sequence":null,"usage":{"input_tokens":21,"output_tokens":3}}',
        Usage(prompt_tokens=21, generated_tokens=3),
    ),
    "messages stream": (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
        b'{"cache_read_input_tokens":20,"input_tokens":1,"output_tokens":0}}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        COUNTED,
    ),
    "responses": (b'"status":"completed",' + RESPONSES_USAGE + b"}", COUNTED),
    "responses stream": (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[],'
        + RESPONSES_USAGE
        + b"},"
        + TIMINGS
        + b"}\n\n",
        MEASURED,
    ),
    "embeddings": (
        b'{"model":"m","object":"list","usage":{"prompt_tokens":10,"total_tokens":10},"data":[{"embedding":[0.1]}]}',
        Usage(prompt_tokens=10),
    ),
    "another server": (
        b'{\n  "usage": {\n    "prompt_tokens": 5,\n    "completion_tokens": 2\n  }\n}\n',
        Usage(prompt_tokens=5, generated_tokens=2),
    ),
}
each_answer = pytest.mark.parametrize(("tail", "usage"), ANSWERS.values(), ids=ANSWERS)


@each_answer
def test_the_counts_of_the_server_are_read(tail, usage):
    assert usage_of(tail) == usage


@each_answer
def test_a_tail_may_begin_in_the_middle_of_anything(tail, usage):
    before = b'\xa4mmer \\"usage\\":{\\"prompt_tokens\\":9},"x":"' + b"y" * 12_000 + b'"}],'
    assert usage_of(before + tail) == usage


@pytest.mark.parametrize("name", ["embeddings", "messages stream"])
def test_counts_at_the_beginning_of_an_answer_are_read(name):
    answer, usage = ANSWERS[name]
    assert usage_of(tail=answer[-100:], head=answer[:1000]) == usage


def test_the_counts_of_the_last_event_are_read():
    first = OPENAI_USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":1')
    assert usage_of(b"data: {%b}\n\ndata: {%b}\n\n" % (first, OPENAI_USAGE)) == COUNTED


def test_words_of_the_model_are_not_taken_for_counts():
    said = json.dumps(
        {"content": '"usage":{"prompt_tokens":7,"completion_tokens":7},"timings":{"prompt_n":7}'}
    )
    assert usage_of(said.encode()) == NO_USAGE


@pytest.mark.parametrize("speed", [b"0.0", b"null", b"-1", b"NaN", b"Infinity", b'"fast"', b"true"])
def test_a_speed_that_was_not_measured_is_none(speed):
    tail = b'"timings":{"prompt_n":2,"predicted_n":1,"predicted_per_second":%b}}' % speed
    assert usage_of(tail) == Usage(prompt_tokens=2, generated_tokens=1)


@pytest.mark.parametrize("count", [b"-1", b"1.5", b"true", b'"3"', b"null", b"[]", b"9" * 12, b"9" * 5000])
def test_a_number_that_cannot_be_a_count_is_ignored(count):
    tail = b'{"usage":{"prompt_tokens":4,"completion_tokens":%b}}' % count
    assert usage_of(tail) in (Usage(prompt_tokens=4), NO_USAGE)
    assert usage_of(tail).generated_tokens is None


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\xff\x00",
        b"data: [DONE]\n\n",
        b'"usage":',
        b'"usage":{"prompt_tokens":4',
        b'"usage":null',
        b'"usage":[1]',
        b'"usage":7,"timings":"x"',
        b'"usage":' + b"[" * 10_000,
        b'"tokens_predicted":',
        b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
    ],
)
def test_where_nothing_is_counted_there_is_no_usage(tail):
    assert usage_of(tail) == NO_USAGE


PIECES = [
    b'"usage":',
    b'"timings":',
    b"{",
    b"}",
    b'"prompt_tokens":',
    b'"prompt_n":',
    b"1",
    b",",
    b"[",
    b'"',
    b"\\",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join))
def test_garbage_raises_nothing(tail):
    usage_of(tail)
    usage_of(b"", tail)


SEVERAL = Hints(prompts=3, answers=2)
COMPLETION = operation_of("POST", "/completion")


@pytest.mark.parametrize(
    ("path", "prompts", "answers"),
    [
        ("/v1/chat/completions", 1, 2),
        ("/v1/responses", 1, 2),
        ("/infill", 1, 2),
        ("/v1/completions", 3, 6),
        ("/completion", 3, 6),
        ("/v1/messages", 1, 1),
        ("/v1/embeddings", 1, 1),
    ],
)
def test_the_count_of_one_answer_is_multiplied_by_the_number_of_answers(path, prompts, answers):
    assert usage_of_all(MEASURED, operation_of("POST", path), SEVERAL) == Usage(
        prompt_tokens=21 * prompts,
        cached_tokens=20 * prompts,
        generated_tokens=3 * answers,
        tokens_per_second=1780.5,
    )


def test_a_missing_count_is_not_made_up():
    assert usage_of_all(NO_USAGE, COMPLETION, SEVERAL) == NO_USAGE
    assert usage_of_all(NO_USAGE, COMPLETION, SEVERAL, came=5) == NO_USAGE


def test_the_events_of_a_stream_that_was_cut_count_as_tokens():
    assert usage_of_all(COUNTED, COMPLETION, SEVERAL, came=5).generated_tokens == 5


def test_no_estimate_is_larger_than_what_can_be_kept():
    usage = usage_of_all(COUNTED, COMPLETION, Hints(prompts=10**6, answers=2**31 - 1))
    assert (usage.prompt_tokens, usage.generated_tokens) == (21 * 10**6, 2**31 - 1)


DRAFTS = {"draft_n": 60, "draft_n_accepted": 41}


@pytest.mark.parametrize("padding", ["", "x" * 2000], ids=["short", "long"])
@pytest.mark.parametrize("streamed", [False, True])
def test_drafted_and_accepted_tokens_are_read_where_the_server_says_them(padding, streamed):
    usage = {
        "completion_tokens": 7,
        "prompt_tokens": 9,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    answer = {"choices": [padding], "usage": usage, "timings": {"predicted_per_second": 4.5, **DRAFTS}}
    told = json.dumps(answer, separators=(",", ":")).encode()
    found = usage_of(b"data: " + told + b"\n\ndata: [DONE]\n\n" if streamed else told)
    assert found == Usage(9, 1, 7, 4.5, 60, 41)


def test_drafts_are_read_of_a_server_with_timings_alone():
    told = json.dumps({"timings": {"prompt_n": 9, "cache_n": 1, "predicted_n": 7, **DRAFTS}}).encode()
    assert usage_of(told) == Usage(10, 1, 7, None, 60, 41)
