from __future__ import annotations

import pytest

from supervisor_app.gateway.llama import sse, unstream
from supervisor_app.gateway.llama.endpoints import endpoint_of


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/v1/chat/completions", sse.CHAT),
        ("/chat/completions", sse.CHAT),
        ("/v1/completions", sse.TEXT),
        ("/completions", sse.NATIVE),
        ("/completion", sse.NATIVE),
        ("/infill", sse.NATIVE),
        ("/v1/messages", sse.MESSAGES),
        ("/v1/responses", sse.RESPONSES),
        ("/responses", sse.RESPONSES),
        ("/v1/embeddings", None),
        ("/tokenize", None),
        ("/v1/messages/count_tokens", None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/llama", "/behind/a/proxy"])
def test_how_a_path_streams_shows_at_its_end_whatever_stands_before_it(prefix, path, events):
    assert endpoint_of("POST", prefix + path).events is events


@pytest.mark.parametrize(
    ("path", "assembled"),
    [
        ("/v1/chat/completions", unstream.CHAT),
        ("/chat/completions", unstream.CHAT),
        ("/v1/completions", unstream.TEXT),
        ("/completions", unstream.NATIVE),
        ("/llama/completion", unstream.NATIVE),
        ("/infill", None),
        ("/v1/messages", None),
        ("/v1/responses", None),
    ],
)
def test_some_answers_can_be_put_together_from_a_stream(path, assembled):
    assert endpoint_of("POST", path).assembled is assembled


SLOTLESS = [
    "/apply-template",
    "/detokenize",
    "/llama/tokenize",
    "/lora-adapters",
    "/models/load",
    "/props",
    "/slots/0/control",
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/v1/streams/lookup",
]


@pytest.mark.parametrize("path", SLOTLESS)
def test_what_computes_nothing_needs_no_slot(path):
    assert not endpoint_of("POST", path).needs_slot


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_nothing_but_a_post_computes(method):
    assert not endpoint_of(method, "/v1/chat/completions").needs_slot


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/", "", "*", "/untokenize", "/v1/tokenize/more", "/" * 70_000]
)
def test_what_is_not_known_is_taken_for_something_that_computes(path):
    assert endpoint_of("POST", path).needs_slot
