"""What a gateway tells Prometheus, and what it makes of llama-server's own numbers."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.metrics import GatewayMetrics, merge, relabel
from supervisor_app.gateway.records.record import Outcome, Record

USAGE = Usage(prompt_tokens=100, cached_tokens=60, generated_tokens=20, tokens_per_second=40.0)
LLAMA = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 12
# HELP llamacpp:prompt_seconds_total Total time spent processing prompts
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 0.00047
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 3
# HELP llamacpp:tokens_predicted_seconds_total Total time spent generating tokens
# TYPE llamacpp:tokens_predicted_seconds_total counter
llamacpp:tokens_predicted_seconds_total 0.009234
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 0
"""
"""As a real llama-server wrote it."""


def record(**fields):
    known = {
        "at": 1.0,
        "server": "default",
        "model": "qwen3",
        "key": None,
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": Outcome.OK,
        "ttft_ms": 300.0,
        "duration_ms": 2000.0,
    }
    return Record(**known | fields)


@pytest.fixture
def metrics():
    return GatewayMetrics(id_of=id_of)


def id_of(server, model):
    """A router has these two, one of them by two names."""
    return {"qwen3": "qwen3", "q": "qwen3", "llama": "llama"}.get(model, "")


def samples(text):
    """Name -> labels -> value, of a text that a strict parser reads."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels not in [labels for labels, _ in found.get(sample.name, [])]
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def told(metrics, gates=()):
    """`gates`: as `Gateway.load` tells them."""
    return samples(metrics.render(metrics.load_of(gates)))


def only(metrics, name):
    ((labels, value),) = told(metrics)[name]
    return labels, value


# --- Records -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome", "failed"),
    [
        (200, Outcome.OK, False),
        (400, Outcome.UPSTREAM_ERROR, False),
        (500, Outcome.UPSTREAM_ERROR, True),
        (200, Outcome.UPSTREAM_CRASHED, True),
        (502, Outcome.UPSTREAM_CRASHED, True),
        (200, Outcome.UNAVAILABLE, True),
        (503, Outcome.UNAVAILABLE, True),
        (429, Outcome.UNAVAILABLE, False),
        (422, Outcome.QUARANTINED, False),
        (401, Outcome.REFUSED, False),
        (0, Outcome.CLIENT_LEFT, False),
    ],
)
def test_a_request_failed_when_it_was_no_fault_of_its_client(status, outcome, failed):
    metrics = GatewayMetrics()
    metrics.observe(record(status=status, outcome=outcome))
    assert only(metrics, "llamaproxy_failed_requests_total")[1] == failed


def test_each_request_is_counted_with_its_server_model_and_outcome(metrics):
    metrics.observe(record())
    metrics.observe(record())
    metrics.observe(record(outcome=Outcome.REPLAYED, replays=2))
    counted = told(metrics)["llamaproxy_requests_total"]
    labels = {"server": "default", "model": "qwen3"}
    assert counted == [({**labels, "outcome": "ok"}, 2.0), ({**labels, "outcome": "replayed"}, 1.0)]
    assert only(metrics, "llamaproxy_replays_total") == (labels, 2.0)


def test_durations_are_in_seconds(metrics):
    metrics.observe(record())
    assert only(metrics, "llamaproxy_request_duration_seconds_sum")[1] == 2.0
    assert only(metrics, "llamaproxy_request_ttft_seconds_sum")[1] == pytest.approx(0.3)


def test_an_answer_without_content_has_no_first_token(metrics):
    metrics.observe(record(ttft_ms=None, outcome=Outcome.UNAVAILABLE))
    assert only(metrics, "llamaproxy_request_ttft_seconds_count")[1] == 0
    assert only(metrics, "llamaproxy_request_duration_seconds_count")[1] == 1


def test_tokens_are_counted_by_kind(metrics):
    metrics.observe(record(usage=USAGE))
    metrics.observe(record())
    counted = told(metrics)["llamaproxy_tokens_total"]
    assert {labels["kind"]: value for labels, value in counted} == {
        "prompt": 100,
        "cached": 60,
        "generated": 20,
    }


@pytest.mark.parametrize("name", ["gpt-4", "x" * 10_000, 'a"b\n', "other"])
def test_a_model_that_nobody_offers_is_other(metrics, name):
    metrics.observe(record(model=name))
    assert only(metrics, "llamaproxy_requests_total")[0]["model"] == "other"


def test_clients_that_invent_models_fill_no_memory(metrics):
    for number in range(1000):
        metrics.observe(record(model=f"invented-{number}"))
    assert only(metrics, "llamaproxy_requests_total")[1] == 1000


def test_a_model_counts_by_its_id_whatever_it_was_asked_for_as(metrics):
    metrics.observe(record(model="q"))
    metrics.observe(record(model="qwen3"))
    labels = {"server": "default", "model": "qwen3", "outcome": "ok"}
    assert told(metrics)["llamaproxy_requests_total"] == [(labels, 2.0)]
    gates = [("default", "q", 1, 2), ("default", "qwen3", 3, 4)]
    assert by_model(told(metrics, gates)["llamaproxy_requests_in_flight"]) == {"qwen3": 4}


def test_a_server_that_has_another_model_now_counts_it_by_its_own_id():
    has = ["old"]
    metrics = GatewayMetrics(id_of=lambda server, model: has[0])
    metrics.observe(record(model="default"))
    has[0] = "new"
    metrics.observe(record(model="default"))
    assert by_model(told(metrics)["llamaproxy_requests_total"]) == {"old": 1, "new": 1}


def test_a_request_that_names_no_model_has_none(metrics):
    metrics.observe(record(model="", route="/v1/models"))
    assert only(metrics, "llamaproxy_requests_total")[0]["model"] == ""


def by_model(samples_of_one):
    return {labels["model"]: value for labels, value in samples_of_one}


def test_requests_in_flight_and_held_are_told_by_server_and_model(metrics):
    found = told(metrics, [("default", "qwen3", 3, 2), ("default", "llama", 1, 0)])
    assert {labels["server"] for labels, _ in found["llamaproxy_requests_in_flight"]} == {"default"}
    assert by_model(found["llamaproxy_requests_in_flight"]) == {"qwen3": 3, "llama": 1}
    assert by_model(found["llamaproxy_requests_held"]) == {"qwen3": 2, "llama": 0}


def test_requests_in_flight_under_unknown_models_count_as_other(metrics):
    found = told(metrics, [("default", "gpt-4", 1, 2), ("default", "gpt-5", 3, 4), ("default", "", 5, 6)])
    assert by_model(found["llamaproxy_requests_in_flight"]) == {"other": 4, "": 5}
    assert by_model(found["llamaproxy_requests_held"]) == {"other": 6, "": 6}


def test_a_model_that_was_asked_for_stays_with_0_as_long_as_its_server_is_there(metrics):
    metrics.observe(record(model="llama"))
    assert by_model(told(metrics, [("default", "qwen3", 1, 0)])["llamaproxy_requests_in_flight"]) == {
        "qwen3": 1,
        "llama": 0,
    }
    assert "llamaproxy_requests_in_flight" not in told(metrics)


def test_no_series_tells_when_it_was_made(metrics):
    metrics.observe(record())
    assert "_created" not in metrics.render({})


# --- llama-server's own --------------------------------------------------------------------------------


def test_each_sample_of_a_server_gets_its_server_and_model():
    found = samples(relabel(LLAMA, "default", "qwen3"))
    labels = {"server": "default", "model": "qwen3"}
    assert found["llamacpp:prompt_tokens_total"] == [(labels, 12)]
    assert found["llamacpp:requests_processing"] == [(labels, 1)]
    assert len(found) == LLAMA.count("# TYPE")


def test_names_are_escaped():
    found = samples(relabel(LLAMA, 'a"b\\c\nd', "m"))
    assert found["llamacpp:requests_processing"][0][0]["server"] == 'a"b\\c\nd'


def test_labels_of_the_server_are_kept_and_ours_win():
    text = relabel('llamacpp:x{slot="0",server="evil",text="server=\\"a\\"",} 1.5e3 1700000000\n', "s", "m")
    assert text == (
        'llamacpp:x{server="s",model="m",slot="0",exported_server="evil",text="server=\\"a\\""} 1.5e3\n'
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        "{}",
        "llamacpp:x",
        "llamacpp:x one",
        "llamacpp:x 1.2.3",
        "llamacpp:x{a=b} 1",
        'llamacpp:x{a="b"c="d"} 1',
        'llamacpp:x{a="b} 1',
        "llamaproxy_requests_total 7",
        "# TYPE llamaproxy_requests_total gauge",
        "# a remark",
        "<html>503</html>",
        "llamacpp:x 1\r",
        "\0",
        'llamacpp:x{a="' + "\\" * 50_000,
    ],
)
def test_lines_that_are_no_metric_of_llama_server_are_left_out(line):
    assert relabel(f"{line}\nllamacpp:y 1\n", "s", "m") == 'llamacpp:y{server="s",model="m"} 1\n'


@pytest.mark.parametrize("number", ["0", "-1", "1.", "1e+06", "2.5E-3", "+Inf", "NaN", "nan", "-inf"])
def test_every_way_to_write_a_number_is_taken(number):
    assert relabel(f"llamacpp:x {number}", "s", "m").endswith(f" {number}\n")


# --- All together --------------------------------------------------------------------------------------


def test_servers_share_the_description_of_a_metric():
    text = merge([relabel(LLAMA, "a", "m"), relabel(LLAMA, "b", "m")])
    assert text.count("# TYPE llamacpp:prompt_tokens_total") == 1
    found = samples(text)["llamacpp:prompt_tokens_total"]
    assert [labels["server"] for labels, _ in found] == ["a", "b"]
    assert text.index('requests_processing{server="a"') > text.index('prompt_tokens_total{server="b"')


def test_a_histogram_stays_together(metrics):
    metrics.observe(record())
    text = metrics.render({}, relabel(LLAMA, "default", "qwen3"))
    assert samples(text)["llamaproxy_request_duration_seconds_bucket"][-1][1] == 1
    assert samples(merge([text, text.replace("default", "b")]))["llamaproxy_requests_total"]
    described = re.findall("# TYPE (llamaproxy_request_duration_seconds.*)", text)
    assert described == ["llamaproxy_request_duration_seconds histogram"]
