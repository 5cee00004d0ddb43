from __future__ import annotations

import pytest

from supervisor_app.gateway.llama import sse, unstream
from supervisor_app.gateway.llama.operations import Family, Scope, operation_of

CHANGES = [
    ("POST", "/slots/0"),
    ("POST", "/slots/0/"),
    ("POST", "/slots/completion"),
    ("POST", "/slots/"),
    ("POST", "/props"),
    ("POST", "/lora-adapters"),
    ("POST", "/models"),
    ("POST", "/models/load"),
    ("POST", "/models/unload"),
    ("DELETE", "/models"),
    ("GET", "/tools"),
    ("POST", "/tools"),
    ("GET", "/cors-proxy"),
    ("HEAD", "/cors-proxy"),
    ("POST", "/cors-proxy"),
]
READS = [
    ("GET", "/slots"),
    ("HEAD", "/slots"),
    ("GET", "/props"),
    ("GET", "/metrics"),
    ("GET", "/lora-adapters"),
    ("GET", "/models/sse"),
]
COMPUTES = [
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/completions",
    "/completion",
    "/infill",
    "/v1/messages",
    "/v1/responses",
    "/responses",
    "/v1/embeddings",
    "/embeddings",
    "/embedding",
    "/v1/rerank",
    "/v1/reranking",
    "/rerank",
    "/reranking",
    "/v1/audio/transcriptions",
    "/audio/transcriptions",
    "/v1/systemone",
]
COUNTS = [
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/messages/count_tokens",
    "/v1/chat/completions/input_tokens",
    "/chat/completions/input_tokens",
    "/v1/responses/input_tokens",
    "/responses/input_tokens",
]
UNKNOWN = [
    "/",
    "",
    "*",
    "/nope",
    "/untokenize",
    "/v1/tokenize/more",
    "/tokenize/",
    "/Tokenize",
    "/v1//chat/completions/",
    "/tools/",
    "/TOOLS",
    "/tools?x",
    "/slots/0/x",
    "/slots",
    "/chat/completions/control",
    "/" * 70_000,
]


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
        ("/v1/audio/transcriptions", sse.OTHER),
        ("/v1/embeddings", None),
        ("/tokenize", None),
        ("/v1/messages/count_tokens", None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/llama", "/behind/a/proxy"])
def test_how_a_path_streams_shows_at_its_end_whatever_stands_before_it(prefix, path, events):
    assert operation_of("POST", prefix + path).events is events


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
    assert operation_of("POST", path).assembled is assembled


@pytest.mark.parametrize("path", COMPUTES)
def test_endpoints_that_compute_take_a_slot_and_may_be_replayed(path):
    found = operation_of("POST", path)
    assert found.needs_slot
    assert found.pure


@pytest.mark.parametrize("path", COUNTS)
def test_endpoints_that_only_count_take_no_slot_and_may_be_replayed(path):
    found = operation_of("POST", path)
    assert not found.needs_slot
    assert found.pure


@pytest.mark.parametrize("path", [*COMPUTES, *COUNTS])
@pytest.mark.parametrize("prefix", ["", "/llama", "/behind/a/proxy"])
def test_endpoints_that_ask_the_model_wake_it_and_are_for_every_key(prefix, path):
    found = operation_of("POST", prefix + path)
    assert (found.wakes, found.counts_as_use, found.scope) == (True, True, Scope.INFERENCE)


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("prefix", ["", "/llama", "/behind/a/proxy"])
def test_endpoints_that_change_a_server_need_a_right_and_are_never_replayed(prefix, method, path):
    found = operation_of(method, prefix + path)
    assert (found.scope, found.pure, found.needs_slot) == (Scope.CHANGE, False, False)


@pytest.mark.parametrize(("method", "path"), READS)
@pytest.mark.parametrize("prefix", ["", "/llama", "/behind/a/proxy"])
def test_endpoints_that_tell_of_a_server_need_a_right_and_wake_no_server(prefix, method, path):
    found = operation_of(method, prefix + path)
    assert (found.scope, found.pure, found.needs_slot) == (Scope.READ, True, False)
    assert (found.wakes, found.counts_as_use) == (False, False)


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "PROPFIND"])
def test_unknown_endpoints_get_the_careful_answer(method, path):
    found = operation_of(method, path)
    assert (found.pure, found.needs_slot, found.scope) == (False, True, Scope.CHANGE)
    assert (found.wakes, found.counts_as_use) == (False, False)


@pytest.mark.parametrize("path", ["/nope", "/slots/", "/slots/0", "/api/tags", "/v1/files", "/Slots"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_path_that_is_read_may_be_read_again_by_a_key_that_may_read(method, path):
    found = operation_of(method, path)
    assert (found.pure, found.needs_slot, found.scope) == (True, False, Scope.READ)
    assert (found.wakes, found.counts_as_use) == (False, False)


@pytest.mark.parametrize("path", ["/favicon.ico", "/", "/index.html", "/_app/immutable/chunk", "/bundle.js"])
def test_files_of_the_web_ui_are_for_every_key_and_wake_nobody(path):
    found = operation_of("GET", path)
    assert found.static
    assert (found.scope, found.wakes, found.counts_as_use) == (Scope.INFERENCE, False, False)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/props", "/v1/stream"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_asking_for_a_head_only_wakes_nobody_and_is_no_use(method, path):
    found = operation_of(method, path)
    assert (found.wakes, found.counts_as_use, found.needs_slot) == (False, False, False)


def test_a_stream_that_is_read_again_keeps_its_server_up_but_wakes_none():
    found = operation_of("GET", "/v1/stream")
    assert (found.wakes, found.counts_as_use, found.scope) == (False, True, Scope.INFERENCE)


def test_ending_an_answer_is_for_every_key_and_sent_once():
    found = operation_of("DELETE", "/v1/stream")
    assert (found.pure, found.wakes, found.scope) == (False, False, Scope.INFERENCE)


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/demo.gguf", "/health"])
def test_the_list_of_models_is_for_every_key(path):
    assert operation_of("GET", path).scope is Scope.INFERENCE


@pytest.mark.parametrize("query", ["action=erase", "id_slot=0&action=save", "%61ction=restore"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_an_action_on_slots_is_a_change_wherever_a_build_takes_it(method, query):
    found = operation_of(method, "/slots", query)
    assert (found.scope, found.pure, found.needs_slot) == (Scope.CHANGE, False, False)


def test_a_question_about_slots_is_none():
    assert operation_of("GET", "/slots", "model=one&fail_on_no_slot=1").scope is Scope.READ


@pytest.mark.parametrize("path", [*COMPUTES, *COUNTS])
def test_a_key_can_be_limited_to_whatever_asks_a_model(path):
    assert operation_of("POST", path).family is not None


@pytest.mark.parametrize(
    ("method", "path", "family"),
    [
        ("POST", "/v1/messages", Family.CHAT),
        ("POST", "/prefix/v1/responses", Family.CHAT),
        ("POST", "/infill", Family.COMPLETIONS),
        ("POST", "/v1/chat/completions/input_tokens", Family.TOKENS),
        ("GET", "/v1/models/qwen3", Family.MODELS),
        ("HEAD", "/models", Family.MODELS),
        ("GET", "/health", None),
        ("GET", "/slots", None),
        ("DELETE", "/v1/stream", None),
        ("OPTIONS", "/v1/embeddings", None),
    ],
)
def test_an_operation_is_of_one_family_or_of_none(method, path, family):
    assert operation_of(method, path).family is family
