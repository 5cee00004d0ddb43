"""What any client of HTTP may expect of the gateway."""

from __future__ import annotations

import asyncio
import json

import pytest

from supervisor_app.gateway.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.records import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import (
    DONE,
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

LARGE = b"x" * 300_000
"""More than is read or pipelined at once."""


def texts(server):
    """What was asked of it, in order."""
    return [json.loads(content)["input"] for content in server.contents]


# --- Requests and answers ------------------------------------------------------------------------------


async def test_a_request_is_answered_by_its_server(plane):
    server = await plane.serve(answers(b'{"data": []}'))
    answer = await plane.ask(question("hi"))
    assert (answer.status, answer.json, answer.fields["server"]) == (200, {"data": []}, "llama.cpp")
    assert server.calls[0].first_line == f"POST {EMBEDDINGS} HTTP/1.1"
    assert texts(server) == ["hi"]
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.server, record.route) == (
        Outcome.OK,
        200,
        "default",
        EMBEDDINGS,
    )


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
    assert texts(server) == ["in pieces"]


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


async def test_what_has_no_body_needs_no_end(plane):
    await plane.serve(
        sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
        sends(head(304, "text/html", "Content-Length: 500")),
    )
    caller = await plane.connect()
    answers = [await caller.ask(request("/")) for _ in range(2)]
    assert [answer.status for answer in answers] == [204, 304]


async def test_an_answer_that_ends_with_its_connection_is_whole(plane):
    await plane.serve(sends(head(200, "text/plain") + LARGE))
    answer = await plane.ask(question())
    assert (answer.content, answer.whole) == (LARGE, True)


async def test_interim_answers_of_a_server_are_not_the_answer(plane):
    await plane.serve(
        sends(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
            + head(200, "a/b", "Content-Length: 1")
            + b"x"
        )
    )
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
    assert not answer.whole
    assert answer.last_event["error"]["code"] == "upstream_crashed"


# --- Connections of clients ----------------------------------------------------------------------------


