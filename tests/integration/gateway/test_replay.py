"""A server that dies under a request: before content nobody has to know, after it nobody may be deceived."""

from __future__ import annotations

import asyncio
import json

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from tests.deadline import DEADLINE
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import (
    DONE,
    EVENTS,
    FINISH,
    LAST_CHUNK,
    answers,
    chunked,
    deaf,
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

REQUESTS = 2000
PING = b":\n\n"

BEFORE_CONTENT = {
    "nothing": dies(),
    "a reset": dies(resets=True),
    "half a head": sends(b"HTTP/1.1 200 OK\r\nContent-"),
    "a head": sends(head(200, EVENTS, "Transfer-Encoding: chunked")),
    "a head of known length": sends(head(200, "a/b", "Content-Length: 5")),
    "a head and a reset": sends(head(200, EVENTS, "Transfer-Encoding: chunked"), resets=True),
    "comments": sends(stream_of(PING, b": ping\n\n")),
    "half a comment": sends(stream_of(b": pi")),
    "comments byte by byte": sends(stream_of(PING, PING), piece=1),
    "half an error 503": sends(head(503, "a/b", "Content-Length: 500") + b'{"error"'),
    "loading": loads(),
    "garbage": sends(b"\x00" * 100 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("end", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
async def test_a_stream_that_was_lost_before_content_is_begun_again(plane, end):
    server = await plane.serve(end, streams(event("a")))
    answer = await plane.ask(streaming())
    assert (answer.status, answer.content, answer.whole) == (200, event("a") + DONE, True)
    assert len(server.calls) == 2
    assert server.calls[0].content == server.calls[1].content


@pytest.mark.parametrize("end", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
async def test_a_request_that_was_lost_before_content_is_sent_again(plane, end):
    server = await plane.serve(end, answers(b"x"))
    answer = await plane.ask(question())
    assert (answer.status, answer.content, answer.whole) == (200, b"x", True)
    assert len(server.calls) == 2


async def test_lost_requests_are_sent_again_once_the_server_is_back(plane):
    server = await plane.serve(hangs())
    asking = [plane.asks(question("0")), plane.asks(question("1"))]
    await server.until_called(2)
    await server.stop()
    server.crashed()
    await plane.until_waiting(2)
    server.scripts = [answers(b"x")]
    await server.start()
    server.restarted()
    assert [(await each).content for each in asking] == [b"x", b"x"]
    for record in await plane.records(2):
        assert (record.outcome, record.replays, record.run_name) == (Outcome.REPLAYED, 1, "1")


async def test_a_server_that_is_gone_for_its_supervisor_is_not_waited_for(plane):
    """It may hold its connections until its clients have left."""
    server = await plane.serve(hangs(), answers(b"x"))
    asking = plane.asks(question())
    call = await server.until_called()
    server.says(status=Status.STOPPING)
    await call.until_left()
    await plane.until_waiting(1)
    server.restarted()
    assert (await asking).content == b"x"


async def test_a_lost_request_does_not_wait_for_a_server_in_error(plane):
    server = await plane.serve(hangs())
    asking = plane.asks(question())
    await server.until_called()
    server.says(status=Status.ERROR, pid=None, detail="Retries used up.")
    answer = await asking
    assert (answer.status, answer.error["message"]) == (503, "default: Retries used up.")


async def test_a_server_that_lives_and_loses_every_connection_is_told_as_such(plane):
    server = await plane.serve(dies())
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"], answer.error["retryable"]) == (502, "upstream_crashed", True)
    assert 1 < len(server.calls) < 10
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.UPSTREAM_CRASHED, len(server.calls) - 1)


async def test_a_request_that_was_being_connected_when_its_server_moved_is_not_lost(plane):
    plane.limit(connect_seconds=0.1)
    server = await plane.serve(answers(b"x"))
    with deaf() as url:
        server.says(url=url)
        asking = plane.asks(question())
        await plane.until_inside(1)
        server.says(url=f"http://127.0.0.1:{server.port}")
        assert (await asking).content == b"x"


# --- After content -------------------------------------------------------------------------------------


async def break_a_stream(plane, path=CHAT, *, resets=False, version="1.1"):
    """After two events. Returns what the client got in the end."""
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, dies(resets=resets), before=stream_of(event("a"), event("b"))))
    caller = await plane.connect()
    data = streaming(path=path)
    await caller.send(data.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    await plane.until_begun()
    goes_on.set()
    return await caller.answer()


@pytest.mark.parametrize("resets", [False, True])
async def test_a_stream_that_breaks_says_so_and_ends_in_good_order(plane, resets):
    answer = await break_a_stream(plane, resets=resets)
    assert answer.content.startswith(event("a") + event("b"))
    assert b"[DONE]" not in answer.content
    assert answer.is_broken
    error = answer.last_event["error"]
    assert (error["code"], error["type"]) == ("upstream_crashed", "server_error")
    assert (error["retryable"], error["incident"], error["tokens_so_far"]) == (True, "1", 1)
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.run_name) == (Outcome.UPSTREAM_CRASHED, 200, "1")


async def test_a_stream_that_breaks_tells_it_in_the_way_of_anthropic(plane):
    answer = await break_a_stream(plane, "/v1/messages")
    assert b"\n\nevent: error\ndata: " in answer.content
    assert answer.last_event["type"] == "error"
    assert answer.last_event["error"]["type"] == "overloaded_error"


async def test_a_stream_that_breaks_tells_it_in_the_way_of_the_responses_api(plane):
    answer = await break_a_stream(plane, "/v1/responses")
    assert b"\n\nevent: response.failed\ndata: " in answer.content
    assert b"\n\nevent: error\ndata: " in answer.content
    assert answer.last_event["type"] == "error"
    assert answer.last_event["code"] == "upstream_crashed"
    assert "ended before its answer was whole" in answer.last_event["message"]


async def test_a_stream_that_breaks_tells_it_to_an_old_client_too(plane):
    answer = await break_a_stream(plane, version="1.0")
    assert answer.last_event["error"]["code"] == "upstream_crashed"


async def test_a_stream_that_was_ended_by_the_supervisor_says_so(plane):
    server = await plane.serve(hangs(stream_of(event("a"))))
    caller = await plane.connect()
    await caller.send(streaming())
    await plane.until_begun()
    server.says(status=Status.STOPPING, detail="Stopping: asked to.")
    answer = await caller.answer()
    assert "Stopping: asked to." in answer.last_event["error"]["message"]
    assert answer.is_broken


async def test_a_stream_goes_on_while_the_next_supervisor_takes_its_server_over(plane):
    goes_on = asyncio.Event()
    rest = chunked(event("b")) + FINISH
    server = await plane.serve(waits_for(goes_on, sends(rest), before=stream_of(event("a"))))
    pid = server.facts.pid
    caller = await plane.connect()
    await caller.send(streaming())
    await plane.until_begun()
    for found in (None, pid):
        server.says(status=Status.STARTING, pid=found)
    server.says(status=Status.READY)
    goes_on.set()
    answer = await caller.answer()
    assert answer.whole
    assert answer.content == event("a") + event("b") + DONE


BROKEN = {
    "sized": head(200, "application/json", "Content-Length: 500") + b'{"choices": [',
    "chunked": head(200, "application/json", "Transfer-Encoding: chunked") + chunked(b'{"choices": ['),
}


@pytest.mark.parametrize("begin", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_an_answer_that_breaks_is_reset(plane, begin, version):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, dies(), before=begin))
    caller = await plane.connect()
    await caller.send(request(EMBEDDINGS, body={"input": "hi"}, version=version))
    await plane.until_begun()
    goes_on.set()
    answer = await caller.answer()
    assert answer.was_reset
    assert not answer.whole
    assert len(server.calls) == 1
    assert (await plane.records(1))[0].outcome == Outcome.UPSTREAM_CRASHED


async def test_after_a_break_the_client_asks_anew_and_is_answered(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, dies(), before=stream_of(event("a"))), streams(event("b")))
    caller = await plane.connect()
    await caller.send(streaming())
    await plane.until_begun()
    goes_on.set()
    assert (await caller.answer()).is_broken
    assert await caller.rest() == b""  # the connection has ended
    server.restarted()
    assert (await plane.ask(streaming())).content == event("b") + DONE


