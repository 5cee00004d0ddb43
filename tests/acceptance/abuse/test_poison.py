"""Requests that kill the real llama-server: they cost its other clients a pause, and never the server."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE
from tests.integration.gateway.engines import engine as running_engine
from tests.integration.gateway.engines import post

LEVELS = 50_000
FAST = {"retry_backoff_ms": 50, "max_backoff_ms": 200}
"""The limit of five retries stays, and no life here lasts for the minute that would make it count anew."""


def killer(name):
    """The parser of grammars calls itself for each parenthesis."""
    return {"prompt": name, "n_predict": 1, "grammar": f'root ::= {"(" * LEVELS}"a"{")" * LEVELS}'}


def schema(levels):
    return '{"type":"array","items":' * levels + '{"type":"string"}' + "}" * levels


def ask(url, body, path="/completion", key=""):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    content = {"data": body} if isinstance(body, bytes) or hasattr(body, "send") else {"json": body}
    return requests.post(url + path, headers=headers, timeout=DEADLINE, **content)


def is_refused(answer, status, code):
    return (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.fixture
def attacked(make_proxy, engine, model):
    def start(**config):
        proxy = make_proxy(
            llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, "-np", "2"], **FAST, **config
        )
        return proxy

    return start


def deaths(proxy):
    return [run["signal"] for run in proxy.runs() if run["ended_at"]]


def test_deadly_requests_one_after_the_other_use_up_no_retry(attacked):
    proxy = attacked()
    proxy.start().wait_for_status("ready")
    for name in "abcd":
        assert is_refused(ask(proxy.gateway_url, killer(name)), 422, "quarantined")
    assert deaths(proxy) == [signal.SIGSEGV] * 12  # with five retries it would have given up after six
    proxy.wait_for_status("ready", retries=0)
    assert ask(proxy.gateway_url, {"prompt": "hello", "n_predict": 1}).ok


def test_deadly_requests_together_use_up_no_retry(attacked):
    proxy = attacked()
    proxy.start().wait_for_status("ready")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda name: ask(proxy.gateway_url, killer(name)), "abcd"))
    assert all(is_refused(answer, 422, "quarantined") for answer in answers)
    proxy.wait_for_status("ready", retries=0)
    assert ask(proxy.gateway_url, {"prompt": "hello", "n_predict": 1}).ok


def test_a_server_that_had_given_up_starts_again_once_its_deaths_are_explained(attacked):
    proxy = attacked(max_retries=2)
    proxy.start().wait_for_status("ready")
    assert is_refused(ask(proxy.gateway_url, killer("a")), 422, "quarantined")
    proxy.wait_for_status("ready", retries=0)
    assert proxy.said("Gave up after 2 retries")


def test_a_key_that_sends_several_is_paused_and_others_are_served(attacked):
    proxy = attacked()
    keys = make_keys(proxy, {"attacker": {}, "victim": {}})
    proxy.start().wait_for_status("ready")
    for name in "abc":
        answer = ask(proxy.gateway_url, killer(name), key=keys["attacker"])
        assert is_refused(answer, 422, "quarantined")
    died = len(deaths(proxy))
    for body in (killer("d"), {"prompt": "hello", "n_predict": 1}):
        answer = ask(proxy.gateway_url, body, key=keys["attacker"])
        assert is_refused(answer, 429, "key_paused")
        assert int(answer.headers["Retry-After"]) > 500
    assert ask(proxy.gateway_url, {"prompt": "hello", "n_predict": 1}, key=keys["victim"]).ok
    assert len(deaths(proxy)) == died


def test_json_that_is_nested_too_deep_never_reaches_the_server(attacked):
    proxy = attacked()
    pid = proxy.start().wait_for_status("ready")["pid"]
    deep = b'{"prompt":"a","n_predict":1,"json_schema":' + schema(LEVELS).encode() + b"}"
    pieces = (deep[at : at + 1000] for at in range(0, len(deep), 1000))
    large = deep[:-1] + b',"pad":"' + b"x" * (9 << 20) + b'"}'
    behind = b'{"pad":"' + b"x" * (9 << 20) + b'",' + deep[1:]
    for body in (deep, pieces, large, behind):
        assert is_refused(ask(proxy.gateway_url, body), 400, "nested_too_deep")
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/tokenize", "/v1/completions"):
        assert is_refused(ask(proxy.gateway_url, deep, path), 400, "nested_too_deep")
    shallow = b'{"prompt":"a","n_predict":1,"json_schema":' + schema(190).encode() + b"}"
    assert ask(proxy.gateway_url, shallow).ok
    assert proxy.status()["pid"] == pid


def test_the_poison_of_these_tests_kills_the_engine(tmp_path, engine):
    """What all this is for. Once llama.cpp survives them, the other tests prove nothing any more."""
    deep = b'{"prompt":"a","n_predict":1,"json_schema":' + schema(LEVELS).encode() + b"}"
    for body in (deep, killer("a")):
        with running_engine(engine, tmp_path) as running, pytest.raises(requests.ConnectionError):
            post(running, "/completion", body)
