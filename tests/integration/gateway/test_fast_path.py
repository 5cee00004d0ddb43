"""The fast path: nobody can tell it from the long way, whatever happens, except by the clock."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.plane import client as client_module
from supervisor_app.gateway.plane import gateway as gateway_module
from supervisor_app.gateway.plane.fast_path import FastExchange
from supervisor_app.gateway.records.record import NO_USAGE, Outcome, Usage
from supervisor_app.gateway.servers.suspects import Suspicion
from tests.integration.building import eventually
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import (
    EVENTS,
    JSON,
    LAST_CHUNK,
    answers,
    chunked,
    dies,
    event,
    hangs,
    head,
    loads,
    sends,
    stream_of,
    streams,
    waits_for,
)

KEY = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"))
BEARER = "Authorization: Bearer lp-a"


async def warm(plane, *scripts, lines=(), path=EMBEDDINGS, **facts):
    """A server with a connection to spare, and a client that has asked it before."""
    server = await plane.serve(answers(b"warm"), *scripts, **facts)
    caller = await plane.connect()
    body = {"model": server.name, "input": "warm", "max_tokens": 1}
    assert (await caller.ask(request(path, *lines, body=body))).status == 200
    return server, caller


def in_flight(plane):
    (exchange,) = plane.gateway.exchanges
    return exchange


@pytest.fixture
def taken(monkeypatch):
    """One entry for each request that had a look at the fast path: whether it went there."""
    ways = []
    take = client_module.take_fast_path

    def take_and_note(*arguments):
        exchange = take(*arguments)
        ways.append(exchange is not None)
        return exchange

    monkeypatch.setattr(client_module, "take_fast_path", take_and_note)
    return ways


# --- Who takes it --------------------------------------------------------------------------------------


async def test_a_request_like_the_one_before_it_takes_it(plane, taken):
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


async def test_it_tells_what_the_answer_cost(plane, taken):
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
async def test_what_is_not_like_the_one_before_does_not(plane, taken, data):
    _, caller = await warm(plane, hangs())
    await caller.send(data)
    await eventually(lambda: plane.gateway.exchanges)
    assert not isinstance(in_flight(plane), FastExchange)
    assert True not in taken


async def test_what_may_be_a_long_answer_does_not(plane, taken):
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


async def test_what_is_ours_to_answer_does_not(plane, taken):
    server, caller = await warm(plane, answers())
    for _ in range(3):
        assert (await caller.ask(question("hi", "/health"))).json["status"] == "ok"
    assert server.texts == ["warm"]
    assert True not in taken


async def test_a_body_that_is_not_kept_does_not(plane, taken):
    plane.limit(replay_bytes=100)
    _, caller = await warm(plane, dies(), answers())
    answer = await caller.ask(question("x" * 200))
    assert (answer.status, answer.error["type"]) == (502, "upstream_crashed")
    assert taken == [False]


async def test_a_model_that_is_named_in_the_query_is_recorded(plane):
    await plane.serve(answers())
    caller = await plane.connect()
    for _ in range(3):
        await caller.ask(request(f"{EMBEDDINGS}?model=tiny", body={"input": "hi"}))
    assert [record.model for record in await plane.records(3)] == ["tiny"] * 3


async def test_what_comes_with_the_next_request_does_not(plane, taken):
    server, caller = await warm(plane, answers(b"1"), answers(b"2"))
    await caller.send(question("one") + question("two"))
    assert [(await caller.answer()).content for _ in range(2)] == [b"1", b"2"]
    assert taken == []
    assert server.texts == ["warm", "one", "two"]


async def test_what_looks_like_a_request_in_the_middle_of_a_head_is_none(plane, taken):
    server, caller = await warm(plane, answers())
    await caller.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ")
    (client,) = plane.gateway.clients
    await eventually(lambda: client.deadline < client_module.FOR_EVER and client._buffer)
    assert (await caller.ask(question("hi"))).status == 400  # a second `Host`
    assert len(server.calls) == 1
    assert taken == []


async def test_nobody_takes_it_while_the_last_answer_is_not_read(plane, taken):
    _, caller = await warm(plane, answers(b"2"))
    (client,) = plane.gateway.clients
    client.pause_writing()
    await caller.send(question("hi"))
    await eventually(lambda: client._buffer)
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


async def test_nobody_takes_it_at_a_full_server(plane, taken):
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


async def test_nobody_takes_it_past_those_who_wait(plane, taken):
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
async def test_nobody_takes_it_to_a_server_that_is_not_just_ready(plane, taken, facts):
    server, caller = await warm(plane, hangs())
    server.says(**facts)
    await caller.send(question("hi"))
    await eventually(lambda: plane.gateway.exchanges)
    assert taken == [False]
    assert plane.outside.woken == (["default"] if "wakes" in facts else [])


async def test_while_anybody_is_suspected_nobody_takes_it(plane, taken):
    _, caller = await warm(plane, answers())
    plane.gateway.suspect("of another request", Suspicion())
    assert (await caller.ask(question("hi"))).status == 200
    assert taken == [False]


# --- Keys ----------------------------------------------------------------------------------------------


@pytest.fixture
def only(plane):
    """Lets in who has this key."""

    def let_in(**changes):
        policy = replace(KEY, **changes)
        plane.gateway.door.keys = KeyRing([policy])
        return policy

    return let_in


def asked(text="hi", **fields):
    return request(EMBEDDINGS, BEARER, body={"input": text, **fields})


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


async def test_what_a_key_has_running_there_is_counted_and_let_go(plane, taken, only):
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
async def test_a_key_that_needs_a_closer_look_does_not_take_it(plane, taken, only, changes):
    only()
    _, caller = await warm(plane, answers(b"words"), lines=(BEARER,))
    only(**changes)
    status = (await caller.ask(asked())).status
    assert status == {"models": 403, "capture": 200, "enabled": 401}[next(iter(changes))]
    assert taken == [False]
    record = (await plane.records(2))[1]
    assert record.captured_answer == ("words" if "capture" in changes else None)


# --- Whatever happens ----------------------------------------------------------------------------------


def in_two(first, second):
    """The second part comes by itself."""

    async def script(call):
        await call.body()
        await call.send(first)
        await asyncio.sleep(0.05)
        await call.send(second)
        return False

    return script


SIZED = head(200, "text/plain", "Content-Length: 5")
SCRIPTS = {
    "an answer": [answers(b"hello")],
    "nothing": [answers(b"")],
    "a long answer": [answers(b"x" * 300_000)],
    "an error": [answers(b'{"error": {}}', 400)],
    "a server error": [answers(b'{"error": {}}', 500)],
    "no content": [sends(b"HTTP/1.1 204 No Content\r\n\r\n")],
    "not modified": [sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")],
    "another type": [sends(SIZED + b"hello")],
    "in pieces": [sends(SIZED + b"hello", piece=1)],
    "too much": [sends(SIZED + b"hello, world")],
    "an interim answer": [sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SIZED + b"hello")],
    "chunks": [sends(head(200, "text/plain", "Transfer-Encoding: chunked") + chunked(b"hello") + LAST_CHUNK)],
    "until it closes": [sends(head(200, "text/plain") + b"hello")],
    "a stream that was not asked for": [streams(event("a"), event("b"))],
    "a sized stream": [sends(head(200, EVENTS, "Content-Length: 14") + b"data: [DONE]\n\n")],
    "still loading": [loads(), answers(b"hello")],
    "a router's loss": [answers(b"proxy error: gone", 500), answers(b"hello")],
    "a lost connection": [dies(), answers(b"hello")],
    "a reset connection": [dies(resets=True), answers(b"hello")],
    "two lost connections": [dies(), dies(), answers(b"hello")],
    "half a head": [sends(SIZED[:20]), answers(b"hello")],
    "half an answer": [sends(SIZED + b"he")],
    "half an answer and a reset": [sends(SIZED + b"he", resets=True)],
    "half of chunks": [sends(head(200, "text/plain", "Transfer-Encoding: chunked") + chunked(b"hello"))],
    "a stream that breaks": [sends(stream_of(event("a")))],
    "no HTTP": [sends(b"hello\r\n\r\n"), answers(b"hello")],
    "a contradiction": [sends(head(200, "text/plain", "Content-Length: 5", "Content-Length: 6") + b"hello!")],
}


async def told(plane, server, scripts):
    """What a client gets, what is recorded of it, what the server hears, and what comes next."""
    server.scripts = [answers(b"warm"), *scripts, answers(b"next")]
    begin, calls = len(plane.outside.records), len(server.calls)
    caller = await plane.connect()
    await caller.ask(question("warm", CHAT, max_tokens=1))
    answer = await caller.ask(question("hi", CHAT, max_tokens=1))
    number = 2
    if answer.whole and answer.fields.get("connection") != "close":
        number += 1
        assert (await caller.ask(question("next", CHAT, max_tokens=1))).content == b"next"
    await eventually(lambda: len(plane.outside.records) == begin + number)
    record = plane.outside.records[begin + 1]
    times = {"at": 0.0, "held_ms": float(record.held_ms > 0), "duration_ms": 0.0}
    ttft = None if record.ttft_ms is None else 0.0
    heard = [(call.first_line, call.fields, call.content) for call in server.calls[calls:]]
    return answer, msgspec.structs.replace(record, ttft_ms=ttft, **times), heard, number


@pytest.mark.parametrize("scripts", SCRIPTS.values(), ids=SCRIPTS)
async def test_whatever_the_server_does_is_dealt_with_as_on_the_long_way(plane, taken, monkeypatch, scripts):
    server = await plane.serve(answers())
    fast = await told(plane, server, scripts)
    assert taken[0]
    monkeypatch.setattr(client_module, "take_fast_path", lambda *arguments: None)
    assert fast == await told(plane, server, scripts)


USUAL = head(200, JSON, "Content-Length: 4") + b"warm"
DOUBLES = {
    "head": (in_two(b"HTTP/1.1 200 OK\r\nX: ", USUAL), b"warm", "HTTP/1.1 200 Whatever"),
    "body": (in_two(head(200, JSON, f"Content-Length: {len(USUAL) + 1}") + b"!", USUAL), b"!" + USUAL, None),
}


@pytest.mark.parametrize(("script", "content", "field"), DOUBLES.values(), ids=DOUBLES)
async def test_what_looks_like_an_answer_in_the_middle_of_one_is_none(plane, script, content, field):
    _, caller = await warm(plane, script)
    answer = await caller.ask(question("hi"))
    assert (answer.content, answer.fields.get("x")) == (content, field)


async def test_a_client_that_leaves_ends_its_request(plane, taken):
    server, caller = await warm(plane, hangs())
    await caller.send(question("hi"))
    call = await server.until_called(2)
    caller.leave()
    await call.until_left()
    assert taken == [True]
    assert (await plane.records(2))[1].outcome is Outcome.CLIENT_LEFT
    assert plane.gateway.kept_bytes == 0


async def test_a_client_that_leaves_pays_for_its_prompt(plane, taken, only):
    only(tokens_per_minute=100)
    server, caller = await warm(plane, hangs(), lines=(BEARER,))
    await caller.send(asked("word " * 200))
    await server.until_called(2)
    caller.leave()
    await plane.records(2)
    assert (await plane.ask(asked())).status == 429
    assert taken == [True]


async def test_a_client_that_has_said_all_is_answered(plane, taken):
    goes_on = asyncio.Event()
    server, caller = await warm(plane, waits_for(goes_on, answers(b"late")))
    await caller.send(question("hi"))
    await server.until_called(2)
    caller.send_no_more()
    await eventually(lambda: not isinstance(in_flight(plane), FastExchange))
    goes_on.set()
    assert (await caller.answer()).content == b"late"
    assert await caller.rest() == b""
    assert taken == [True]


async def test_the_next_request_waits_for_the_answer(plane, taken):
    goes_on = asyncio.Event()
    server, caller = await warm(plane, waits_for(goes_on, answers(b"1")), answers(b"2"))
    await caller.send(question("one"))
    await server.until_called(2)
    await caller.send(question("two"))
    goes_on.set()
    assert [(await caller.answer()).content for _ in range(2)] == [b"1", b"2"]
    assert server.texts == ["warm", "one", "two"]
    assert taken == [True]


async def test_an_answer_that_nobody_reads_yet_is_not_lost(plane, taken):
    long = b"x" * 5_000_000
    _, caller = await warm(plane, answers(long), answers(b"2"))
    caller.read_nothing()
    await caller.send(question("one"))
    await plane.until_begun()
    await caller.send(question("two"))
    caller.read_on()
    assert [(await caller.answer()).content for _ in range(2)] == [long, b"2"]
    assert taken[0]


async def test_it_goes_again_to_a_server_that_has_died(plane, taken):
    server, caller = await warm(plane, hangs(), answers(b"again"))
    asking = asyncio.create_task(caller.ask(question("hi")))
    await server.until_called(2)
    server.crashed()
    await plane.until_waiting(1)
    server.restarted()
    assert (await asking).content == b"again"
    assert taken == [True]
    record = (await plane.records(2))[1]
    assert (record.outcome, record.replays) == (Outcome.REPLAYED, 1)


async def test_after_a_crash_it_goes_before_those_who_came_later(plane, taken):
    server, caller = await warm(plane, hangs(), hangs(), answers())
    first = asyncio.create_task(caller.ask(question("first")))
    await server.until_called(2)
    second = plane.asks(question("second"))
    await server.until_called(3)
    server.crashed()
    await plane.until_waiting(2)
    server.says(capacity=1)
    server.restarted(blameless=True)
    assert [(await each).status for each in (first, second)] == [200, 200]
    assert server.texts == ["warm", "first", "second", "first", "second"]
    assert taken == [True]


async def test_one_that_kills_its_server_is_found(plane, taken):
    server, caller = await warm(plane, hangs())
    asking = asyncio.create_task(caller.ask(question("poison")))
    for life in range(3):
        await server.until_called(2 + life)
        server.drop_all()
        server.restarted()
    assert (await asking).status == 422
    assert taken == [True]
    assert [entry.incident for entry in plane.outside.entries] == ["3"]


async def test_at_the_end_of_the_gateway_it_is_given_up_with_the_others(plane, taken):
    server, caller = await warm(plane, hangs())
    asking = asyncio.create_task(caller.ask(question("hi")))
    await server.until_called(2)
    assert isinstance(in_flight(plane), FastExchange)
    await plane.gateway.drain(0.0)
    assert (await asking).error["code"] == "gateway_stopping"
    assert taken == [True]


async def test_it_is_told_among_those_in_flight(plane, taken):
    server, caller = await warm(plane, hangs(), offered=("tiny",))
    await caller.send(question("hi", model="tiny"))
    await server.until_called(2)
    assert list(plane.gateway.load()) == [("default", "tiny", 1, 0)]
    assert plane.gateway.kept_bytes > 0
    assert taken == [True]


async def test_who_waits_for_its_place_gets_it(plane, taken):
    goes_on = asyncio.Event()
    _, caller = await warm(plane, waits_for(goes_on, answers(b"1")), answers(b"2"), capacity=1)
    first = asyncio.create_task(caller.ask(question("one")))
    await plane.until_inside(1)
    assert taken == [True]
    second = plane.asks(question("two"))
    await plane.until_waiting(1)
    goes_on.set()
    assert [(await each).content for each in (first, second)] == [b"1", b"2"]


async def test_its_place_is_offered_to_who_waits_elsewhere(plane, taken, monkeypatch):
    monkeypatch.setattr(gateway_module, "SWEEP_SECONDS", 600.0)  # nobody looks of their own accord
    goes_on = asyncio.Event()
    shared = {"models": ("tiny",), "capacity": 1}
    _, caller = await warm(plane, waits_for(goes_on, answers()), answers(b"first"), name="first", **shared)
    second = await plane.serve(answers(b"second"), hangs(), name="second", **shared)
    asking = asyncio.create_task(caller.ask(question("hi", model="first")))
    await plane.until_inside(1, "first")
    talk = request(EMBEDDINGS, "Session: talk", body={"model": "tiny"})
    assert (await plane.ask(talk)).content == b"second"
    elsewhere = plane.asks(question("hi", model="second"))
    await second.until_called(2)
    waiting = plane.asks(talk)
    await plane.until_waiting(1, "second")
    goes_on.set()
    assert (await waiting).content == b"first"
    assert (await asking).status == 200
    assert taken == [True]
    elsewhere.cancel()