async def test_a_connection_serves_many_requests(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    for number in range(5):
        assert (await caller.ask(question(f"{number}"))).status == 200
    assert texts(server) == ["0", "1", "2", "3", "4"]
    assert server.connections == 1


async def test_also_after_a_stream_the_client_keeps_its_connection(plane):
    server = await plane.serve(streams(event("a")))
    caller = await plane.connect()
    for _ in range(3):
        assert (await caller.ask(streaming())).whole
    assert server.connections == 3


async def test_a_client_that_wants_to_close_is_closed(plane):
    await plane.serve(answers(b"x"))
    caller = await plane.connect()
    answer = await caller.ask(request(EMBEDDINGS, "Connection: close", body={}))
    assert answer.fields["connection"] == "close"
    assert await caller.rest() == b""


async def test_pipelined_requests_are_answered_in_order_one_after_the_other(plane):
    first_goes_on = asyncio.Event()
    server = await plane.serve(
        waits_for(first_goes_on, answers(b"0")), *(answers(b"%d" % n) for n in range(1, 9))
    )
    caller = await plane.connect()
    await caller.send(b"".join(question(f"{number}") for number in range(8)) + request("/health"))
    await server.until_called()
    assert len(server.calls) == 1
    first_goes_on.set()
    assert [(await caller.answer()).content for _ in range(8)] == [b"%d" % number for number in range(8)]
    assert (await caller.answer()).json["status"] == "ok"
    assert texts(server) == [f"{number}" for number in range(8)]


async def test_a_long_body_may_be_pipelined(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    long = LARGE.decode()
    await caller.send(question("a") + question(long) + question("b"))
    assert [(await caller.answer()).status for _ in range(3)] == [200, 200, 200]
    assert texts(server) == ["a", long, "b"]


async def test_more_requests_may_be_pipelined_than_are_read_at_once(plane):
    await plane.serve(answers(b"x"))
    caller = await plane.connect()
    sending = asyncio.create_task(caller.send(question("y" * 500) * 300))
    assert {(await caller.answer()).content for _ in range(300)} == {b"x"}
    await sending


async def test_a_client_that_expects_it_is_told_to_go_on(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    body = b'{"input": "waited"}'
    await caller.send(
        request(EMBEDDINGS, f"Content-Length: {len(body)}", "Expect: 100-continue", method="POST")
    )
    assert (await caller.head()).status == 100
    assert (await caller.ask(body)).status == 200
    assert server.contents == [body]


async def test_a_client_that_did_not_wait_is_not_told_to_go_on(plane):
    await plane.serve(answers())
    answer = await plane.ask(request(EMBEDDINGS, "Expect: 100-continue", body={"input": "hi"}))
    assert (answer.status, answer.interim) == (200, [])


async def test_a_client_that_waits_hears_at_once_that_it_is_refused(plane):
    await plane.serve(answers())
    plane.limit(body_bytes=10)
    answer = await plane.ask(request(EMBEDDINGS, "Content-Length: 11", "Expect: 100-continue", method="POST"))
    assert (answer.status, answer.interim) == (413, [])


@pytest.mark.parametrize(
    "script",
    [
        answers(b"hello"),
        sends(head(200, "a/b", "Transfer-Encoding: chunked") + chunked(b"hello") + LAST_CHUNK),
    ],
)
async def test_a_client_of_http_1_0_gets_what_it_understands(plane, script):
    await plane.serve(script)
    caller = await plane.connect()
    answer = await caller.ask(request(EMBEDDINGS, body={}, version="1.0"))
    assert (answer.content, answer.fields["connection"]) == (b"hello", "close")
    assert "transfer-encoding" not in answer.fields
    assert await caller.rest() == b""


async def test_a_client_of_http_1_0_may_keep_its_connection(plane):
    await plane.serve(answers(b"hello"))
    caller = await plane.connect()
    for _ in range(2):
        answer = await caller.ask(request(EMBEDDINGS, "Connection: keep-alive", body={}, version="1.0"))
        assert (answer.content, answer.fields["connection"]) == (b"hello", "keep-alive")


async def test_a_client_that_has_said_all_still_gets_its_answer(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, answers(b"hello")))
    caller = await plane.connect()
    await caller.send(question())
    caller.send_no_more()
    await server.until_called()
    await asyncio.sleep(0.2)  # it is looked after more than once whether anybody listens
    goes_on.set()
    answer = await caller.answer()
    assert (answer.content, answer.whole) == (b"hello", True)
    assert await caller.rest() == b""


async def test_a_client_that_has_said_all_still_gets_its_stream(plane):
    await plane.serve(streams(event("a")))
    caller = await plane.connect()
    await caller.send(streaming())
    caller.send_no_more()
    assert (await caller.answer()).content == event("a") + DONE


async def test_a_client_that_has_said_all_gets_every_answer_it_asked_for(plane):
    await plane.serve(answers(b"x"))
    caller = await plane.connect()
    await caller.send(question() * 3)
    caller.send_no_more()
    assert [(await caller.answer()).content for _ in range(3)] == [b"x"] * 3
    assert await caller.rest() == b""


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", request(EMBEDDINGS, "Content-Length: 5", method="POST") + b"12"]
)
async def test_half_a_request_that_never_gets_whole_is_dropped(plane, begun):
    server = await plane.serve(answers())
    caller = await plane.connect()
    await caller.send(begun)
    caller.send_no_more()
    assert await caller.is_cut_off()
    assert not server.calls


async def test_an_empty_line_before_a_request_is_overlooked(plane):
    await plane.serve(answers(b"x"))
    caller = await plane.connect()
    for _ in range(3):
        assert (await caller.ask(b"\r\n" + question())).content == b"x"


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"],
        ["Connection: upgrade", "Upgrade: websocket"],
    ],
)
async def test_who_asks_for_another_protocol_gets_this_one(plane, lines):
    server = await plane.serve(answers(b"x"))
    caller = await plane.connect()
    for _ in range(2):
        assert (await caller.ask(request(EMBEDDINGS, *lines, body={"input": "hi"}))).content == b"x"
    assert not {"upgrade", "connection", "http2-settings"} & server.calls[0].fields.keys()
    assert texts(server) == ["hi", "hi"]


# --- Clients that leave --------------------------------------------------------------------------------


async def test_a_stream_that_nobody_reads_any_more_is_ended_at_once(plane):
    server = await plane.serve(babbles())
    caller = await plane.connect()
    await caller.send(streaming())
    await caller.read_until(event("a"))
    caller.leave()
    await server.calls[0].until_left()
    assert (await plane.records(1))[0].outcome == Outcome.CLIENT_LEFT


def babbles():
    """A stream without an end."""

    async def script(call):
        await call.body()
        await call.send(stream_of())
        while not call.left:
            await call.send(chunked(event("a")))
            await asyncio.sleep(0.01)
        return False

    return script


@pytest.mark.parametrize("data", [question(), streaming()], ids=["one answer", "a stream"])
async def test_a_request_whose_client_has_left_is_ended_at_once(plane, data):
    server = await plane.serve(hangs())
    caller = await plane.connect()
    await caller.send(data)
    call = await server.until_called()
    caller.leave()
    await call.until_left()
    (record,) = await plane.records(1)
    assert (record.outcome, record.status) == (Outcome.CLIENT_LEFT, 0)


