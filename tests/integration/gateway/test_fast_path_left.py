"""Whatever happens on the fast path: nobody can tell it from the long way, except by the clock."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from supervisor_app.gateway.plane import client as client_module
from supervisor_app.gateway.plane import gateway as gateway_module
from supervisor_app.gateway.plane.fast_path import FastExchange
from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.fast import BEARER, asked, in_flight, warm
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, question, request
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
    goes_on = answer.whole and b'"retryable"' not in answer.content
    if goes_on and answer.fields.get("connection") != "close":
        number += 1
        assert (await caller.ask(question("next", CHAT, max_tokens=1))).content == b"next"
    await eventually(lambda: len(plane.outside.records) == begin + number)
    record = plane.outside.records[begin + 1]
    assert answer.fields.pop("x-request-id") == record.id
    times = {"id": "", "at": 0.0, "held_ms": float(record.held_ms > 0), "duration_ms": 0.0}
    ttft = None if record.ttft_ms is None else 0.0
    heard = [(call.first_line, call.fields, call.content) for call in server.calls[calls:]]
    return answer, msgspec.structs.replace(record, ttft_ms=ttft, **times), heard, number


@pytest.mark.parametrize("scripts", SCRIPTS.values(), ids=SCRIPTS)
async def test_whatever_the_server_does_is_dealt_with_as_on_the_long_way(plane, taken, monkeypatch, scripts):
    server = await plane.serve(answers(), is_router=True)
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
async def test_bytes_like_an_answer_in_the_middle_of_one_are_none(plane, script, content, field):
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


async def test_a_request_on_the_fast_path_goes_again_to_a_server_that_has_died(plane, taken):
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


async def test_a_request_goes_after_a_crash_before_those_that_came_later(plane, taken):
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


async def test_a_request_on_the_fast_path_that_kills_its_server_is_found(plane, taken):
    server, caller = await warm(plane, hangs())
    asking = asyncio.create_task(caller.ask(question("poison")))
    for life in range(3):
        await server.until_called(2 + life)
        server.drop_all()
        server.restarted()
    assert (await asking).status == 422
    assert taken == [True]
    assert [entry.run_name for entry in plane.outside.entries] == ["3"]


async def test_a_request_on_the_fast_path_is_given_up_with_the_others_at_the_end(plane, taken):
    server, caller = await warm(plane, hangs())
    asking = asyncio.create_task(caller.ask(question("hi")))
    await server.until_called(2)
    assert isinstance(in_flight(plane), FastExchange)
    await plane.gateway.drain(0.0)
    assert (await asking).error["code"] == "gateway_stopping"
    assert taken == [True]


async def test_a_request_on_the_fast_path_is_counted_among_those_in_flight(plane, taken):
    server, caller = await warm(plane, hangs(), offered=("tiny",))
    await caller.send(question("hi", model="tiny"))
    await server.until_called(2)
    assert list(plane.gateway.load()) == [("default", "tiny", 1, 0)]
    assert plane.gateway.kept_bytes > 0
    assert taken == [True]


async def test_a_request_that_waits_for_the_place_of_a_fast_one_gets_it(plane, taken):
    goes_on = asyncio.Event()
    _, caller = await warm(plane, waits_for(goes_on, answers(b"1")), answers(b"2"), capacity=1)
    first = asyncio.create_task(caller.ask(question("one")))
    await plane.until_inside(1)
    assert taken == [True]
    second = plane.asks(question("two"))
    await plane.until_waiting(1)
    goes_on.set()
    assert [(await each).content for each in (first, second)] == [b"1", b"2"]


async def test_the_place_of_a_fast_request_is_offered_to_requests_that_wait_elsewhere(
    plane, taken, monkeypatch
):
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
