"""Clients that send or read slowly or never: they are cut off in time, and patient ones are served."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request
from tests.integration.gateway.scripts import answers, hangs

SOON = 0.1
"""Seconds after which a client is cut off that would else have a minute."""
MEGABYTE = 1_000_000
LARGE = b"x" * MEGABYTE
on_one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])
"""For what costs seconds."""


def dribbled(caller, data, pause):
    """Byte by byte, until the connection ends."""

    async def dribble():
        with suppress(ConnectionError):
            for byte in data:
                await caller.send(bytes([byte]))
                await asyncio.sleep(pause)

    return asyncio.create_task(dribble())


async def test_a_head_that_dribbles_is_cut_off(plane):
    plane.limit(head_seconds=SOON)
    caller = await plane.connect()
    sending = dribbled(caller, request("/health", f"X: {'x' * 1000}"), SOON / 20)
    answer = await caller.answer()
    assert (answer.status, answer.error["code"], answer.fields["connection"]) == (
        408,
        "request_timeout",
        "close",
    )
    sending.cancel()


async def test_a_body_that_stops_coming_is_cut_off(plane):
    plane.limit(body_seconds=SOON)
    server = await plane.serve(answers())
    caller = await plane.connect()
    await caller.send(question()[:-5])
    answer = await caller.answer()
    assert (answer.status, answer.error["code"], answer.fields["connection"]) == (
        408,
        "request_timeout",
        "close",
    )
    assert not server.calls


async def test_a_body_that_stops_coming_frees_its_server(plane):
    plane.limit(body_seconds=SOON, replay_bytes=1000)
    server = await plane.serve(answers())
    caller = await plane.connect()
    await caller.send(request(EMBEDDINGS, body=b"x" * 5000)[:-5])
    assert (await caller.answer()).status == 408
    await (await server.until_called()).until_left()


async def test_a_body_that_dribbles_is_cut_off(plane):
    plane.limit(body_seconds=SOON)
    server = await plane.serve(answers())
    caller = await plane.connect()
    data = question("x" * 5000)
    await caller.send(data[:-5000])
    sending = dribbled(caller, data[-5000:], SOON / 20)
    answer = await caller.answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert not server.calls
    sending.cancel()


@on_one_loop
async def test_a_body_that_comes_slowly_but_steadily_is_taken(plane):
    plane.limit(body_seconds=1.0, body_rate=5)
    await plane.serve(answers())
    caller = await plane.connect()
    data = question("slowly")
    await caller.send(data[:-12])
    sending = dribbled(caller, data[-12:], 0.1)  # twice as fast as it must, for longer than it may pause
    assert (await caller.answer()).status == 200
    await sending


async def test_a_connection_that_was_never_used_is_closed(plane):
    plane.limit(idle_seconds=SOON)
    assert await (await plane.connect()).is_cut_off()


async def test_a_connection_that_is_not_used_any_more_is_closed(plane):
    await plane.serve(answers())
    caller = await plane.connect()
    plane.limit(idle_seconds=SOON)
    assert (await caller.ask(question())).status == 200
    assert await caller.is_cut_off()


@pytest.mark.parametrize("path", ["/index.html", "/v1/models"], ids=["of a server", "of the gateway"])
async def test_a_connection_is_idle_again_after_a_long_answer(plane, path):
    await plane.serve(answers(LARGE * 10), detail="x" * 10 * MEGABYTE)
    caller = await plane.connect()
    plane.limit(idle_seconds=SOON)
    assert len((await caller.ask(request(path))).content) >= 10 * MEGABYTE
    assert await caller.is_cut_off()


@pytest.mark.parametrize("path", ["/index.html", "/v1/models"], ids=["of a server", "of the gateway"])
@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive"])
async def test_a_long_answer_may_be_read_slowly(plane, path, line):
    await plane.serve(answers(LARGE * 10), detail="x" * 10 * MEGABYTE)
    caller = await plane.connect()
    plane.limit(idle_seconds=SOON)
    await caller.send(request(path, line))
    await asyncio.sleep(SOON * 3)
    assert len((await caller.answer()).content) >= 10 * MEGABYTE


async def test_the_end_of_a_short_answer_may_be_read_slowly_too(plane):
    """It is too little to be waited for: the connection counts as idle already."""
    plane.narrow()
    await plane.serve(answers(b"x" * 60_000))
    caller = await plane.connect()
    caller.read_nothing()
    plane.limit(idle_seconds=SOON)
    await caller.send(question())
    await plane.records(1)
    await asyncio.sleep(SOON * 3)
    caller.read_on()
    assert (await caller.answer()).content == b"x" * 60_000
    assert await caller.is_cut_off()


async def test_a_client_that_never_reads_that_end_is_cut_off(plane):
    plane.narrow()
    await plane.serve(answers(b"x" * 60_000))
    caller = await plane.connect()
    caller.read_nothing()
    plane.limit(idle_seconds=SOON, unread_seconds=SOON)
    await caller.send(question())
    await plane.records(1)
    await eventually(lambda: not plane.gateway.clients, DEADLINE)


async def test_an_answer_may_take_longer_than_anything_else(plane):
    server = await plane.serve(hangs(), answers(b"x"))
    caller = await plane.connect()
    plane.limit(body_seconds=SOON, idle_seconds=SOON, head_seconds=SOON, unread_seconds=SOON)
    await caller.send(question())
    await server.until_called()
    await asyncio.sleep(SOON * 3)
    server.restarted()
    assert (await caller.answer()).content == b"x"
