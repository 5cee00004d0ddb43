"""What any client of HTTP may expect of the gateway: its request goes there, the answer comes back."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, LARGE, question, request, streaming
from tests.integration.gateway.scripts import (
    DONE,
    EVENTS,
    FINISH,
    LAST_CHUNK,
    answers,
    chunked,
    event,
    head,
    sends,
    stream_of,
    streams,
    waits_for,
)

# --- Requests and answers ------------------------------------------------------------------------------


async def test_a_request_is_answered_by_its_server(plane):
    server = await plane.serve(answers(b'{"data": []}'))
    answer = await plane.ask(question("hi"))
    assert (answer.status, answer.json, answer.fields["server"]) == (200, {"data": []}, "llama.cpp")
    assert server.calls[0].first_line == f"POST {EMBEDDINGS} HTTP/1.1"
    assert server.texts == ["hi"]
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.server, record.route) == (
        Outcome.OK,
        200,
        "default",
        EMBEDDINGS,
    )


async def test_each_answer_names_its_record(plane):
    theirs = "HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nok"
    await plane.serve(sends(theirs.encode()), streams(event("a")), sends(stream_of(event("a"))))
    told = [
        await plane.ask(data)
        for data in (
            question(),
            streaming(),
            streaming(),
            request("/v1/models/nothing"),
            streaming(path="/v1/messages"),
        )
    ]
    records = await plane.records(len(told))
    assert [answer.fields["x-request-id"] for answer in told] == [record.id for record in records]
    assert len({record.id for record in records}) == len(told)
    assert told[-1].fields["request-id"] == records[-1].id


async def test_a_stream_passes_byte_for_byte(plane):
    await plane.serve(streams(event("a"), b": ping\n\n", event("b")))
    answer = await plane.ask(streaming())
    assert answer.content == event("a") + b": ping\n\n" + event("b") + DONE
    assert answer.whole
    (record,) = await plane.records(1)
    assert record.streamed
    assert record.ttft_ms is not None


async def test_each_event_arrives_before_the_next_is_made(plane):
    goes_on = asyncio.Event()
    rest = chunked(event("second")) + FINISH
    await plane.serve(waits_for(goes_on, sends(rest), before=stream_of(event("first"))))
    caller = await plane.connect()
    await caller.send(streaming())
    assert (await caller.head()).fields["content-type"] == EVENTS
    assert await caller.read_until(b"\n\n\r\n") == chunked(event("first"))
    goes_on.set()
    assert event("second") + DONE in await caller.read_until(LAST_CHUNK)


@pytest.mark.parametrize("piece", [1, 7])
async def test_an_answer_may_come_in_any_pieces(plane, piece):
    sized = head(200, "text/plain", "Content-Length: 5") + b"hello"
    await plane.serve(sends(sized, piece=piece), sends(stream_of(event("a")) + FINISH, piece=piece))
    assert (await plane.ask(question())).content == b"hello"
    answer = await plane.ask(streaming())
    assert (answer.content, answer.whole) == (event("a") + DONE, True)


async def test_a_request_may_come_in_any_pieces(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    for byte in question("in pieces"):
        await caller.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await caller.answer()).status == 200
    assert server.texts == ["in pieces"]


async def test_an_error_of_the_server_is_passed_on(plane):
    error = b'{"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}'
    await plane.serve(answers(error, 400))
    answer = await plane.ask(question())
    assert (answer.status, answer.content) == (400, error)
    assert (await plane.records(1))[0].outcome == Outcome.UPSTREAM_ERROR


async def test_an_answer_to_head_has_no_body(plane):
    await plane.serve(
        sends(head(200, "text/html", "Content-Length: 500")),
        sends(head(200, "text/html", "Transfer-Encoding: chunked")),
    )
    for _ in range(2):
        caller = await plane.connect()
        await caller.send(request("/index.html", method="HEAD") + request("/health"))
        assert (await caller.answer(to_head=True)).status == 200
        assert (await caller.answer()).json["status"] == "ok"


async def test_answers_without_a_body_need_no_end(plane):
    await plane.serve(
        sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
        sends(head(304, "text/html", "Content-Length: 500")),
        sends(head(304, "text/html")),
    )
    caller = await plane.connect()
    answers = [await caller.ask(request("/")) for _ in range(3)]
    assert [answer.status for answer in answers] == [204, 304, 304]
    assert not [answer for answer in answers if "transfer-encoding" in answer.fields]


async def test_an_answer_that_ends_with_its_connection_is_whole(plane):
    await plane.serve(sends(head(200, "text/plain") + LARGE))
    answer = await plane.ask(question())
    assert (answer.content, answer.whole) == (LARGE, True)


async def test_interim_answers_of_a_server_are_not_the_answer(plane):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" * 1000
    await plane.serve(sends(interim + head(200, "a/b", "Content-Length: 1") + b"x"))
    answer = await plane.ask(question())
    assert (answer.status, answer.content, answer.interim) == (200, b"x", [])


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        head(200, "a/b", "Content-Length: 1", "Transfer-Encoding: chunked") + LAST_CHUNK,
        head(200, "a/b", f"X: {'x' * 400_000}"),
    ],
    ids=["another protocol", "two lengths", "an endless head"],
)
async def test_a_server_that_does_not_speak_http_is_told_as_such(plane, garbage):
    server = await plane.serve(sends(garbage))
    answer = await plane.ask(question())
    assert (answer.status, answer.error["code"]) == (502, "upstream_crashed")
    assert len(server.calls) > 1


async def test_a_body_that_is_badly_framed_ends_the_answer_unfinished(plane):
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, sends(b"-1\r\n"), before=stream_of(event("a"))))
    caller = await plane.connect()
    await caller.send(streaming())
    await plane.until_begun()
    goes_on.set()
    answer = await caller.answer()
    assert answer.is_broken
    assert answer.last_event["error"]["code"] == "upstream_crashed"


# --- Bodies --------------------------------------------------------------------------------------------


async def test_a_chunked_body_reaches_the_server_with_its_length(plane):
    server = await plane.serve(answers())
    raw = request(EMBEDDINGS, "Transfer-Encoding: chunked", "Trailer: x", method="POST")
    caller = await plane.connect()
    answer = await caller.ask(raw + b'5;a=b\r\n{"inp\r\n00a\r\nut": "hi"}\r\n0\r\nx: y\r\n\r\n')
    assert answer.status == 200
    assert server.calls[0].fields["content-length"] == "15"
    assert "transfer-encoding" not in server.calls[0].fields
    assert server.texts == ["hi"]
    assert (await caller.ask(question())).status == 200


@pytest.mark.parametrize(
    "body", [b"5\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhello!\r\n0\r\n\r\n"]
)
async def test_a_body_that_could_end_elsewhere_is_refused_and_reaches_nobody(plane, body):
    server = await plane.serve(answers())
    caller = await plane.connect()
    await caller.send(
        request(EMBEDDINGS, "Transfer-Encoding: chunked", method="POST") + body + question("smuggled")
    )
    answer = await caller.answer()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    assert await caller.rest() == b""
    assert not server.calls


async def test_a_body_that_is_too_long_to_be_kept_flows_through(plane):
    plane.limit(replay_bytes=1000)
    server = await plane.serve(answers())
    caller = await plane.connect()
    for _ in range(2):
        assert (await caller.ask(request(EMBEDDINGS, body=LARGE))).status == 200
    assert server.contents == [LARGE, LARGE]
    assert server.calls[0].fields["content-length"] == f"{len(LARGE)}"


async def test_a_chunked_body_that_is_too_long_to_be_kept_flows_through_in_chunks(plane):
    plane.limit(replay_bytes=1000)
    server = await plane.serve(answers())
    caller = await plane.connect()
    raw = request(EMBEDDINGS, "Transfer-Encoding: chunked", method="POST")
    for _ in range(2):
        assert (await caller.ask(raw + chunked(LARGE) * 2 + LAST_CHUNK)).status == 200
    assert server.contents == [LARGE * 2] * 2
    assert server.calls[0].fields["transfer-encoding"] == "chunked"


async def test_an_answer_may_come_before_the_body_is_sent(plane):
    """A server refuses by the head alone, and the client is told although it still sends."""
    plane.limit(replay_bytes=1000)
    await plane.serve(sends_without_reading(head(400, "a/b", "Content-Length: 2") + b"no"))
    caller = await plane.connect()
    await caller.send(request(EMBEDDINGS, f"Content-Length: {10**9}", method="POST") + LARGE)
    answer = await caller.answer()
    assert (answer.status, answer.content) == (400, b"no")


def sends_without_reading(data):
    async def script(call):
        await call.send(data)
        await call.until_left()
        return False

    return script


async def test_the_model_is_found_at_the_beginning_of_a_body_too_long_to_be_kept(plane):
    plane.limit(replay_bytes=1000)
    wrong, right = await plane.serve(answers(), name="wrong"), await plane.serve(answers(), name="right")
    body = b'{"model": "right", "input": "%b"}' % LARGE
    assert (await plane.ask(request(EMBEDDINGS, body=body))).status == 200
    assert (right.contents, wrong.contents) == ([body], [])


async def test_a_client_that_resets_while_it_is_refused_is_no_mistake_of_ours(plane, monkeypatch, caplog):
    def reset(transport):
        raise OSError(107, "Transport endpoint is not connected")

    # What the kernel says of a connection whose reset nobody has read yet.
    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write_eof", reset)
    await plane.serve()
    caller = await plane.connect()
    await caller.send(request(CHAT, "Transfer-Encoding: chunked", method="POST") + b"no size\r\n")
    assert b"is not the size of a chunk" in await caller.rest()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
