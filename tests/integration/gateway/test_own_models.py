"""The models of all servers, as the gateway lists and tells of them itself."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.listing import listing_of
from supervisor_app.gateway.servers.facts import ServerFacts
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request, with_key
from tests.integration.gateway.scripts import answers


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
async def test_the_models_of_all_servers_are_listed_in_their_words_with_their_abilities(plane, path):
    assert (await plane.ask(request(path))).json == {"object": "list", "data": [], "models": []}
    told = {"id": "/m/qwen.gguf", "aliases": ["/m/qwen.gguf", "q"], "created": 5, "meta": {"n_ctx": 2048}}
    listing = listing_of({"data": [told], "models": [{"name": "/m/qwen.gguf", "capabilities": ["x"]}]}, 1.0)
    await plane.serve(answers(), name="b", status=Status.STARTING, detail="Loading: 40 %.")
    await plane.serve(
        answers(), name="a", models=("a", "qwen", "/m/qwen.gguf", "q"), offered=("qwen",), listing=listing
    )
    found = (await plane.ask(request(path))).json
    b, qwen = found["data"]
    assert qwen == {
        "id": "qwen",
        "aliases": ["a", "q"],
        "object": "model",
        "created": 5,
        "owned_by": "llamacpp",
        "meta": {"n_ctx": 2048},
        "status": {"value": "loaded"},
        "llamaproxy": {
            "server": "a",
            "status": "ready",
            "detail": "Serving.",
            "servers": [{"server": "a", "status": "ready", "detail": "Serving."}],
        },
    }
    assert (b["id"], b["status"], b["llamaproxy"]["detail"]) == ("b", {"value": "loading"}, "Loading: 40 %.")
    assert [(each["name"], each["model"], each["capabilities"]) for each in found["models"]] == [
        ("b", "b", ["completion"]),
        ("qwen", "qwen", ["x"]),
    ]


@pytest.mark.parametrize(
    ("facts", "value"),
    [
        ({"status": Status.READY}, "loaded"),
        ({"status": Status.STARTING}, "loading"),
        ({"status": Status.CRASHED}, "loading"),
        ({"status": Status.ERROR}, "failed"),
        ({"status": Status.STOPPING}, "unloaded"),
        ({"status": Status.INITIAL, "wanted": False, "wakes": True}, "unloaded"),
        ({"status": Status.INITIAL, "unloaded": True}, "unloaded"),
    ],
    ids=lambda value: str(value),
)
async def test_whether_a_model_is_in_memory_is_told_in_the_words_of_llama_server_s_router(
    plane, facts, value
):
    await plane.serve(answers(), **facts)
    (entry,) = (await plane.ask(request("/v1/models"))).json["data"]
    assert entry["status"] == {"value": value}


async def test_the_models_of_a_router_are_listed_as_the_router_says(plane):
    status = {"value": "unloaded", "failed": True, "exit_code": 1, "args": ["--port", "1"], "preset": "/m"}
    told = {"data": [{"id": "two", "status": {"value": "loaded"}}, {"id": "one", "status": status}]}
    server = await plane.serve(answers(), name="r")
    server.says(**vars_of(ServerFacts(name="r", is_router=True).with_listing(listing_of(told, 1.0))))
    one, two = (await plane.ask(request("/v1/models"))).json["data"]
    assert (one["status"], two["status"]) == (
        {"value": "unloaded", "failed": True, "exit_code": 1},
        {"value": "loaded"},
    )
    server.says(status=Status.CRASHED)
    values = [each["status"]["value"] for each in (await plane.ask(request("/v1/models"))).json["data"]]
    assert values == ["unloaded", "unloaded"]


def vars_of(facts):
    return {name: getattr(facts, name) for name in ("models", "offered", "listing", "is_router")}


async def test_a_key_sees_what_it_may_use(plane):
    with_key(plane, models=frozenset({"alias", "b"}))
    await plane.serve(answers(), name="a", models=("qwen", "alias"), offered=("qwen",))
    await plane.serve(answers(), name="b", models=("qwen",), offered=("qwen",))
    await plane.serve(answers(), name="c", models=("gemma", "qwen"), offered=("gemma",))
    key = "X-Api-Key: lp-a"
    (qwen,) = (await plane.ask(request("/v1/models", key))).json["data"]
    assert (qwen["id"], [each["server"] for each in qwen["llamaproxy"]["servers"]]) == ("qwen", ["a", "b"])
    assert (await plane.ask(request("/v1/models/qwen", key))).json["llamaproxy"]["server"] == "a"
    for asked in (request("/v1/models/gemma", key), request(EMBEDDINGS, key, body={"model": "nobody's"})):
        answer = await plane.ask(asked)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert answer.error["message"].endswith("There is: qwen.")


@pytest.mark.parametrize("name", ["default", "org/qwen 3", "qwen 3.gguf", "alias"])
async def test_a_model_is_told_by_every_name_that_a_request_may_use(plane, name):
    server = await plane.serve(
        answers(), models=("default", "org/qwen 3", "qwen 3.gguf", "alias"), offered=("org/qwen 3",)
    )
    for path in (quote(name), quote(name, safe="")):
        found = (await plane.ask(request(f"/v1/models/{path}"))).json
        assert (found["id"], found["object"], found["llamaproxy"]["server"]) == (name, "model", "default")
    assert not server.calls


async def test_a_model_that_nobody_has_is_not_there_although_one_server_takes_any_name(plane):
    server = await plane.serve(answers())
    answer = await plane.ask(request("/v1/models/gpt-4"))
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert (await plane.ask(question(model="gpt-4"))).status == 200
    assert len(server.calls) == 1


async def test_a_model_of_several_servers_is_listed_once_and_its_soonest_server_told(plane):
    for name, status in [("a", Status.CRASHED), ("b", Status.READY), ("c", Status.STARTING)]:
        await plane.serve(answers(), name=name, status=status, models=(name, "qwen"), offered=("qwen",))
    (model,) = (await plane.ask(request("/v1/models"))).json["data"]
    assert (model["id"], model["aliases"], model["status"]) == ("qwen", ["b", "c", "a"], {"value": "loaded"})
    assert [each["server"] for each in model["llamaproxy"]["servers"]] == ["b", "c", "a"]
    assert (await plane.ask(request("/v1/models/qwen"))).json["llamaproxy"]["server"] == "b"
    answer = await plane.ask(request("/v1/models/gpt-4"))
    assert answer.error["message"].endswith("There is: qwen.")


async def test_a_client_that_asks_by_a_path_is_told_a_name(plane):
    await plane.serve(answers(), models=("default", "/m/qwen.gguf"), offered=("default",))
    assert (await plane.ask(request("/v1/models//m/qwen.gguf"))).json["id"] == "default"


async def test_a_server_of_several_models_is_asked_for_them_before_they_are_listed(plane):
    server = await plane.serve(answers(), name="r", is_router=True)
    plane.outside.more = lambda: server.says(offered=("new",), models=("new",))
    (model,) = (await plane.ask(request("/v1/models"))).json["data"]
    assert (model["id"], plane.outside.reads) == ("new", [""])


@pytest.mark.parametrize(
    ("query", "how"), [("", ""), ("?reload=0", ""), ("?reload=1", "reload"), ("?a=b&reload=true", "reload")]
)
async def test_a_client_that_wants_new_models_has_them_looked_for_first(plane, query, how):
    server = await plane.serve(answers())
    assert (await plane.ask(request(f"/v1/models{query}"))).status == 200
    assert not plane.outside.reads, "one of a single model has nothing new to say"
    server.says(is_router=True)
    assert (await plane.ask(request(f"/v1/models{query}"))).status == 200
    assert plane.outside.reads == [how]
    server.says(status=Status.CRASHED)
    assert (await plane.ask(request(f"/v1/models{query}"))).status == 200
    assert plane.outside.reads == [how]


async def test_before_a_model_is_said_not_to_exist_servers_of_several_are_asked_once_more(plane):
    await plane.serve(answers(), name="a")
    router = await plane.serve(answers(b"x"), name="r", is_router=True)
    plane.outside.more = lambda: router.says(offered=("new",), models=("new",))
    assert (await plane.ask(question(model="new"))).content == b"x"
    assert (await plane.ask(question(model="old"))).error["code"] == "model_not_found"
    assert plane.outside.reads == ["now", "now"]


async def test_a_client_that_leaves_while_servers_are_asked_is_gone(plane):
    await plane.serve(answers(), name="a")
    await plane.serve(answers(), name="r", is_router=True)
    told, asked = asyncio.Event(), asyncio.Event()

    async def read_models(**_):
        asked.set()
        await told.wait()

    plane.outside.read_models = read_models
    callers = [await plane.connect() for _ in range(2)]
    for caller, data in zip(callers, (question(model="new"), request("/v1/models")), strict=True):
        await caller.send(data)
        await asyncio.wait_for(asked.wait(), DEADLINE)
        asked.clear()
        caller.leave()
    await eventually(lambda: not plane.gateway.exchanges)
    told.set()


async def test_a_mistake_in_reading_models_is_told(plane, caplog):
    async def broken(**_):
        raise RuntimeError("bug")

    await plane.serve(answers(), name="a")
    await plane.serve(answers(), name="b", is_router=True)
    plane.outside.read_models = broken
    for data in (question(model="new"), request("/v1/models")):
        answer = await plane.ask(data)
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "bug" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/load"),
        ("POST", "/models/unload"),
        ("POST", "/models"),
        ("DELETE", "/models?model=a"),
    ],
)
async def test_when_its_models_are_changed_a_server_is_asked_anew(plane, method, path):
    await plane.serve(answers(), name="r", is_router=True)
    caller = await plane.connect()
    for _ in range(2):  # not the fast path either
        assert (await caller.ask(request(path, body={"model": "a"}, method=method))).status == 200
    assert plane.outside.changed == ["r", "r"]
    assert (await caller.ask(question(model="r"))).status == 200
    assert plane.outside.changed == ["r", "r"]
