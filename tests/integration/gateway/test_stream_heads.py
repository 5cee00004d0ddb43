"""The head of a stream reaches its client as soon as nothing is lost by it, whatever was asked, and pings pass."""

from __future__ import annotations

import asyncio
import json

import pytest

from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.plane import CHAT, request, streaming
from tests.integration.gateway.scripts import (
    DONE,
    EVENTS,
    LAST_CHUNK,
    answers,
    chunked,
    event,
    hangs,
    head,
    sends,
    stream_of,
    streams,
    waits_for,
)

SOON = 0.05
PING = b":\n\n"
FORM = "Content-Type: multipart/form-data; boundary=b"


def form(**fields):
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return f"{parts}--b--\r\n".encode()


LATE = json.dumps({"messages": [], "pad": "x" * 5000, "stream": True}).encode()
AT_ONCE = {
    "models of a router": request("/models/sse"),
    "an answer that is read again": request("/v1/stream?conv_id=1"),
    "whatever is read": request("/v1/anything"),
    "a page": request("/cors-proxy?url=http://example.com"),
    "a page by POST": request("/cors-proxy?url=http://example.com", body={}),
    "a tool": request("/tools", body={}),
    "an unknown path": request("/v1/anything", body={"stream": True}),
    "a body that is not kept": request(CHAT, body=LATE),
}
AFTER_A_TIME = {
    "a transcription": request("/v1/audio/transcriptions", FORM, body=form(model="default", stream="true")),
    "embeddings": request("/v1/embeddings", body={"input": "hi", "stream": True}),
    "what did not ask for one": request(CHAT, body={"messages": [], "max_tokens": 1}),
    "a chat": streaming(),
}


async def begins(plane, data):
    caller = await plane.connect()
    await caller.send(data)
    answer = await caller.head()
    assert (answer.status, answer.fields["content-type"]) == (200, EVENTS)
    return caller


@pytest.mark.parametrize("asked", AT_ONCE.values(), ids=AT_ONCE)
async def test_a_head_comes_at_once_where_nothing_could_be_sent_again_or_all_is_read(plane, asked):
    plane.limit(replay_bytes=1000)  # and comments not before 10 s
    await plane.serve(hangs(stream_of()))
    await begins(plane, asked)


@pytest.mark.parametrize("asked", AFTER_A_TIME.values(), ids=AFTER_A_TIME)
async def test_other_heads_come_after_the_usual_time(plane, asked):
    plane.limit(comment_seconds=SOON)
    await plane.serve(hangs(stream_of()))
    await begins(plane, asked)


@pytest.mark.parametrize("asked", [*AT_ONCE.values(), *AFTER_A_TIME.values()], ids=[*AT_ONCE, *AFTER_A_TIME])
async def test_pings_pass(plane, asked):
    plane.limit(comment_seconds=SOON, replay_bytes=1000)
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, hangs(chunked(PING)), before=stream_of(b": first\n\n")))
    caller = await begins(plane, asked)
    assert await caller.read_until(b"\n\n\r\n") == chunked(b": first\n\n")
    goes_on.set()
    assert await caller.read_until(PING + b"\r\n") == chunked(PING)


@pytest.mark.parametrize("before", [[], [PING], [event("a")]], ids=["a head", "a ping", "an event"])
async def test_a_client_that_leaves_is_noticed_whatever_it_has_got(plane, before):
    server = await plane.serve(hangs(stream_of(*before)))
    caller = await begins(plane, request("/models/sse"))
    (call,) = server.calls
    caller.close()
    await call.until_left()
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.CLIENT_LEFT


async def test_a_client_that_only_sends_no_more_gets_its_stream(plane):
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, sends(chunked(b"data: 1\n\n") + LAST_CHUNK), before=stream_of()))
    caller = await begins(plane, request("/models/sse"))
    caller.send_no_more()
    assert await caller.read_until(chunked(PING))
    goes_on.set()
    assert await caller.read_until(chunked(b"data: 1\n\n"))


async def test_a_request_is_sent_again_before_its_head_and_nobody_knows(plane):
    server = await plane.serve(sends(stream_of(PING)), streams(event("a")))
    answer = await plane.ask(request("/v1/embeddings", body={"input": "hi"}))
    assert (answer.status, answer.content) == (200, event("a") + DONE)
    assert len(server.calls) == 2


async def test_a_stream_that_is_only_read_is_asked_for_again_behind_the_same_head(plane):
    goes_on = asyncio.Event()
    lost = waits_for(goes_on, sends(b""), before=stream_of(PING))
    server = await plane.serve(lost, sends(stream_of(b"data: 1\n\n") + LAST_CHUNK))
    caller = await begins(plane, request("/models/sse"))
    goes_on.set()
    assert await caller.read_until(b"0\r\n\r\n") == chunked(PING) + chunked(b"data: 1\n\n") + LAST_CHUNK
    assert len(server.calls) == 2


async def test_a_client_that_waits_for_its_stream_again_hears_why(plane):
    plane.limit(comment_seconds=SOON)
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, sends(b""), before=stream_of(PING)))
    caller = await begins(plane, request("/models/sse"))
    server.crashed()
    goes_on.set()
    assert await caller.read_until(b": waiting for default: Retry 1 of 5 after 1 s.\n\n")


@pytest.mark.parametrize(
    "first", [head(200, EVENTS, "Content-Length: 4"), head(500, EVENTS, "Transfer-Encoding: chunked")]
)
async def test_a_head_that_another_try_might_not_have_waits_for_content(plane, first):
    plane.limit(comment_seconds=SOON)
    server = await plane.serve(hangs(first))
    asking = plane.asks(request("/models/sse"))
    await server.until_called(1)
    await asyncio.sleep(SOON * 3)
    assert not any(exchange.answer.reply.started for exchange in plane.gateway.exchanges)
    asking.cancel()


async def test_a_stream_that_nobody_asked_for_and_that_is_lost_begins_no_other(plane):
    """Its client may want no stream at all: it hears nothing until a server answers."""
    plane.limit(comment_seconds=SOON)
    server = await plane.serve(sends(stream_of(PING)), answers(b"whole"))
    asking = plane.asks(request("/v1/embeddings", body={"input": "hi"}))
    await server.until_called(1)
    server.crashed()
    await plane.until_waiting(1)
    await asyncio.sleep(SOON * 3)
    server.restarted()
    answer = await asking
    assert (answer.content, answer.fields["content-type"]) == (b"whole", "application/json; charset=utf-8")


async def test_an_answer_that_is_put_together_shows_nothing_of_its_stream(plane):
    plane.limit(comment_seconds=SOON)
    server = await plane.serve(hangs(stream_of(PING)))
    asking = plane.asks(request(CHAT, body={"messages": [{"role": "user", "content": "hi"}]}))
    await server.until_called(1)
    await asyncio.sleep(SOON * 3)
    assert b'"stream":true' in server.calls[0].content
    assert not any(exchange.answer.reply.started for exchange in plane.gateway.exchanges)
    asking.cancel()
    await eventually(lambda: not plane.gateway.exchanges)
