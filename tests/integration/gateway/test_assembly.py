"""A request without a stream, sent as one: its answer is the server's, and it ends when its client leaves."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import ServerFacts
from tests.deadline import DEADLINE
from tests.integration.gateway.engines import ENGINES, TEMPLATE, engine
from tests.integration.gateway.plane import CHAT, Caller, request, start_plane
from tests.integration.gateway.scripts import (
    EVENTS,
    FINISH,
    LAST_CHUNK,
    answers,
    chunked,
    hangs,
    head,
    loads,
    sends,
    stream_of,
    streams,
)
from tests.integration.gateway.test_unstream_engine import comparable

QUESTION = [{"role": "user", "content": "hi"}]
PLAIN = b'{"plain": true}'


def chat(**fields):
    return request(CHAT, body={"model": "default", "messages": QUESTION, **fields})


# --- With a scripted server ----------------------------------------------------------------------------


def piece(delta, finish_reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return sse({"choices": [choice], "object": "chat.completion.chunk"})


def sse(data):
    return b"data: %s\n\n" % json.dumps(data).encode()


USAGE = sse({"choices": [], "usage": {"completion_tokens": 3}, "object": "chat.completion.chunk"})
TEXT = (
    piece({"role": "assistant"}),
    piece({"content": "a"}),
    piece({"content": "b"}),
    piece({}, "stop"),
    USAGE,
)
WHOLE = streams(*TEXT)


async def asks(plane, **fields):
    return await plane.ask(chat(**fields))


def asked_for_streams(server):
    """Of each request that came to it."""
    return [json.loads(content).get("stream", False) for content in server.contents]


async def test_an_assembled_answer_is_put_together_and_all_else_is_as_the_server_said_it(plane):
    fields = ["Transfer-Encoding: chunked", "Cache-Control: no-cache", "X-Accel-Buffering: no", "X-Id: 7"]
    content = b"".join(map(chunked, TEXT)) + FINISH
    server = await plane.serve(sends(head(200, EVENTS, *fields) + content))
    answer = await asks(plane)
    message = {"role": "assistant", "content": "ab"}
    assert (answer.status, answer.json) == (
        200,
        {
            "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
            "usage": {"completion_tokens": 3},
            "object": "chat.completion",
        },
    )
    (record,) = await plane.records(1)
    assert answer.fields == {
        "content-type": "application/json; charset=utf-8",
        "server": "llama.cpp",
        "x-id": "7",
        "x-request-id": record.id,
        "content-length": str(len(answer.content)),
    }
    assert asked_for_streams(server) == [True]
    assert (record.outcome, record.streamed, record.usage.generated_tokens) == (Outcome.OK, False, 3)


@pytest.mark.parametrize(
    ("limit", "as_stream"),
    [({}, True), ({"max_tokens": 257}, True), ({"max_tokens": -1}, True), ({"max_tokens": 256}, False)],
)
async def test_only_an_answer_that_may_be_long_is_asked_for_as_a_stream(plane, limit, as_stream):
    server = await plane.serve(WHOLE if as_stream else answers(PLAIN))
    assert (await asks(plane, **limit)).status == 200
    assert asked_for_streams(server) == [as_stream]


async def test_a_server_of_one_slot_is_asked_for_a_stream_to_notice_a_client_that_leaves(plane):
    server = await plane.serve(WHOLE)
    plane.gateway.backends["default"].learn_slots(1)
    assert (await asks(plane)).status == 200
    assert asked_for_streams(server) == [True]


async def test_a_router_that_loses_its_model_in_the_middle_is_asked_again(plane):
    lost = chunked(b"proxy error: Failed to read connection") + LAST_CHUNK
    server = await plane.serve(sends(stream_of(*TEXT[:2]) + lost), WHOLE)
    assert (await asks(plane)).status == 200
    assert asked_for_streams(server) == [True, True]
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays, record.run_name) == (Outcome.REPLAYED, 1, "1")


VERBOSE = streams(*TEXT[:3], sse({"choices": [], "__verbose": {"stream": True}}))


async def test_a_server_that_is_known_to_be_verbose_is_asked_as_its_client_asked(plane):
    server = await plane.serve(answers(PLAIN), is_verbose=True)
    assert (await asks(plane)).json == {"plain": True}
    assert asked_for_streams(server) == [False]


async def test_a_server_that_turns_out_to_be_verbose_is_asked_so_from_then_on(plane):
    server = await plane.serve(VERBOSE, answers(PLAIN))
    assert [(await asks(plane)).json for _ in range(2)] == [{"plain": True}] * 2
    assert asked_for_streams(server) == [True, False, False]


async def test_the_next_process_of_a_server_is_asked_for_streams_again(plane):
    server = await plane.serve(VERBOSE, answers(PLAIN), WHOLE)
    await asks(plane)
    server.restarted()
    assert (await asks(plane)).status == 200
    assert asked_for_streams(server) == [True, False, True]


async def test_an_answer_that_speaks_of_being_verbose_is_not(plane):
    said = piece({"content": '{"__verbose": 1}'})
    server = await plane.serve(streams(TEXT[0], said, *TEXT[3:]))
    assert (await asks(plane)).json["choices"][0]["message"]["content"] == '{"__verbose": 1}'
    assert asked_for_streams(server) == [True]


async def test_an_error_of_the_server_is_passed_on_as_it_is(plane):
    await plane.serve(answers(b'{"error": {"code": 400}}', 400))
    answer = await asks(plane)
    assert (answer.status, answer.content) == (400, b'{"error": {"code": 400}}')


async def test_an_error_in_the_middle_is_an_error_as_without_a_stream(plane):
    error = {"error": {"code": 507, "message": "The context is full."}}
    await plane.serve(streams(*TEXT[:2], sse(error)))
    answer = await asks(plane)
    assert (answer.status, answer.json) == (507, error)
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.UPSTREAM_ERROR


async def test_an_assembled_request_waits_while_the_server_loads_its_model(plane):
    server = await plane.serve(loads(), WHOLE)
    assert (await asks(plane)).json["choices"][0]["message"]["content"] == "ab"
    assert asked_for_streams(server) == [True, True]


@pytest.mark.parametrize("events", range(len(TEXT) + 1))
async def test_a_request_whose_server_dies_is_asked_again_however_much_had_come(plane, events):
    server = await plane.serve(sends(stream_of(*TEXT[:events])), WHOLE)
    answer = await asks(plane)
    assert answer.json["choices"][0]["message"]["content"] == "ab"
    assert len(server.calls) == 2
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.REPLAYED, 1)


@pytest.mark.parametrize(
    "stream",
    [
        streams(TEXT[0], b"data: {\n\n"),
        streams(*TEXT[:2]),
        sends(stream_of(*TEXT) + LAST_CHUNK),
        streams(piece({}, "length"), USAGE),
        streams(*TEXT, b'data: {"\xff":1,"choices":[]}\n\n'),
    ],
    ids=["garbage", "half", "not done", "uncertain", "no text"],
)
async def test_an_answer_that_cannot_be_told_from_the_stream_is_asked_for_plainly(plane, stream):
    server = await plane.serve(stream, answers(PLAIN))
    answer = await asks(plane)
    assert (answer.status, answer.content) == (200, PLAIN)
    assert asked_for_streams(server) == [True, False]
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.OK, 0)


async def test_the_server_sees_that_the_client_of_an_assembled_answer_leaves(plane):
    server = await plane.serve(hangs(stream_of(*TEXT[:2])))
    caller = await plane.connect()
    await caller.send(chat())
    call = await server.until_called()
    caller.leave()
    await call.until_left()
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.CLIENT_LEFT


# --- With a real one -----------------------------------------------------------------------------------


ENGINE = next((name for name in ENGINES if shutil.which(name)), ENGINES[-1])
FLAGS = ("-c", "4096", "-np", "4", "--jinja", "--chat-template-file", str(TEMPLATE), "--context-shift")
FIXED = {"temperature": 0, "seed": 1, "cache_prompt": False}
ENDLESS = {**FIXED, "max_tokens": 10**6, "ignore_eos": True}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with engine(ENGINE, tmp_path_factory.mktemp("engine"), *FLAGS) as running:
        yield running


@asynccontextmanager
async def gateway_to(running):
    """A plane in front of a real engine of several slots."""
    plane = await start_plane()
    hear(plane, running)
    plane.gateway.backends["default"].learn_slots(4)
    try:
        yield plane
    finally:
        await plane.close()


def hear(plane, running, version=1):
    """It is ready."""
    url, pid = f"http://127.0.0.1:{running.port}", running.process.pid
    facts = ServerFacts(name="default", status=Status.READY, url=url, pid=pid, version=version)
    plane.gateway.hear(facts)


@asynccontextmanager
async def connection_to(port):
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield caller
    finally:
        caller.leave()


REQUESTS = {
    "chat": (CHAT, {"messages": QUESTION, "max_tokens": 300}),
    "choices": (CHAT, {"messages": QUESTION, "max_tokens": 300, "n": 2}),
    "completion": ("/v1/completions", {"prompt": "x", "max_tokens": 300}),
    "native": ("/completion", {"prompt": "x", "n_predict": 300}),
    "until it ends": (CHAT, {"messages": QUESTION, "grammar": 'root ::= "a🦙b"'}),
    "too long": (CHAT, {"messages": [{"role": "user", "content": "hi " * 5000}]}),
    "bad grammar": (CHAT, {"messages": QUESTION, "grammar": "root ::= ("}),
    "bad message": (CHAT, {"messages": [{"role": "user"}]}),
    "no prompt": ("/v1/completions", {"max_tokens": 300}),
}


@pytest.mark.engine
@pytest.mark.parametrize(("path", "fields"), REQUESTS.values(), ids=REQUESTS)
async def test_an_assembled_answer_is_field_for_field_the_servers(real, path, fields):
    question = request(path, body={**FIXED, **fields})
    async with gateway_to(real) as plane, connection_to(real.port) as direct:
        expected, answer = await direct.ask(question), await plane.ask(question)
    assert (answer.status, comparable(answer.json)) == (expected.status, comparable(expected.json))
    assert answer.fields["content-type"] == expected.fields["content-type"]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    with engine(ENGINE, tmp_path_factory.mktemp("chatty"), *FLAGS, "--verbose") as running:
        yield running


@pytest.mark.engine
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_a_verbose_server_tells_through_us_what_it_tells_by_itself(chatty, path):
    body = {**FIXED, "messages": QUESTION, "prompt": "x", "max_tokens": 300}
    question = request(path, body=body)
    async with gateway_to(chatty) as plane, connection_to(chatty.port) as direct:
        expected, answer = await direct.ask(question), await plane.ask(question)
    assert answer.json.keys() == expected.json.keys()
    assert answer.json["__verbose"].keys() == expected.json["__verbose"].keys()
    assert b'"stream":true' not in answer.content.replace(b" ", b"")


async def slots(running):
    """How many tokens of its answer each busy one has generated, by its number."""
    async with connection_to(running.port) as caller:
        found = (await caller.ask(request("/slots"))).json
    return {slot["id"]: slot["next_token"][0]["n_decoded"] for slot in found if slot["is_processing"]}


async def decoded(running, slot):
    return (await slots(running))[slot]


async def busy(running):
    """The numbers of those that have begun to answer."""
    return {number for number, tokens in (await slots(running)).items() if tokens}


async def until_busy(running, number):
    async with asyncio.timeout(DEADLINE):
        while len(found := await busy(running)) != number:
            await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def streaming_from(running):
    """Somebody else, to whom it streams without an end."""
    async with connection_to(running.port) as caller:
        await caller.send(request(CHAT, body={**ENDLESS, "messages": QUESTION, "stream": True}))
        await caller.read_until(b"data: ")
        reading = asyncio.create_task(read_on(caller))
        yield
        assert not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def read_on(caller):
    while True:
        await caller.read_until(b"\n")


@pytest.mark.engine
async def test_a_request_that_is_left_frees_its_slot_while_another_streams(real):
    async with gateway_to(real) as plane, streaming_from(real):
        others = await until_busy(real, 1)
        caller = await plane.connect()
        await caller.send(chat(**ENDLESS))
        await until_busy(real, 2)
        caller.leave()
        assert await until_busy(real, 1) == others
    await until_busy(real, 0)


@pytest.mark.engine
async def test_without_the_gateway_a_request_that_is_left_would_be_worked_on(tmp_path):
    """Why all this is done: when this fails, llama-server has learnt it and needs no help any more."""
    with engine(ENGINE, tmp_path, *FLAGS) as running:
        async with streaming_from(running):
            others = await until_busy(running, 1)
            async with connection_to(running.port) as caller:
                await caller.send(chat(**ENDLESS))
                (left,) = await until_busy(running, 2) - others
            so_far = await decoded(running, left)
            async with asyncio.timeout(DEADLINE):
                while await decoded(running, left) < so_far + 200:
                    await asyncio.sleep(0.01)


@pytest.mark.engine
async def test_the_next_real_server_answers_the_request_of_a_killed_one(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with (
        engine(ENGINE, tmp_path / "first", *FLAGS) as first,
        engine(ENGINE, tmp_path / "second", *FLAGS) as second,
    ):
        async with gateway_to(first) as plane:
            asking = plane.asks(chat(**FIXED, max_tokens=3000, ignore_eos=True))
            await until_busy(first, 1)
            first.process.kill()
            await plane.until_waiting(1)
            hear(plane, second, version=2)
            answer = await asking
            assert (answer.status, answer.json["usage"]["completion_tokens"]) == (200, 3000)
            (record,) = await plane.records(1)
            assert (record.outcome, record.replays) == (Outcome.REPLAYED, 1)