# --- What can be sent once only ------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_body_that_was_not_kept_is_not_sent_again(plane, framing):
    plane.limit(replay_bytes=1000)
    server = await plane.serve(dies(), answers())
    data = (
        request(EMBEDDINGS, body=b"x" * 5000)
        if framing == "sized"
        else request(EMBEDDINGS, "Transfer-Encoding: chunked", method="POST")
        + chunked(b"x" * 5000)
        + LAST_CHUNK
    )
    answer = await plane.ask(data)
    assert (answer.status, answer.error["code"]) == (502, "upstream_crashed")
    assert len(server.calls) == 1


async def test_a_body_that_was_not_kept_meets_no_stale_connection(plane):
    plane.limit(replay_bytes=1000)
    server = await plane.serve(answers(), dies(), answers())
    await plane.ask(question())
    server.scripts = [answers(b"x")]
    assert (await plane.ask(request(EMBEDDINGS, body=b"x" * 5000))).content == b"x"
    assert server.connections == 2


async def test_a_body_that_was_cut_in_the_middle_by_the_server_is_told(plane):
    plane.limit(replay_bytes=1000)
    await plane.serve(leaves_at_once())
    caller = await plane.connect()
    await caller.send(request(EMBEDDINGS, f"Content-Length: {10**8}", method="POST") + b"x" * 100_000)
    answer = await caller.answer()
    assert (answer.status, answer.error["code"]) == (502, "upstream_crashed")


