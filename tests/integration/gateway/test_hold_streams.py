"""The stream of a client whose request waits, as that client sees it."""

from __future__ import annotations

import asyncio
import json

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import CHAT, question, request, streaming
from tests.integration.gateway.scripts import DONE, EVENTS, JSON, LAST_CHUNK, answers, event, streams

SOON = 0.05
"""Seconds after which something is done that would else take long."""


async def test_a_stream_that_waits_gets_headers_and_comments(plane):
    plane.limit(comment_seconds=SOON)
    server = await plane.serve(streams(event("a")), status=Status.STARTING, detail="Loading:\n40 %.")
    caller = await plane.connect()
    await caller.send(streaming())
    assert (await caller.head()).fields["content-type"] == EVENTS
    for _ in range(3):
        assert b": waiting for default: Loading: 40 %.\n\n" in await caller.read_until(b"\n\n\r\n")
    server.says(status=Status.READY)
    rest = await caller.read_until(DONE)
    assert event("a") in rest
    assert (await plane.records(1))[0].outcome == Outcome.HELD


async def test_a_stream_whose_body_is_too_long_to_be_kept_gets_them_too(plane):
    plane.limit(comment_seconds=SOON, replay_bytes=1000)
    await plane.serve(streams(event("a")), status=Status.STARTING)
    caller = await plane.connect()
    await caller.send(request(CHAT, body=b'{"stream": true, "messages": "%b"}' % (b"y" * 2000)))
    assert (await caller.head()).fields["content-type"] == EVENTS
    assert b": waiting for default" in await caller.read_until(b"\n\n")
    caller.leave()
    (record,) = await plane.records(1)
    assert record.streamed


async def test_a_refused_request_with_a_long_body_is_recorded_with_its_model(plane):
    await plane.serve(status=Status.ERROR)
    assert (await plane.ask(streaming("x" * 200_000, model="qwen"))).status == 503
    (record,) = await plane.records(1)
    assert (record.model, record.streamed) == ("qwen", True)


@pytest.mark.parametrize("origin", ["http://localhost:3000", ""])
async def test_a_page_may_read_a_stream_that_waited(plane, origin):
    plane.limit(comment_seconds=SOON)
    server = await plane.serve(streams(event("a")), status=Status.STARTING)
    caller = await plane.connect()
    lines = [f"Origin: {origin}"] if origin else []
    await caller.send(request(CHAT, *lines, body={"stream": True}))
    head = await caller.head()
    assert any(name.startswith("access-control") for name in head.fields) is bool(origin)
    assert head.fields.get("access-control-allow-origin", "") == origin
    server.says(status=Status.READY)
    await caller.read_until(LAST_CHUNK)


async def test_where_nothing_streams_the_word_for_it_changes_nothing(plane):
    plane.limit(comment_seconds=0.01)
    server = await plane.serve(answers(b"x"), status=Status.STARTING)
    asking = plane.asks(question(stream=True))
    await plane.until_waiting(1)
    await asyncio.sleep(0.1)  # time enough for a comment
    server.says(status=Status.READY)
    answer = await asking
    assert (answer.fields["content-type"], answer.content) == (JSON, b"x")
    (record,) = await plane.records(1)
    assert record.outcome == Outcome.HELD


async def test_a_client_with_a_long_body_that_leaves_while_it_waits_is_noticed(plane):
    plane.limit(replay_bytes=1000)
    await plane.serve(answers(), status=Status.STARTING)
    caller = await plane.connect()
    await caller.send(request(body=b"x" * 1_000_000))  # some of it stays unread
    await plane.until_waiting(1)
    caller.close()
    await plane.until_waiting(0)
    (record,) = await plane.records(1)
    assert record.outcome == Outcome.CLIENT_LEFT


async def test_a_stream_that_is_ready_soon_gets_no_comments(plane):
    server = await plane.serve(streams(event("a")), status=Status.STARTING)
    asking = plane.asks(streaming())
    await plane.until_waiting(1)
    server.says(status=Status.READY)
    assert (await asking).content == event("a") + DONE


async def test_a_request_without_a_stream_gets_nothing_before_its_answer(plane):
    plane.limit(comment_seconds=0.01)
    await plane.serve(answers(), status=Status.STARTING, hold_seconds=SOON * 2)
    assert (await plane.ask(question())).status == 503


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_a_stream_that_waited_in_vain_ends_with_an_error_event(plane, path):
    plane.limit(comment_seconds=0.01)
    server = await plane.serve(streams(event("a")), status=Status.STARTING)
    caller = await plane.connect()
    await caller.send(streaming(path=path))
    assert (await caller.head()).status == 200
    server.says(status=Status.ERROR, detail="Retries used up.")
    rest = await caller.rest()
    assert b"event: error\n" in rest or path == CHAT
    data = json.loads(rest.rpartition(b"data: ")[2].partition(b"\n")[0])
    assert data["error"]["code"] == "server_unavailable"
    assert data["error"]["message"] == "default: Retries used up."
    assert rest.endswith(b"\n\n\r\n0\r\n\r\n")
    assert b"[DONE]" not in rest


@pytest.mark.parametrize("piece", [0, 1])
async def test_an_error_after_the_headers_were_sent_becomes_an_event(plane, piece):
    plane.limit(comment_seconds=0.01)
    error = {"error": {"code": 400, "message": "the request exceeds the context", "type": "x"}}
    raw = json.dumps(error).encode()
    server = await plane.serve(in_pieces(answers(raw, 400), piece), status=Status.STARTING)
    caller = await plane.connect()
    await caller.send(streaming())
    assert (await caller.head()).status == 200
    server.says(status=Status.READY)
    rest = await caller.rest()
    assert b'"message":"the request exceeds the context"' in rest
    assert rest.endswith(b"\n\n\r\n0\r\n\r\n")
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.failed) == (Outcome.UPSTREAM_ERROR, 400, False)


def in_pieces(script, piece):
    """The same, so many bytes at a time."""
    if not piece:
        return script

    async def slowly(call):
        send = call.send

        async def in_pieces(data):
            for start in range(0, len(data), piece):
                await send(data[start : start + piece])
                await asyncio.sleep(0.001)

        call.send = in_pieces
        return await script(call)

    return slowly
