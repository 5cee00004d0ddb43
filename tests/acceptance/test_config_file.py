"""The config file while everything runs."""

from __future__ import annotations

import requests

from tests.deadline import DEADLINE


def asks(proxy, model):
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    return requests.post(f"{proxy.gateway_url}/v1/chat/completions", json=body, timeout=DEADLINE).status_code


def test_a_file_that_is_gone_or_wrong_for_a_moment_stops_nothing(ready):
    before = ready.status()["pid"]
    ready.configure(llama_api_key="sk-swordfish", model_aliases=["chat"])
    pid = ready.wait_for_new_pid(before)["pid"]
    assert asks(ready, "chat") == 200
    for happens, line in (
        (ready.config_file.unlink, "is gone: what it said last stays in force"),
        (lambda: ready.config_file.write_text("{"), "is not JSON"),
    ):
        happens()
        ready.wait_for_line(line)
        assert asks(ready, "chat") == 200
        assert ready.status()["pid"] == pid


def test_a_gateway_that_starts_while_the_file_is_wrong_knows_name_and_key(make_proxy, engine, model):
    proxy = make_proxy(llama_model_path=str(model), llama_api_key="sk-swordfish", model_aliases=["chat"])
    proxy.start(web=False).wait_for_line("Service ready")
    proxy.config_file.write_text("{")
    proxy.wait_for_line("is not JSON")
    proxy.start_gateway()
    assert asks(proxy, "chat") == 200