def leaves_at_once():
    async def script(call):
        call.reset()
        return False

    return script


# --- Connections that are kept -------------------------------------------------------------------------


async def test_a_kept_connection_that_dies_is_no_crash(plane):
    server = await plane.serve(answers(b"1"), dies(), answers(b"2"))
    assert [(await plane.ask(question())).content for _ in range(2)] == [b"1", b"2"]
    assert server.connections == 2
    assert [(record.outcome, record.replays) for record in await plane.records(2)] == [(Outcome.OK, 0)] * 2


async def test_a_kept_connection_that_dies_with_its_server_is_a_crash(plane):
    server = await plane.serve(answers(b"1"), hangs(), answers(b"2"))
    assert (await plane.ask(question())).content == b"1"
    asking = plane.asks(question())
    await server.until_called(2)
    await server.stop()
    await plane.until_waiting(1)
    await server.start()
    server.restarted()
    assert (await asking).content == b"2"
    assert [record.outcome for record in await plane.records(2)] == [Outcome.OK, Outcome.REPLAYED]


async def test_a_kept_connection_that_outlives_its_server_leads_to_nobody_else(plane):
    """Between a crash and the next start any program may listen at the server's address."""
    is_lost = asyncio.Event()
    server = await plane.serve(answers(b"1"), waits_for(is_lost, dies()), answers(b"2"))
    assert (await plane.ask(question())).content == b"1"
    asking = plane.asks(question())
    await server.until_called(2)
    server.crashed()
    is_lost.set()
    await plane.until_waiting(1)
    assert (server.connections, len(server.contents)) == (1, 2)
    server.restarted()
    assert (await asking).content == b"2"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_server_that_closes_without_a_word_loses_no_request(plane):
    """As llama-server does it after each stream; here also after some other answers."""

    async def script(call):
        content = await call.body()
        if b'"stream": true' in content:
            return await sends(stream_of(event("a")) + FINISH)(call)
        return await answers(b"x", keeps=len(content) % 3 > 0)(call)

    await plane.serve(script)
    todo = iter(range(REQUESTS))
    failed = []

    async def client():
        caller = await plane.connect()
        for number in todo:
            data = streaming("y" * (number % 7)) if number % 2 else question("y" * (number % 7))
            answer = await caller.ask(data)
            if (answer.content, answer.whole) not in ((b"x", True), (event("a") + DONE, True)):
                failed.append(answer)

    async with asyncio.timeout(DEADLINE + REQUESTS / 100), asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(client())
    assert not failed
    records = await plane.records(REQUESTS)
    assert {record.outcome for record in records} == {Outcome.OK}


# --- What a client was told before ---------------------------------------------------------------------


async def test_a_stream_that_had_its_headers_goes_on_with_another_server(plane):
    plane.limit(comment_seconds=0.05)
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, dies(), before=stream_of(PING)), streams(event("a")))
    caller = await plane.connect()
    await caller.send(streaming())
    assert (await caller.head()).fields["content-type"] == EVENTS
    goes_on.set()
    rest = await caller.read_until(LAST_CHUNK)
    assert event("a") in rest
    assert b"error" not in rest
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b'{"error":{"message":"\xff"}}', b"[" * 60_000],
    ids=["odd", "list", "bytes", "deep"],
)
async def test_a_stream_that_had_its_headers_and_is_answered_otherwise_ends_with_an_error(plane, content):
    plane.limit(comment_seconds=0.05)
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, dies(), before=stream_of(PING)), answers(content))
    caller = await plane.connect()
    await caller.send(streaming())
    await caller.head()
    goes_on.set()
    rest = await caller.rest()
    error = json.loads(rest.rpartition(b"data: ")[2].partition(b"\n")[0])["error"]
    assert (error["code"], error["type"]) == ("upstream_error", "server_error")
    assert rest.endswith(LAST_CHUNK)
