"""Clients that are endless, many or malicious: nothing grows, and nobody else notices."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest

from supervisor_app.core.status import Status
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import answers, chunked, event, hangs, stream_of, waits_for

SOON = 0.1
"""Seconds after which a client is cut off that would else have a minute."""
MEGABYTE = 1_000_000
LARGE = b"x" * MEGABYTE
on_one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])
"""For what costs seconds."""


def memory():
    """Bytes that this process occupies: gateway, servers and clients together."""
    return psutil.Process().memory_info().rss


# --- Endless -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"], ids=["without an end", "with an end"])
async def test_a_head_that_is_too_long_is_refused(plane, end):
    plane.limit(head_bytes=1000)
    caller = await plane.connect()
    await caller.send(request("/health", f"X: {'x' * 2000}").removesuffix(b"\r\n\r\n") + end)
    answer = await caller.answer()
    assert (answer.status, answer.fields["connection"]) == (431, "close")


async def test_a_head_of_64_kib_is_taken(plane):
    assert (await plane.ask(request("/health", f"X: {'x' * 65_000}"))).status == 200


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_body_that_is_too_large_is_refused_while_it_is_sent(plane, framing):
    plane.limit(body_bytes=3 * MEGABYTE, replay_bytes=MEGABYTE)
    server = await plane.serve(hangs())
    sized = framing == "sized"
    line = f"Content-Length: {20 * MEGABYTE}" if sized else "Transfer-Encoding: chunked"
    caller = await plane.connect()

    async def send():
        with suppress(ConnectionError):
            await caller.send(request(EMBEDDINGS, line, method="POST"))
            for _ in range(20):
                await caller.send(LARGE if sized else chunked(LARGE))

    sending = asyncio.create_task(send())
    answer = await caller.answer()
    assert (answer.status, answer.error["code"], answer.fields["connection"]) == (
        413,
        "body_too_large",
        "close",
    )
    await sending
    assert len(server.calls) == (0 if sized else 1)


@on_one_loop
@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_body_of_1_gb_flows_through(plane, framing):
    taken, size = 0, 1000

    async def script(call):
        nonlocal taken
        async for piece in call.pieces():
            taken += len(piece)
        call.content = b""  # not kept
        return await answers()(call)

    await plane.serve(script)
    caller = await plane.connect()
    before, most = memory(), 0
    sized = framing == "sized"
    line = f"Content-Length: {size * MEGABYTE}" if sized else "Transfer-Encoding: chunked"
    await caller.send(request(EMBEDDINGS, line, method="POST"))
    piece = LARGE if sized else chunked(LARGE)
    for _ in range(size):
        await caller.send(piece)
        most = max(most, memory() - before)
    assert (await caller.ask(b"" if sized else b"0\r\n\r\n")).status == 200
    assert taken == size * MEGABYTE
    assert most < 64 * MEGABYTE


@on_one_loop
async def test_no_more_is_kept_of_all_bodies_than_allowed(plane):
    """Beyond that a body flows through, and waits at its client until its server takes it."""
    plane.limit(all_replay_bytes=8 * MEGABYTE)
    await plane.serve(answers(b"x"), status=Status.CRASHED)
    body = b"x" * MEGABYTE
    callers = [await plane.connect() for _ in range(30)]
    sending = [asyncio.create_task(caller.send(request(EMBEDDINGS, body=body))) for caller in callers]
    await plane.until_waiting(30)
    assert plane.gateway.kept_bytes < 8 * MEGABYTE + 30 * 256 * 1024
    plane.gateway.hear(replace(plane.gateway.backends["default"].facts, version=2, status=Status.READY))
    assert [(await caller.answer()).content for caller in callers] == [b"x"] * 30
    await asyncio.gather(*sending)
    assert plane.gateway.kept_bytes == 0


async def test_a_body_that_its_server_does_not_take_waits_at_the_client(plane):
    goes_on, sent = asyncio.Event(), 0
    server = await plane.serve(waits_for(goes_on, answers(b"x"), reads=False))
    caller = await plane.connect()

    async def send():
        nonlocal sent
        await caller.send(request(EMBEDDINGS, f"Content-Length: {100 * MEGABYTE}", method="POST"))
        for _ in range(100):
            await caller.send(LARGE)
            sent += 1

    sending = asyncio.create_task(send())
    await server.until_called()
    await asyncio.sleep(0.3)
    assert sent < 60  # what is kept, and what the kernel holds
    goes_on.set()
    assert (await caller.answer()).content == b"x"
    await sending
    assert len(server.contents[0]) == 100 * MEGABYTE


async def endless(call):
    """A stream of events without an end, as fast as it is taken."""
    await call.body()
    await call.send(stream_of())
    piece = chunked(event("x" * 50_000))
    while not call.left:
        await call.send(piece)
        await asyncio.sleep(0)
    return False


@on_one_loop
async def test_a_client_that_never_reads_makes_its_server_wait_and_is_cut_off_in_the_end(plane):
    plane.limit(unread_seconds=0.5)
    server = await plane.serve(endless)
    caller = await plane.connect()
    caller.read_nothing()
    before = memory()
    await caller.send(streaming())
    call = await server.until_called()
    await call.until_left()
    assert memory() - before < 32 * MEGABYTE
    await eventually(lambda: not plane.gateway.clients, DEADLINE)


@on_one_loop
@pytest.mark.parametrize("data", [question(), request("/v1/models")], ids=["of a server", "of the gateway"])
async def test_pipelining_without_reading_is_no_way_to_fill_memory(plane, data):
    plane.limit(unread_seconds=0.5)
    await plane.serve(answers(LARGE), detail="x" * 50_000)
    caller = await plane.connect()
    caller.read_nothing()
    before = memory()
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(DEADLINE):
            while plane.gateway.clients:
                await caller.send(data * 1000)
    assert not plane.gateway.clients
    assert memory() - before < 32 * MEGABYTE


async def test_a_client_that_reads_too_late_is_cut_off_although_its_answer_was_its_last(plane):
    plane.limit(unread_seconds=SOON)
    await plane.serve(answers(LARGE * 20))
    caller = await plane.connect()
    caller.read_nothing()
    await caller.send(request(EMBEDDINGS, "Connection: close", body={}))
    await eventually(lambda: plane.gateway.clients, DEADLINE)
    await eventually(lambda: not plane.gateway.clients, DEADLINE)


# --- Many ----------------------------------------------------------------------------------------------


@on_one_loop
async def test_2000_idle_connections_disturb_nobody(plane):
    await plane.serve(answers(b"x"))
    before = memory()
    for _ in range(20):
        await asyncio.gather(*(plane.connect() for _ in range(100)))
    await eventually(lambda: len(plane.gateway.clients) == 2000, DEADLINE)
    assert (await plane.ask(question())).content == b"x"
    assert memory() - before < 64 * MEGABYTE


async def test_beyond_so_many_connections_the_oldest_stranger_goes(plane):
    plane.limit(connections=3)
    await plane.serve(answers(b"x"))
    callers = [await plane.connect() for _ in range(3)]
    await eventually(lambda: len(plane.gateway.clients) == 3)
    assert (await callers[0].ask(question())).content == b"x"
    assert (await plane.ask(question())).content == b"x"
    assert await callers[1].is_cut_off()
    assert (await callers[0].ask(question())).content == b"x"


async def test_beyond_so_many_busy_connections_the_next_is_closed(plane):
    plane.limit(connections=2)
    server = await plane.serve(hangs())
    asking = [plane.asks(question()) for _ in range(2)]
    await server.until_called(2)
    assert await (await plane.connect()).is_cut_off()
    for each in asking:
        each.cancel()


@on_one_loop
async def test_many_requests_at_a_server_that_is_down_are_all_told_so(plane):
    await plane.serve(answers(), status=Status.CRASHED, hold_seconds=3.0, detail="Retry 1 of 5.")
    todo = iter(range(2000))
    statuses = []
    before, most = memory(), 0

    async def client():
        nonlocal most
        caller = await plane.connect()
        data = question("x" * 1000)
        for _ in todo:
            statuses.append((await caller.ask(data)).status)
            most = max(most, memory() - before)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(400):
            group.create_task(client())
    assert set(statuses) == {429, 503}
    assert len(statuses) == 2000
    assert most < 64 * MEGABYTE
    assert len(await plane.records(2000)) == 2000


async def test_the_mistakes_of_one_client_harm_no_other(plane):
    await plane.serve(answers(b"x"))
    good = await plane.connect()
    for wrong in (
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n" * 50,
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        bad = await plane.connect()
        answer = await bad.ask(wrong)
        assert answer.status == 400
        assert await bad.rest() == b""
        assert (await good.ask(question())).content == b"x"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", "bare line break"),
        (b"\r\nGET /health HTTP/1.1\r\nHost: localhost\n\n", "bare line break"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "plain HTTP, not HTTPS"),
        (b"\x04\x01\x00\x50", "not a request line"),
    ],
    ids=["bare line feeds", "a bare line feed", "TLS", "SOCKS"],
)
async def test_bytes_that_can_never_be_a_request_are_refused_at_once(plane, wrong, message):
    """And not only when the time is over in which a head must come."""
    plane.limit(head_seconds=DEADLINE * 10)
    for pieces in ([wrong], [bytes([byte]) for byte in wrong]):
        caller = await plane.connect()
        for piece in pieces:
            await caller.send(piece)
            await asyncio.sleep(0)
        answer = await caller.answer()
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert message in answer.error["message"]
        assert await caller.rest() == b""


async def test_bytes_after_a_bad_request_are_not_read_as_another(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    smuggling = request(EMBEDDINGS, "Content-Length: 5", "Transfer-Encoding: chunked", method="POST")
    await caller.send(smuggling + b"0\r\n\r\n" + question("smuggled"))
    assert (await caller.answer()).status == 400
    assert await caller.rest() == b""
    assert not server.calls
