"""Streams that end in good order without having come to their end: a router does that, and it is no end."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import CHAT, question, request, streaming, with_key
from tests.integration.gateway.scripts import (
    EVENTS,
    FINISH,
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

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
LOST = b"proxy error: Failed to read connection"
NAMED = b'event: %s\ndata: {"type":"%s"}\n\n'


def named(name: bytes) -> bytes:
    return NAMED % (name, name)


async def test_a_router_that_lost_its_model_in_the_middle_of_a_stream_is_not_believed(plane):
    goes_on = asyncio.Event()
    lost = sends(chunked(LOST) + LAST_CHUNK)
    await plane.serve(waits_for(goes_on, lost, before=stream_of(event("a"))))
    asking = plane.asks(streaming())
    await plane.until_begun()
    goes_on.set()
    answer = await asking
    assert (answer.status, answer.is_broken) == (200, True)
    assert answer.content.startswith(event("a") + b'data: {"error"')
    assert b"Failed to read connection" in answer.content
    (record,) = await plane.records(1)
    assert record.outcome == Outcome.UPSTREAM_CRASHED


async def test_a_stream_whose_error_comes_with_its_last_event_has_not_ended_well(plane):
    await plane.serve(sends(stream_of(event("a")) + chunked(LOST) + LAST_CHUNK))
    answer = await plane.ask(streaming())
    assert answer.is_broken
    assert b'\n\ndata: {"error"' in answer.content


@pytest.mark.parametrize(
    "lost",
    [
        answers(LOST, 500),
        answers(LOST, 500, keeps=False),
        sends(stream_of() + chunked(LOST) + LAST_CHUNK),
        sends(stream_of() + LAST_CHUNK),
        sends(head(200, EVENTS, f"Content-Length: {len(LOST)}") + LOST),
    ],
    ids=["whole", "closed", "stream", "empty stream", "sized stream"],
)
async def test_a_request_that_a_router_lost_before_content_is_sent_again(plane, lost):
    server = await plane.serve(lost, streams(event("a")), is_router=True)
    answer = await plane.ask(streaming())
    assert (answer.content, answer.whole) == (event("a") + b"data: [DONE]\n\n", True)
    assert len(server.calls) == 2
    assert (await plane.records(1))[0].outcome == Outcome.REPLAYED


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/completion", "/infill"])
async def test_content_before_the_last_words_of_a_router_is_passed_on_alone(plane, path):
    goes_on = asyncio.Event()
    lost = sends(chunked(event("b")) + chunked(LOST) + LAST_CHUNK)
    await plane.serve(waits_for(goes_on, lost, before=stream_of(event("a"))))
    asking = plane.asks(streaming(path=path))
    await plane.until_begun()
    goes_on.set()
    answer = await asking
    assert answer.is_broken
    assert answer.content.startswith(event("a") + event("b"))
    assert b"\nproxy error" not in answer.content
    assert b'"upstream_crashed"' in answer.content


async def test_a_router_has_a_moment_to_notice_that_its_model_has_gone(plane):
    loop, begun = asyncio.get_running_loop(), []

    async def script(call):
        begun.append(loop.time())
        gone = loop.time() - begun[0] < 0.1
        return await (answers(LOST, 500) if gone else answers(b"hello"))(call)

    await plane.serve(script, is_router=True)
    assert (await plane.ask(question())).content == b"hello"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/cors-proxy?url=http://127.0.0.1:1", "/tools"])
async def test_a_server_that_is_no_router_has_lost_nothing_whatever_its_error_says(plane, path):
    server = await plane.serve(answers(LOST, 500), answers(b"asked twice"))
    answer = await plane.ask(question(path=path))
    assert (answer.status, answer.content) == (500, LOST)
    assert len(server.calls) == 1
    (record,) = await plane.records(1)
    assert (record.outcome, record.run_name) == (Outcome.UPSTREAM_ERROR, "")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_that_a_router_fetches_elsewhere_says_nothing_of_its_models(plane, method):
    server = await plane.serve(answers(LOST, 500), answers(b"asked twice"), is_router=True)
    body = {} if method == "POST" else None
    answer = await plane.ask(request("/cors-proxy?url=http://127.0.0.1:1", method=method, body=body))
    assert (answer.status, answer.content) == (500, LOST)
    assert len(server.calls) == 1


async def test_a_page_that_is_fetched_elsewhere_may_hold_the_words_of_a_router(plane):
    content = event("a") + LOST
    await plane.serve(sends(stream_of(event("a"), LOST) + LAST_CHUNK), is_router=True)
    answer = await plane.ask(request("/cors-proxy?url=http://127.0.0.1:1"))
    assert (answer.content, answer.whole) == (content, True)


async def test_an_error_of_the_model_itself_is_passed_on(plane):
    await plane.serve(answers(b'{"error": {"message": "no"}}', 500))
    answer = await plane.ask(question())
    assert (answer.status, answer.error["message"]) == (500, "no")


@pytest.mark.parametrize(
    ("path", "events"),
    [
        (CHAT, [event("a")]),
        ("/v1/completions", [event("a")]),
        (MESSAGES, [named(b"message_start"), named(b"content_block_delta")]),
        (CHAT, [event("the marker [DONE] ends")]),
        (CHAT, [b'data: {"choices":[{"delta":{}}],"model":"error"}\n\n']),
        (RESPONSES, [named(b"response.created"), named(b"response.output_text.delta")]),
        ("/completion", [b'data: {"content":"a","stop":false}\n\n']),
    ],
    ids=["chat", "completions", "messages", "in its own words", "of an odd name", "responses", "native"],
)
async def test_a_stream_without_its_last_event_is_not_whole(plane, path, events):
    await plane.serve(sends(stream_of(*events) + LAST_CHUNK))
    answer = await plane.ask(streaming(path=path))
    assert answer.is_broken
    assert b"upstream_crashed" in answer.content
    assert b'"tokens_so_far":%d' % (0 if path == CHAT else 1) in answer.content


@pytest.mark.parametrize(
    ("path", "events"),
    [
        (CHAT, [event("a") + b"data: [DONE]\r\n\r\n"]),
        (CHAT, [b"data: [DONE]\n\n"]),
        (MESSAGES, [named(b"content_block_delta"), named(b"message_stop")]),
        (RESPONSES, [named(b"response.completed")]),
        ("/completion", [b'data: {"content":"","stop":true}\n\n']),
        ("/v1/anything", [b"data: 1\n\n"]),
    ],
)
async def test_a_stream_that_came_to_its_end_is_whole(plane, path, events):
    await plane.serve(sends(stream_of(*events) + LAST_CHUNK))
    answer = await plane.ask(streaming(path=path))
    assert (answer.content, answer.whole) == (b"".join(events), True)
    (record,) = await plane.records(1)
    assert (record.outcome, record.status) == (Outcome.OK, 200)


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (CHAT, b'data: {"error": {"code": 500, "message": "context full"}}\n\n'),
        ("/v1/completions", b'data: {"error":{"code":500,"message":"context full"}}\n\n'),
        ("/completion", b'data: {"error":{"code":500,"message":"context full"}}\n\n'),
        (MESSAGES, b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n'),
        (RESPONSES, b'event: error\ndata: {"type":"error","message":"context full"}\n\n'),
    ],
)
async def test_a_stream_that_its_server_ends_with_an_error_is_passed_on_and_has_failed(plane, path, last):
    await plane.serve(sends(stream_of(event("a"), last) + LAST_CHUNK))
    answer = await plane.ask(streaming(path=path))
    assert (answer.content, answer.whole) == (event("a") + last, True)
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.failed) == (Outcome.UPSTREAM_ERROR, 500, True)


async def test_a_path_in_other_letters_has_streams_of_the_same_kind(plane):
    server = await plane.serve(sends(stream_of(event("a")) + LAST_CHUNK))
    answer = await plane.ask(streaming(path="/v1/ch%61t%2Fcompletions?a=%2f"))
    assert answer.is_broken
    assert b"upstream_crashed" in answer.content
    assert server.calls[0].first_line == "POST /v1/ch%61t%2Fcompletions?a=%2f HTTP/1.1"
    assert (await plane.records(1))[0].route == CHAT


async def test_the_error_is_not_read_as_part_of_the_event_that_broke(plane):
    await plane.serve(sends(stream_of(event("a"), b'data: {"half')))
    answer = await plane.ask(streaming())
    assert b'data: {"half\n\ndata: {"error"' in answer.content


async def test_tokens_of_a_stream_that_its_client_left_are_charged(plane):
    with_key(plane, tokens_per_minute=20)
    await plane.serve(hangs(stream_of(*[event("x")] * 50)), sends(stream_of(event("y")) + FINISH))
    body = {"messages": [], "stream": True}
    data = request(CHAT, "X-Api-Key: lp-a", body=body)
    caller = await plane.connect()
    await caller.send(data)
    await caller.read_until(event("x"))
    caller.leave()
    await plane.records(1)
    answer = await plane.ask(data)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
