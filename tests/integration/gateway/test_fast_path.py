"""Who takes the fast path, and that its requests count like any other."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.usage import NO_USAGE, Usage
from supervisor_app.gateway.plane.fast_path import FastExchange
from supervisor_app.gateway.plane.lifetime import FOR_EVER
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.suspects import Suspicion
from tests.integration.building import eventually
from tests.integration.gateway.fast import BEARER, asked, in_flight, warm
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import (
    EVENTS,
    answers,
    dies,
    hangs,
    head,
    sends,
    streams,
    waits_for,
)

# --- Who takes it --------------------------------------------------------------------------------------


async def test_a_request_like_the_one_before_it_takes_the_fast_path(plane, taken):
    server, caller = await warm(plane, answers(b"fast"))
    answer = await caller.ask(question("hi"))
    assert (answer.status, answer.content, answer.fields["server"]) == (200, b"fast", "llama.cpp")
    assert taken == [True]
    assert server.texts == ["warm", "hi"]
    assert server.connections == 1
    record = (await plane.records(2))[1]
    assert (record.outcome, record.status, record.server, record.model) == (
        Outcome.OK,
        200,
        "default",
        "default",
    )
    assert (record.method, record.route, record.usage) == ("POST", EMBEDDINGS, NO_USAGE)
    assert record.ttft_ms == record.duration_ms >= 0


async def test_the_fast_path_records_the_cost_of_an_answer(plane, taken):
    usage = {"completion_tokens": 3, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
    body = json.dumps({"usage": usage, "timings": {"predicted_per_second": 7.5}}).encode()
    _, caller = await warm(plane, answers(body))
    await caller.ask(question("hi"))
    assert taken == [True]
    assert (await plane.records(2))[1].usage == Usage(5, 1, 3, 7.5)


OTHERS = {
    "a stream": streaming("hi", EMBEDDINGS),
    "several answers": question("hi", n=2),
    "several prompts": question("hi", prompt=["a", "b"]),
    "another path": question("hi", "/v1/rerank"),
    "another field": request(EMBEDDINGS, "X-Other: 1", body={"input": "hi"}),
    "a GET": request("/props"),
    "half of a body": question("hi")[:-1],
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
async def test_a_request_unlike_the_one_before_does_not_take_the_fast_path(plane, taken, data):
    _, caller = await warm(plane, hangs())
    await caller.send(data)
    await eventually(lambda: plane.gateway.exchanges)
    assert not isinstance(in_flight(plane), FastExchange)
    assert True not in taken


async def test_a_request_for_a_long_answer_does_not_take_the_fast_path(plane, taken):
    """It is asked for as a stream: so the server notices when its client leaves."""
    server, caller = await warm(plane, hangs(), path=CHAT)
    await caller.send(question("hi", CHAT))
    await server.until_called(2)
    assert taken == [False]


async def test_a_stream_that_says_its_length_is_no_plain_answer(plane, taken):
    """It has not come to its end, and what is said of that must not be taken for the next answer."""
    sized = head(200, EVENTS, "Content-Length: 10") + b"data: {}\n\n"
    _, caller = await warm(plane, sends(sized), path=CHAT)
    await caller.send(question("hi", CHAT, max_tokens=1))
    with suppress(ConnectionResetError):
        assert (await caller.rest()).endswith(b"data: {}\n\n")
    assert taken == [True]
    assert (await plane.records(2))[1].outcome is Outcome.UPSTREAM_CRASHED


async def test_a_request_that_the_gateway_answers_does_not_take_the_fast_path(plane, taken):
    server, caller = await warm(plane, answers())
    for _ in range(3):
        assert (await caller.ask(question("hi", "/health"))).json["status"] == "ok"
    assert server.texts == ["warm"]
    assert True not in taken


async def test_a_body_that_is_not_kept_does_not_take_the_fast_path(plane, taken):
    plane.limit(replay_bytes=100)
    _, caller = await warm(plane, dies(), answers())
    answer = await caller.ask(question("x" * 200))
    assert (answer.status, answer.error["code"]) == (502, "upstream_crashed")
    assert taken == [False]


async def test_a_model_that_is_named_in_the_query_is_recorded(plane):
    await plane.serve(answers())
    caller = await plane.connect()
    for _ in range(3):
        await caller.ask(request(f"{EMBEDDINGS}?model=tiny", body={"input": "hi"}))
    assert [record.model for record in await plane.records(3)] == ["tiny"] * 3


async def test_a_request_with_the_next_one_behind_it_does_not_take_the_fast_path(plane, taken):
    server, caller = await warm(plane, answers(b"1"), answers(b"2"))
    await caller.send(question("one") + question("two"))
    assert [(await caller.answer()).content for _ in range(2)] == [b"1", b"2"]
    assert taken == []
    assert server.texts == ["warm", "one", "two"]


async def test_bytes_like_a_request_in_the_middle_of_a_head_are_none(plane, taken):
    server, caller = await warm(plane, answers())
    await caller.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ")
    (client,) = plane.gateway.clients
    await eventually(lambda: client.deadline < FOR_EVER and client.buffered)
    assert (await caller.ask(question("hi"))).status == 400  # a second `Host`
    assert len(server.calls) == 1
    assert taken == []


async def test_nobody_takes_the_fast_path_while_the_last_answer_is_not_read(plane, taken):
    _, caller = await warm(plane, answers(b"2"))
    (client,) = plane.gateway.clients
    client.pause_writing()
    await caller.send(question("hi"))
    await eventually(lambda: client.buffered)
    client.resume_writing()
    assert (await caller.answer()).content == b"2"
    assert taken == []


async def test_a_connection_is_not_idle_while_it_is_answered_but_it_is_after_that(plane, taken):
    plane.limit(idle_seconds=1.0)
    goes_on = asyncio.Event()
    _, caller = await warm(plane, waits_for(goes_on, answers(b"late")))
    await caller.send(question("hi"))
    await asyncio.sleep(1.5)
    goes_on.set()
    assert (await caller.answer()).content == b"late"
    assert await caller.is_cut_off()
    assert taken == [True]


async def test_nobody_takes_the_fast_path_at_a_full_server(plane, taken):
    goes_on = asyncio.Event()
    _, first = await warm(plane, waits_for(goes_on, answers()), answers(), capacity=1)
    second = await plane.connect()
    asking = asyncio.create_task(first.ask(question("first")))
    await plane.until_inside(1)
    waiting = asyncio.create_task(second.ask(question("second")))
    await plane.until_waiting(1)
    goes_on.set()
    assert [(await each).status for each in (asking, waiting)] == [200, 200]
    assert await second.ask(question("third"))
    assert taken == [True, True]


async def test_a_connection_that_could_not_be_used_is_there_for_the_next(plane, taken):
    goes_on = asyncio.Event()
    stream = waits_for(goes_on, streams())
    server, caller = await warm(plane, stream, answers(), capacity=1)
    asking = [plane.asks(streaming())]
    await plane.until_inside(1)
    asking.append(asyncio.create_task(caller.ask(question("hi"))))
    await plane.until_waiting(1)
    goes_on.set()
    assert [(await each).status for each in asking] == [200, 200]
    assert taken == [False]
    assert server.connections == 2  # a stream has one of its own


async def test_nobody_takes_the_fast_path_past_requests_that_wait(plane, taken):
    goes_on = asyncio.Event()
    server, caller = await warm(plane, waits_for(goes_on, answers()), answers(), capacity=1)
    blocking, waiting = plane.asks(question("first")), None
    await plane.until_inside(1)
    waiting = plane.asks(question("second"))
    await plane.until_waiting(1)
    third = asyncio.create_task(caller.ask(question("third")))
    await plane.until_waiting(2)
    goes_on.set()
    await asyncio.gather(blocking, waiting, third)
    assert server.texts == ["warm", "first", "second", "third"]
    assert taken == [False]


NOT_NOW = {
    "stopped for want of work": {"wanted": False, "wakes": True},
    "starting": {"status": Status.STARTING},
}


@pytest.mark.parametrize("facts", NOT_NOW.values(), ids=NOT_NOW)
async def test_nobody_takes_the_fast_path_to_a_server_that_is_not_just_ready(plane, taken, facts):
    server, caller = await warm(plane, hangs())
    server.says(**facts)
    await caller.send(question("hi"))
    await eventually(lambda: plane.gateway.exchanges)
    assert taken == [False]
    assert plane.outside.woken == (["default"] if "wakes" in facts else [])


async def test_nobody_takes_the_fast_path_while_anybody_is_suspected(plane, taken):
    _, caller = await warm(plane, answers())
    plane.gateway.inquest.suspect("of another request", Suspicion())
    assert (await caller.ask(question("hi"))).status == 200
    assert taken == [False]


# --- Keys ----------------------------------------------------------------------------------------------


async def test_a_key_s_requests_are_counted_there_too(plane, taken, only):
    only(requests_per_minute=3)
    _, caller = await warm(plane, answers(), lines=(BEARER,))
    statuses = [(await caller.ask(asked())).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert taken == [True, True, False]
    records = await plane.records(4)
    assert [(record.key, record.status) for record in records] == [(7, 200), (7, 200), (7, 200), (7, 429)]


async def test_a_key_s_tokens_are_counted_there_too(plane, taken, only):
    only(tokens_per_minute=1)
    usage = {"completion_tokens": 3, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
    body = json.dumps({"usage": usage, "timings": {"predicted_per_second": 7.5}}).encode()
    _, caller = await warm(plane, answers(body), lines=(BEARER,))
    assert (await caller.ask(asked())).status == 200
    await plane.records(2)
    assert (await caller.ask(asked())).status == 429
    assert taken == [True, False]


async def test_the_running_requests_of_a_key_are_counted_and_let_go(plane, taken, only):
    only(max_concurrent=1)
    goes_on = asyncio.Event()
    _, caller = await warm(plane, waits_for(goes_on, answers()), answers(), lines=(BEARER,))
    asking = asyncio.create_task(caller.ask(asked()))
    await plane.until_inside(1)
    assert (await plane.ask(asked())).status == 429
    goes_on.set()
    assert (await asking).status == 200
    assert (await caller.ask(asked())).status == 200
    assert taken == [True, True]


@pytest.mark.parametrize("changes", [{"models": frozenset({"other"})}, {"capture": True}, {"enabled": False}])
async def test_a_key_that_needs_a_closer_look_does_not_take_the_fast_path(plane, taken, only, changes):
    only()
    _, caller = await warm(plane, answers(b"words"), lines=(BEARER,))
    only(**changes)
    status = (await caller.ask(asked())).status
    assert status == {"models": 403, "capture": 200, "enabled": 401}[next(iter(changes))]
    assert taken == [False]
    record = (await plane.records(2))[1]
    assert record.captured_answer == ("words" if "capture" in changes else None)