async def test_who_leaves_the_queue_is_never_sent(plane):
    server = await plane.serve(hangs(), answers(b"x"), capacity=1)
    first, second, third = [await plane.connect() for _ in range(3)]
    await first.send(question("first"))
    await plane.until_inside(1)
    for number, caller in enumerate((second, third), 1):
        await caller.send(question(f"{number}"))
        await plane.until_waiting(number)
    second.leave()
    await plane.until_waiting(1)
    first.leave()
    assert (await third.answer()).content == b"x"
    assert texts(server) == ["first", "2"]


# --- Bodies --------------------------------------------------------------------------------------------


async def test_a_chunked_body_reaches_the_server_with_its_length(plane):
    server = await plane.serve(answers())
    raw = request(EMBEDDINGS, "Transfer-Encoding: chunked", "Trailer: x", method="POST")
    caller = await plane.connect()
    answer = await caller.ask(raw + b'5;a=b\r\n{"inp\r\n00a\r\nut": "hi"}\r\n0\r\nx: y\r\n\r\n')
    assert answer.status == 200
    assert server.calls[0].fields["content-length"] == "15"
    assert "transfer-encoding" not in server.calls[0].fields
    assert texts(server) == ["hi"]
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


async def test_of_a_body_that_is_too_long_to_be_kept_the_model_is_found_at_its_beginning(plane):
    plane.limit(replay_bytes=1000)
    wrong, right = await plane.serve(answers(), name="wrong"), await plane.serve(answers(), name="right")
    body = b'{"model": "right", "input": "%b"}' % LARGE
    assert (await plane.ask(request(EMBEDDINGS, body=body))).status == 200
    assert (right.contents, wrong.contents) == ([body], [])


# --- Servers -------------------------------------------------------------------------------------------


async def test_a_connection_to_a_server_is_kept_and_used_again(plane):
    server = await plane.serve(answers())
    for _ in range(4):
        assert (await plane.ask(question())).status == 200
    assert server.connections == 1


async def test_what_is_not_sized_is_the_last_on_its_connection(plane):
    whole = head(200, "a/b", "Transfer-Encoding: chunked") + chunked(b"x") + LAST_CHUNK
    server = await plane.serve(
        keeps(whole),
        keeps(stream_of(event("a")) + FINISH),
        answers(b"x", 200, "Connection: close"),
        answers(),
    )
    for data in (question(), streaming(), question(), question()):
        assert (await plane.ask(data)).status == 200
    assert server.connections == 4


def keeps(data):
    """Answers, and listens for the next request on the same connection."""

    async def script(call):
        await call.body()
        await call.send(data)
        return True

    return script


async def test_a_connection_that_says_something_unasked_is_not_used(plane):
    server = await plane.serve(
        keeps(head(200, "a/b", "Content-Length: 1") + b"xHTTP/1.1 200 OK\r\n\r\n"), answers(b"y")
    )
    assert [(await plane.ask(question())).content for _ in range(2)] == [b"x", b"y"]
    assert server.connections == 2


async def test_connections_nobody_used_for_a_while_are_closed(plane):
    plane.limit(upstream_idle_seconds=0.05)
    server = await plane.serve(answers())
    await plane.ask(question())
    await server.calls[0].until_left()


async def test_a_server_gets_its_own_key_and_never_the_client_s(plane):
    plane.gateway.door.keys = KeyRing([KeyPolicy(id=7, name="chat", digest=digest_of("lp-client"))])
    server = await plane.serve(answers(), api_key="sk-server")
    assert (await plane.ask(question())).status == 401
    data = request(
        EMBEDDINGS, "Authorization: Bearer lp-client", "X-Api-Key: lp-client", "Cookie: a", body={}
    )
    assert (await plane.ask(data)).status == 200
    (call,) = server.calls
    assert call.fields["authorization"] == "Bearer sk-server"
    assert "lp-client" not in str(call.fields)
    refused, answered = await plane.records(2)
    assert (refused.outcome, refused.key, answered.key) == (Outcome.REFUSED, None, 7)


