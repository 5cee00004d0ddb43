"""Answers that go on without their clients, of two real llama-servers with the same model."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.servers.facts import ServerFacts
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.engines import engine, make_model_that_says
from tests.integration.gateway.plane import CHAT, request

pytestmark = pytest.mark.engine

BODY = {
    "messages": [{"role": "user", "content": "hello"}],
    "stream": True,
    "max_tokens": 20_000,
    "ignore_eos": True,
}


CONTEXT = 16384
"""Tokens: an answer that fills it takes longer than any test is patient."""


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    words = [f"w{number}," for number in range(40)]
    path = tmp_path_factory.mktemp("slow") / "slow.gguf"
    return make_model_that_says(path, *words, padding_mb=16, context=CONTEXT)


@pytest.fixture
async def two(plane, tmp_path, slow_model):
    with ExitStack() as stack:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            running = stack.enter_context(
                engine(
                    "llama-server", tmp_path / name, "-m", str(slow_model), "-c", str(4 * CONTEXT), "-np", "4"
                )
            )
            url = f"http://127.0.0.1:{running.port}"
            known = {
                "status": Status.READY,
                "pid": 1,
                "version": 1,
                "models": ("tiny",),
                "offered": ("tiny",),
            }
            plane.gateway.hear(ServerFacts(name=name, url=url, **known))
        yield plane


async def begin(plane, conversation, model):
    """The server goes on with its answer; its client has left."""
    caller = await plane.connect()
    await caller.send(request(CHAT, f"X-Conversation-Id: {conversation}", body={**BODY, "model": model}))
    await completion_of(caller)
    caller.leave()
    await eventually(lambda: not plane.gateway.exchanges)


async def lookup(plane, *conversations):
    body = {"conversation_ids": list(conversations)}
    return (await plane.ask(request("/v1/streams/lookup", body=body))).json


async def test_a_conversation_s_stream_is_had_and_stopped_at_the_server_that_has_it(two):
    for conversation, model in (("x", "a"), ("y", "b")):
        await begin(two, conversation, model)
    found = await lookup(two, "x", "y", "nobody's")
    assert {each["conversation_id"]: each["is_done"] for each in found} == {"x": False, "y": False}
    for conversation, server in (("x", "a"), ("y", "b")):
        caller = await two.connect()
        await caller.send(request(f"/v1/stream?conv_id={conversation}&from=0"))
        await completion_of(caller)
        (exchange,) = two.gateway.exchanges
        assert exchange.record().server == server
        caller.leave()
        await eventually(lambda: not two.gateway.exchanges)
        stopped = await two.ask(request(f"/v1/stream?conv_id={conversation}", method="DELETE"))
        assert stopped.status == 204
    await asyncio.wait_for(_until_gone(two), DEADLINE)


async def _until_gone(two):
    while any(not each["is_done"] for each in await lookup(two, "x", "y")):
        await asyncio.sleep(0.05)


async def test_an_order_reaches_the_server_that_makes_the_answer(two):
    caller = await two.connect()
    await caller.send(request(CHAT, body={**BODY, "model": "b"}))
    assert await caller.read_until(b'"id":"')
    completion = (await caller.read_until(b'"')).decode().strip('"')
    order = {"id": completion, "action": "reasoning_end"}
    told = await two.ask(request("/v1/chat/completions/control", body=order))
    assert told.json["message"] == "reasoning control not enabled for this completion", "so it is there"
    caller.leave()
    await eventually(lambda: not two.gateway.exchanges)
    told = await two.ask(request("/v1/chat/completions/control", body={**order, "id": "nobody-s"}))
    assert told.json["message"] == "no active completion for this id"


async def test_a_stream_that_nobody_has_is_not_there(two):
    answer = await two.ask(request("/v1/stream?conv_id=nobody-s"))
    assert (answer.status, json.loads(answer.content)["error"]["message"]) == (404, "File Not Found")


async def test_the_next_answer_of_a_conversation_comes_from_the_same_server(two):
    for number in range(4):
        await begin(two, f"c{number}", "tiny")
    before = [each["conversation_id"] for each in await lookup(two, "c0", "c1", "c2", "c3")]
    assert sorted(before) == ["c0", "c1", "c2", "c3"]
    for number in range(4):
        await begin(two, f"c{number}", "tiny")
    after = [each["conversation_id"] for each in await lookup(two, "c0", "c1", "c2", "c3")]
    assert sorted(after) == ["c0", "c1", "c2", "c3"], "the second replaced the first, at the same server"


async def test_a_key_has_the_streams_of_servers_that_it_may_use(two):
    await begin(two, "x", "a")
    policy = KeyPolicy(id=7, name="chat", digest=digest_of("lp-b"), models=frozenset({"b"}))
    two.gateway.door.keys = KeyRing([policy])
    key = "X-Api-Key: lp-b"
    assert (await two.ask(request("/v1/stream?conv_id=x", key))).status == 404
    assert (await two.ask(request("/v1/stream?conv_id=x&model=a", key))).status == 403
    body = {"conversation_ids": ["x"]}
    assert (await two.ask(request("/v1/streams/lookup", key, body=body))).json == []


KEYS = {
    name: KeyPolicy(id=number, name=name, digest=digest_of(f"lp-{name}"))
    for number, name in enumerate("xy", 3)
}


async def begin_with(plane, key, conversation="same"):
    caller = await plane.connect()
    lines = (f"X-Api-Key: lp-{key}", f"X-Conversation-Id: {conversation}")
    await caller.send(request(CHAT, *lines, body={**BODY, "model": "tiny"}))
    completion = await completion_of(caller)
    caller.leave()
    await eventually(lambda: not plane.gateway.exchanges)
    return completion


async def completion_of(caller):
    await caller.read_until(b'"id":"')
    return (await caller.read_until(b'"')).decode().strip('"')


async def test_keys_do_not_share_conversations_whatever_they_call_them(two):
    two.gateway.door.keys = KeyRing(KEYS.values())
    answers = {key: await begin_with(two, key) for key in KEYS}
    for key, completion in answers.items():
        lines = (f"X-Api-Key: lp-{key}",)
        body = {"conversation_ids": ["same", "key3:same", "key4:same"]}
        (found,) = (await two.ask(request("/v1/streams/lookup", *lines, body=body))).json
        assert (found["conversation_id"], found["is_done"]) == ("same", False), (
            "and it was not ended by the other"
        )
        caller = await two.connect()
        await caller.send(request("/v1/stream?from=0&conv_id=same&conv_id=key3%3Asame", *lines))
        assert await completion_of(caller) == completion
        caller.leave()
        await eventually(lambda: not two.gateway.exchanges)
    for conversation in ("key4:same", "key3%3Asame"):
        answer = await two.ask(request(f"/v1/stream?conv_id={conversation}", "X-Api-Key: lp-x"))
        assert answer.status == 404
    assert (
        await two.ask(request("/v1/stream?conv_id=same", "X-Api-Key: lp-x", method="DELETE"))
    ).status == 204
    body = {"conversation_ids": ["same"]}
    (found,) = (await two.ask(request("/v1/streams/lookup", "X-Api-Key: lp-y", body=body))).json
    assert not found["is_done"], "the other key's goes on"
    for bad in (b"{", {}, {"conversation_ids": 5}):
        assert (await two.ask(request("/v1/streams/lookup", "X-Api-Key: lp-y", body=bad))).status in (
            200,
            400,
        )
