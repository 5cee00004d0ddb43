"""The list of models as a real client reads it, of real llama-servers: by name, by alias, of a router."""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager, suppress

import openai
import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.askers import MESSAGES
from tests.acceptance.gateway.conftest import RECOVERS_FAST
from tests.deadline import DEADLINE
from tests.ports import free_port


@contextmanager
def client(proxy, key="none"):
    with openai.OpenAI(base_url=f"{proxy.gateway_url}/v1", api_key=key, timeout=DEADLINE) as made:
        yield made


def listed(proxy, query=""):
    """Return the models by id, as openai's client reads them."""
    with client(proxy) as openai_client:
        page = openai_client.models.with_raw_response.list(extra_query={"reload": query} if query else None)
        return {each.id: each for each in page.parse().data}


def ask(proxy, model):
    with client(proxy) as openai_client:
        return openai_client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=2)


def add_server(proxy, name, **fields):
    """Add a server as people do in the admin."""
    fields = {"name": name, "port": free_port(), "host": "127.0.0.1", "args": ENGINE_ARGS, **fields}
    proxy.python(
        "from supervisor_app.fleet.models import LlamaServer", f"LlamaServer.objects.create(**{fields!r})"
    )


def in_state(proxy, model, value):
    def look():
        entry = None
        with suppress(openai.APIConnectionError):  # it has yet to listen
            entry = listed(proxy).get(model)
        return entry if entry is not None and entry.status["value"] == value else None

    return proxy.wait_for(f"{model} is {value}", look)


def test_a_model_has_one_id_and_its_server_s_own_entry_through_its_whole_life(make_proxy, engine, model):
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, **RECOVERS_FAST)
    proxy.start().wait_for_status("ready")
    ready = in_state(proxy, "default", "loaded")
    proxy.wait_for("it tells of itself", lambda: "meta" in listed(proxy)["default"].model_extra)
    ready = listed(proxy)["default"]
    own = requests.get(
        f"{proxy.engine_url}/v1/models", headers=proxy.engine_headers, timeout=DEADLINE
    ).json()["data"][0]
    assert ready.meta == own["meta"]
    assert ready.meta["n_ctx"] > 0
    assert (ready.architecture, ready.owned_by) == (own["architecture"], own["owned_by"])
    assert ready.llamaproxy["servers"] == [
        {"server": "default", "status": "ready", "detail": ready.llamaproxy["detail"]}
    ]
    assert not [name for name in [ready.id, *ready.aliases] if "/" in name]
    proxy.llama("stop")
    proxy.wait_for_status("initial")
    stopped = in_state(proxy, "default", "unloaded")
    assert (stopped.meta, stopped.created) == (ready.meta, ready.created)
    proxy.llama("start")
    proxy.wait_for_status("ready")
    proxy.supervisor.signal(signal.SIGTERM)
    proxy.supervisor.wait()
    broken = proxy.directory / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    proxy.configure(llama_server_binary=str(broken), max_retries=0)
    proxy.start()
    failed = in_state(proxy, "default", "failed")
    assert failed.meta == ready.meta


def test_every_name_of_a_model_is_good_for_a_request_among_several_servers(make_proxy, engine, model):
    args = [*ENGINE_ARGS, "--alias", "qwen,second"]
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=args, model_aliases=["gpt-4"])
    add_server(proxy, "b", model_path=str(model))
    add_server(proxy, "c", model_path=str(model))
    proxy.start().wait_for_status("ready")
    proxy.wait_for("all are there", lambda: {"gpt-4", model.stem} <= set(listed(proxy)))
    found = listed(proxy)
    assert list(found) == ["demo", "gpt-4"]
    assert found["gpt-4"].aliases[0] == "default"
    assert {"qwen", "second", "demo", "demo.gguf"} <= set(found["gpt-4"].aliases)
    assert sorted(each["server"] for each in found["demo"].llamaproxy["servers"]) == ["b", "c", "default"]
    for name in ("default", "gpt-4", "qwen", "second", "b", "demo", "demo.gguf", str(model)):
        assert ask(proxy, name).choices[0].message.content
        with client(proxy) as openai_client:
            assert not openai_client.models.retrieve(name).id.startswith("/")
    with pytest.raises(openai.NotFoundError, match=r"There is: demo, gpt-4\."):
        ask(proxy, "gpt-5")


def test_a_router_s_models_come_go_and_are_kept(make_proxy, engine, model):
    if engine != "llama-server":
        pytest.skip("the bundled engine has no router")
    proxy = make_proxy(llama_server_args=ENGINE_ARGS, **RECOVERS_FAST)
    models = proxy.directory / "models"
    models.mkdir()
    for name in ("one", "two"):
        shutil.copy(model, models / f"{name}.gguf")
    proxy.configure(llama_models_dir=str(models))
    add_server(proxy, "b", model_path=str(model))
    proxy.start().wait_for_status("ready")
    proxy.wait_for("all are there", lambda: set(listed(proxy)) == {"b", "one", "two"})
    assert {name: each.status["value"] for name, each in listed(proxy).items() if name != "b"} == {
        "one": "unloaded",
        "two": "unloaded",
    }
    assert ask(proxy, "one").model == "one"
    loaded = in_state(proxy, "one", "loaded")
    assert loaded.meta["n_ctx"] > 0
    assert not {"args", "preset"} & set(loaded.status)
    load = requests.post(
        f"{proxy.gateway_url}/models/load?model=two", json={"model": "two"}, timeout=DEADLINE
    )
    assert load.json() == {"success": True}
    in_state(proxy, "two", "loaded")
    shutil.copy(model, models / "three.gguf")
    assert "three" in listed(proxy, query="1")
    assert ask(proxy, "three").model == "three"
    shutil.copy(model, models / "four.gguf")
    requests.get(f"{proxy.engine_url}/models?reload=1", headers=proxy.engine_headers, timeout=DEADLINE)
    assert ask(proxy, "four").model == "four", "one that nobody told the gateway of"
    proxy.llama("stop")
    proxy.wait_for_status("initial")
    stopped = in_state(proxy, "one", "unloaded")
    assert stopped.meta == loaded.meta
    assert set(listed(proxy)) == {"b", "one", "two", "three", "four"}
