"""What is kept of each request, and what Prometheus sees of all."""

from __future__ import annotations

import psutil
import pytest
import requests

from tests.acceptance.gateway.askers import MODEL, PIECES, STREAMS, WHOLE, nobody
from tests.acceptance.gateway.watching import metric
from tests.deadline import DEADLINE

GENERATED = len(PIECES) + 1
"""Tokens, with the end."""


ASKED = {
    "/v1/chat/completions": [WHOLE["openai"], STREAMS["openai"]],
    "/v1/messages": [WHOLE["anthropic"], STREAMS["anthropic"]],
    "/v1/responses": [WHOLE["openai, responses"], STREAMS["openai, responses"]],
}
"""Programs of each path, whole and streamed."""


@pytest.fixture(scope="module")
def recorded(shared_counting):
    """The records of what was asked, in this order: of each of `ASKED`, raw, embeddings, and nothing sensible."""
    url = shared_counting.gateway_url
    WHOLE["raw"].ask(
        url, nobody
    )  # the first one may have been held until the gateway knew that its server is ready
    with shared_counting.recording(9) as records:
        for askers in (*ASKED.values(), [WHOLE["raw"], WHOLE["openai, embeddings"]]):
            for asker in askers:
                asker.ask(url, nobody)
        requests.post(f"{url}/v1/chat/completions", json={}, timeout=DEADLINE)
    return records


def test_a_request_is_recorded_with_what_it_cost(recorded):
    for record, route, streamed in zip(
        recorded, [route for route in ASKED for _ in range(2)], [False, True] * 3, strict=False
    ):
        assert (record["method"], record["route"], record["status"]) == ("POST", route, 200)
        assert (record["server"], record["model"], record["outcome"]) == ("default", MODEL, "ok")
        assert (bool(record["streamed"]), record["replays"], record["incident"]) == (streamed, 0, "")
        assert record["generated_tokens"] == GENERATED
        assert record["prompt_tokens"] > 10
        assert 0 < record["ttft_ms"] <= record["duration_ms"]
        assert (record["captured_request"], record["captured_answer"]) == (None, None)


def test_a_programs_own_endpoint_is_recorded_as_well(recorded):
    record = recorded[6]
    assert (record["route"], record["model"]) == ("/completion", "")
    assert (record["generated_tokens"], bool(record["prompt_tokens"])) == (GENERATED, True)
    assert record["tokens_per_second"] > 0


def test_embeddings_are_recorded_with_their_prompt(recorded):
    assert recorded[7]["route"] == "/v1/embeddings"
    assert recorded[7]["prompt_tokens"] > 10


def test_an_error_of_the_server_is_recorded_as_one(recorded):
    assert (recorded[8]["status"], recorded[8]["outcome"]) == (400, "upstream_error")


def test_each_request_counts_in_the_metrics(counting):
    def counters():
        of_model = {"server": "default", "model": MODEL}
        return (
            metric(counting, "llamaproxy_requests_total", **of_model, outcome="ok"),
            metric(counting, "llamaproxy_tokens_total", **of_model, kind="generated"),
        )

    requests_before, tokens_before = counters()
    WHOLE["openai"].ask(counting.gateway_url, nobody)
    counted = counting.wait_for("it counts", lambda: (now := counters())[0] > requests_before and now)
    assert counted == (requests_before + 1, tokens_before + GENERATED)


def test_the_servers_own_counters_are_there_under_its_name(counting):
    labels = {"server": "default", "model": "default"}
    WHOLE["openai"].ask(counting.gateway_url, nobody)
    assert metric(counting, "llamacpp:tokens_predicted_total", **labels) >= GENERATED
    assert metric(counting, "llamaproxy_server_up", server="default") == 1


def test_the_metrics_are_there_while_the_server_is_down(counting):
    """A program's request would wait now; Prometheus' does not, and is no request."""
    with counting.recording() as records:
        psutil.Process(counting.status()["pid"]).kill()
        text = requests.get(f"{counting.gateway_url}/metrics", timeout=DEADLINE).text
        WHOLE["raw"].ask(counting.gateway_url, nobody)
    assert "llamaproxy_requests_in_flight" in text
    assert [record["route"] for record in records] == ["/completion"]
