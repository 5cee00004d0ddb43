"""What a real server counts, read from the bytes of its answers."""

from __future__ import annotations

import json
import re

import pytest
import requests

from supervisor_app.gateway.llama.hints import hints_of
from supervisor_app.gateway.llama.meter import usage_of, usage_of_all
from supervisor_app.gateway.llama.operations import operation_of
from supervisor_app.gateway.llama.sse import ContentScanner
from tests.deadline import DEADLINE
from tests.integration.gateway.engines import ENGINES, engine, post

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "Who are you, llama?"}]
REQUESTS = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 5},
    "/v1/completions": {"prompt": "Who are you?", "max_tokens": 5},
    "/completion": {"prompt": "Who are you?", "n_predict": 5},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 5},
    "/v1/responses": {"input": "Who are you?", "max_output_tokens": 5},
}


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tmp_path_factory):
    with engine(request.param, tmp_path_factory.mktemp("engine"), "-np", "1") as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/completion"])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_speed_is_read_where_it_is_measured(server, path, streamed):
    answer = post(server, path, {**REQUESTS[path], "stream": streamed})[1]
    assert usage_of(answer).tokens_per_second > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "body"), REQUESTS.items(), ids=REQUESTS)
def test_tokens_are_read_from_every_kind_of_answer(server, path, body, streamed):
    cold, warm = (usage_of(post(server, path, {**body, "stream": streamed})[1][-16_000:]) for _ in range(2))
    assert cold.generated_tokens == warm.generated_tokens == hints_of(json.dumps(body).encode()).max_tokens
    assert cold.prompt_tokens == warm.prompt_tokens > 5
    assert warm.cached_tokens == warm.prompt_tokens - 1


def test_a_prompt_that_was_counted_at_the_beginning_is_read_from_there(server):
    answer = post(server, "/v1/messages", {**REQUESTS["/v1/messages"], "stream": True})[1]
    usage = usage_of(tail=answer[-200:], head=answer[:1024])
    assert usage == usage_of(answer)
    assert usage.prompt_tokens > 5


@pytest.mark.parametrize("name", ENGINES)
def test_embeddings_count_at_the_beginning(name, tmp_path):
    with engine(name, tmp_path, "--embeddings", "--pooling", "mean") as running:
        status, answer = post(running, "/v1/embeddings", {"input": ["hello llama"] * 40})
    assert status == 200
    assert len(answer) > 16_000
    counted = json.loads(answer)["usage"]["prompt_tokens"]
    assert usage_of(tail=answer[-16_000:], head=answer[:1024]).prompt_tokens == counted > 40


@pytest.mark.parametrize(("path", "body"), REQUESTS.items(), ids=REQUESTS)
def test_a_stream_has_content_from_its_first_event_on(server, path, body):
    answer = post(server, path, {**body, "stream": True})[1]
    scanner = ContentScanner()
    assert not scanner.feed(b":\n\n")
    assert scanner.feed(answer[:1])


SEVERAL = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 5, "n": 2},
    "/v1/completions": {"prompt": ["one", [1, "two"], [1, 2]], "max_tokens": 5, "n_cmpl": 2},
    "/completions": {"prompt": ["one", {"prompt_string": "two"}], "n_predict": 5, "n": 2},
    "/completion": {"prompt": [1, "two", "three"], "n_predict": 5, "n": 2},
    "/v1/responses": {"input": "Who are you?", "max_output_tokens": 5, "n": 2},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 5, "n": 2},
}


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    with engine("llama-server", tmp_path_factory.mktemp("counting"), "-np", "2", "--metrics") as running:
        yield running


def generated_by(running):
    """Of all answers since it was started."""
    text = requests.get(f"http://127.0.0.1:{running.port}/metrics", timeout=DEADLINE).text
    return int(re.findall(r"(?m)^llamacpp:tokens_predicted_total ([0-9]+)", text)[0])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "body"), SEVERAL.items(), ids=SEVERAL)
def test_all_answers_count_of_which_the_server_tells_one(counting, path, body, streamed):
    body, before = {**body, "stream": streamed, "ignore_eos": True}, generated_by(counting)
    status, answer = post(counting, path, body)
    assert status == 200
    usage = usage_of_all(
        usage_of(answer[-16_000:]), operation_of("POST", path), hints_of(json.dumps(body).encode())
    )
    assert usage.generated_tokens == generated_by(counting) - before
