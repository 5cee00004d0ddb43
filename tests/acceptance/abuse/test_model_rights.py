"""A key for certain models against all ways to get another one, before a real llama-server of several models."""

from __future__ import annotations

import json
import shutil

import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
PAD = '"pad": "' + "x" * (9 * 2**20) + '"'
"""Padding longer than what the gateway keeps of a body."""
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def router(make_shared, engine, model):
    """A router of two models, beside a server of one; `.headers` by what the key allows."""
    if engine != "llama-server":
        pytest.skip("the bundled engine has no router")
    proxy = make_shared(llama_server_args=["-t", "1", "-c", "512"])
    models = proxy.directory / "models"
    models.mkdir()
    for name in ("mine", "theirs"):
        shutil.copy(model, models / f"{name}.gguf")
    proxy.configure(llama_models_dir=str(models))
    proxy.server("single", port=proxy.web_port + 1, host="127.0.0.1", model_path=str(model), args=ENGINE_ARGS)
    proxy.start().wait_for_status("ready")
    keys = {"mine": {"allowed_models": ["mine"]}, "gpt-4": {"allowed_models": ["gpt-4"]}, "all": {}}
    proxy.headers = {
        name: {"Authorization": f"Bearer {secret}"} for name, secret in make_keys(proxy, keys).items()
    }
    proxy.wait_for("the models are known", lambda: set(ids(proxy, "all")) == {"mine", "single", "theirs"})
    proxy.wait_for("the keys count", lambda: ids(proxy, "mine") == ["mine"])
    return proxy


def ids(proxy, key):
    answer = requests.get(f"{proxy.gateway_url}/v1/models", headers=proxy.headers[key], timeout=DEADLINE)
    return [entry["id"] for entry in answer.json().get("data", [])]


def ask(proxy, body, key="mine", query="", **headers):
    data = body if isinstance(body, str) else json.dumps(body)
    url = f"{proxy.gateway_url}{CHAT}{query}"
    return requests.post(url, data, headers={**JSON, **proxy.headers[key], **headers}, timeout=DEADLINE)


def said(**fields):
    return {**fields, "messages": MESSAGES, "max_tokens": 1}


def test_a_limited_key_sees_and_gets_the_model_that_it_may_use(router):
    assert ids(router, "mine") == ["mine"]
    assert ids(router, "gpt-4") == []
    assert ask(router, said(model="mine")).json()["model"] == "mine"
    assert "theirs" not in ask(router, said(model="nobody-s")).text


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (said(model="theirs"), ""),
        (said(model="single"), ""),
        (said(model="demo.gguf"), ""),
        (said(model="default"), ""),
        (said(), ""),
        (said(model="theirs"), "?model=mine"),
        ('{"model": "mine", "model": "theirs", "messages": [{"role": "user", "content": "x"}]}', ""),
        ('{"model": "mine", ' + PAD + ', "model": "theirs", "messages": []}', ""),
        ("{" + PAD + ', "messages": [], "mod\\u0065l": "theirs"}', "?model=mine"),
        ("{" + PAD + ', "messages": []}', "?model=mine"),
    ],
    ids=range(10),
)
def test_a_limited_key_does_not_get_another_model(router, body, query):
    answer = ask(router, body, query=query)
    assert answer.status_code in (403, 404), answer.text
    assert answer.json()["error"]["code"] in ("model_not_allowed", "model_not_found")


@pytest.mark.parametrize("first", ["mine", "theirs"])
def test_a_long_body_is_let_in_by_the_model_that_the_server_will_use(router, first):
    question = json.dumps(said(model="mine"))
    answer = ask(router, '{"model": "' + first + '", ' + PAD + ", " + question[1:])
    assert answer.json()["model"] == "mine", answer.text


def test_a_name_that_only_the_client_uses_is_no_right(router):
    for model in ("gpt-4", "single", "mine"):
        answer = ask(router, said(model=model), key="gpt-4")
        assert answer.status_code in (403, 404), answer.text


def test_another_key_s_conversation_of_another_model_is_neither_shown_nor_stopped(router):
    body = {**said(model="theirs"), "stream": True, "max_tokens": 5000, "ignore_eos": True}
    answer = requests.post(
        f"{router.gateway_url}{CHAT}",
        json=body,
        headers={**router.headers["all"], "X-Conversation-Id": "secret"},
        timeout=DEADLINE,
        stream=True,
    )
    next(answer.iter_content(1))
    url = f"{router.gateway_url}/v1/stream?conv_id=secret"
    for method in ("GET", "HEAD", "DELETE"):
        for query in ("", "&model=mine"):
            refused = requests.request(method, url + query, headers=router.headers["mine"], timeout=DEADLINE)
            assert refused.status_code == 403, refused.text
    answer.close()
    stopped = requests.delete(url, headers=router.headers["all"], timeout=DEADLINE)
    assert stopped.status_code == 204
