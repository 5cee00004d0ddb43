"""Connections of clients: kept, pipelined, half-closed, left."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.plane import lifetime
from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, LARGE, question, request, streaming
from tests.integration.gateway.scripts import (
    DONE,
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
from tests.unit.gateway.timers import Timers

# --- Connections of clients ----------------------------------------------------------------------------


async def test_a_connection_serves_many_requests(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    for number in range(5):
        assert (await caller.ask(question(f"{number}"))).status == 200
    assert server.texts == ["0", "1", "2", "3", "4"]
    assert server.connections == 1


async def test_the_client_keeps_its_connection_after_a_stream(plane):
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
    assert server.texts == [f"{number}" for number in range(8)]


async def test_a_long_body_may_be_pipelined(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    long = LARGE.decode()
    await caller.send(question("a") + question(long) + question("b"))
    assert [(await caller.answer()).status for _ in range(3)] == [200, 200, 200]
    assert server.texts == ["a", long, "b"]


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
async def test_a_client_that_asks_for_another_protocol_gets_this_one(plane, lines):
    server = await plane.serve(answers(b"x"))
    caller = await plane.connect()
    for _ in range(2):
        assert (await caller.ask(request(EMBEDDINGS, *lines, body={"input": "hi"}))).content == b"x"
    assert not {"upgrade", "connection", "http2-settings"} & server.calls[0].fields.keys()
    assert server.texts == ["hi", "hi"]


# --- Clients that leave --------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [False, True], ids=["its server speaks", "its server is silent"])
async def test_a_stream_that_nobody_reads_any_more_is_ended_at_once(plane, silent):
    server = await plane.serve(hangs(stream_of(event("a"))) if silent else babbles())
    caller = await plane.connect()
    await caller.send(streaming())
    await caller.read_until(event("a"))
    caller.leave()
    await server.calls[0].until_left()
    assert (await plane.records(1))[0].outcome == Outcome.CLIENT_LEFT


async def test_a_half_closed_client_sees_at_most_comments_while_a_stream_is_silent(plane):
    goes_on = asyncio.Event()
    finish = sends(chunked(event("b")) + FINISH)
    await plane.serve(waits_for(goes_on, finish, before=stream_of(event("a"))))
    caller = await plane.connect()
    await caller.send(streaming())
    caller.send_no_more()
    await caller.read_until(chunked(event("a")) + chunked(b":\n\n"))
    goes_on.set()
    rest = (await caller.read_until(LAST_CHUNK)).replace(chunked(b":\n\n"), b"")
    assert rest == chunked(event("b") + DONE) + LAST_CHUNK


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


@pytest.mark.parametrize("data", [question(), streaming()], ids=["one answer", "a stream"])
async def test_a_client_that_has_left_is_noticed_long_before_the_last_look(plane, monkeypatch, data):
    """The first look finds nothing: only what comes back from it tells."""
    monkeypatch.setattr(lifetime, "PROBE_SECONDS", 600.0)
    server = await plane.serve(hangs())
    caller = await plane.connect()
    await caller.send(data)
    call = await server.until_called()
    caller.leave()
    await call.until_left()


async def test_a_client_that_reads_on_is_probed_ever_more_rarely(plane, monkeypatch):
    monkeypatch.setattr(lifetime, "PROBE_SECONDS", 0.5)
    goes_on, timers, pauses = asyncio.Event(), Timers(), []
    server = await plane.serve(waits_for(goes_on, answers(b"hello")))
    caller = await plane.connect()
    await caller.send(question())
    await server.until_called()
    (connection,) = plane.gateway.clients
    with monkeypatch.context() as patched:
        patched.setattr(connection, "_loop", timers)
        caller.send_no_more()
        await eventually(lambda: timers.pending)
        for _ in range(8):
            (timer,) = timers.pending
            pauses.append(timer.when - timers.time())
            timers.advance(pauses[-1])
    goes_on.set()
    assert pauses == pytest.approx([0.015, 0.03, 0.06, 0.12, 0.24, 0.48, 0.5, 0.5])
    answer = await caller.answer()
    assert (answer.content, answer.interim) == (b"hello", [100] * 9)


async def test_a_request_whose_client_leaves_the_queue_is_never_sent(plane):
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
    assert server.texts == ["first", "2"]