async def test_words_are_kept_only_for_a_key_that_wants_it_and_not_without_end(plane):
    keys = [
        KeyPolicy(id=number, name=f"{number}", digest=digest_of(f"lp-{number}"), capture=number == 1)
        for number in (1, 2)
    ]
    plane.gateway.door.keys = KeyRing(keys)
    await plane.serve(answers(LARGE))
    for number in (1, 2):
        await plane.ask(request(EMBEDDINGS, f"X-Api-Key: lp-{number}", body=b"prompt \xff\0" + LARGE))
    kept, other = await plane.records(2)
    assert kept.captured_request.startswith("prompt \ufffd\ufffdxxx")
    assert kept.captured_answer.startswith("xxx")
    assert len(kept.captured_request) <= len(kept.captured_answer) == 65_536
    assert (other.captured_request, other.captured_answer) == (None, None)


async def test_a_request_goes_to_the_server_of_its_model(plane):
    a = await plane.serve(answers(b"a"), name="a", models=("qwen", "small"))
    b = await plane.serve(answers(b"b"), name="b", models=("gemma",))
    for model, expected in (("a", b"a"), ("small", b"a"), ("gemma", b"b"), ("b", b"b")):
        assert (await plane.ask(question(model=model))).content == expected
    assert (len(a.calls), len(b.calls)) == (2, 2)


async def test_with_one_server_any_name_will_do_as_it_does_for_llama_server(plane):
    await plane.serve(answers(b"x"))
    assert (await plane.ask(question(model="gpt-4"))).content == b"x"


async def test_a_model_that_nobody_has_is_not_found_and_the_others_are_named(plane):
    for name in ("a", "b"):
        await plane.serve(answers(), name=name, offered=(f"model-{name}",))
    answer = await plane.ask(question(model="gpt-4"))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        404,
        "model_not_found",
        "invalid_request_error",
    )
    assert answer.error["message"] == "The model 'gpt-4' does not exist here. There is: model-a, model-b."
    assert (await plane.ask(request(EMBEDDINGS, body={}))).error["message"].startswith("Name a model.")


async def test_without_any_server_no_model_is_found(plane):
    answer = await plane.ask(question())
    assert (answer.status, answer.error["message"]) == (
        404,
        "The model 'default' does not exist here. No server is configured yet.",
    )


async def test_so_many_requests_at_once_as_a_server_has_slots(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, answers()))
    plane.gateway.backends["default"].learn_slots(2)
    asking = [plane.asks(question(f"{number}")) for number in range(5)]
    await plane.until_waiting(3)
    await server.until_called(2)
    assert len(server.calls) == 2
    goes_on.set()
    assert {(await answer).status for answer in asking} == {200}


# --- The end of the gateway ----------------------------------------------------------------------------


async def test_what_was_begun_is_finished_and_nothing_new_is_begun(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, answers(b"x")))
    idle, busy, late = [await plane.connect() for _ in range(3)]
    await busy.send(question())
    await late.send(question("late")[:-1])
    await server.until_called()
    await eventually(lambda: len(plane.gateway.exchanges) == 2)
    draining = asyncio.create_task(plane.gateway.drain(20))
    assert await idle.is_cut_off()
    goes_on.set()
    assert (await busy.answer()).content == b"x"
    assert await busy.rest() == b""
    assert (await late.ask(question("late")[-1:])).status == 200
    await draining


async def test_at_the_end_of_its_grace_all_that_goes_on_is_told_so(plane):
    await plane.serve(hangs(), hangs(stream_of(event("a"))))
    waiting, reading = [await plane.connect() for _ in range(2)]
    await waiting.send(question())
    await plane.until_inside(1)
    await reading.send(streaming())
    await reading.read_until(event("a"))
    await plane.gateway.drain(0.05)
    answer = await waiting.answer()
    assert (answer.status, answer.error["code"], answer.fields["retry-after"]) == (
        503,
        "gateway_stopping",
        "1",
    )
    rest = await reading.rest()
    assert b'"code":"gateway_stopping"' in rest
    assert LAST_CHUNK not in rest


async def test_who_is_in_a_hurry_waits_no_longer(plane):
    await plane.serve(hangs())
    asking = plane.asks(question())
    await plane.until_inside(1)
    draining = asyncio.create_task(plane.gateway.drain(60))
    await eventually(lambda: plane.gateway.draining)
    plane.gateway.hurry()
    await draining
    assert (await asking).status == 503


async def test_while_it_ends_new_requests_are_told_to_ask_again(plane):
    server = await plane.serve(hangs())
    first, second = await plane.connect(), await plane.connect()
    await first.send(question())
    await second.send(b"GET /")
    await server.until_called()
    await eventually(lambda: len(plane.gateway.clients) == 2)
    plane.gateway.draining = True
    answer = await second.ask(b"health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (answer.status, answer.fields["connection"]) == (503, "close")
