"""Connections to a server that are used again: none on which something is left of the request before."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from supervisor_app.gateway.servers.pool import Pool
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request
from tests.integration.gateway.scripts import Scripted, answers, head, waits_for

QUESTION = question("hi")
SIZED = head(200, "text/plain", "Content-Length: 2")


class Listening:
    """`upstream.Receiver` that takes nothing more of the answer once some has come."""

    def __init__(self, connection):
        self.connection = connection
        self.content = b""
        self.ended = asyncio.Event()

    def on_head(self, head, length):
        pass

    def on_content(self, content):
        self.content += content
        self.connection.pause_reading(True)

    def on_whole(self, head, length, content):
        self.content = content
        self.ended.set()

    def on_end(self):
        self.ended.set()


@pytest.fixture
async def scripted():
    server = Scripted(answers(b"next"))
    await server.start()
    yield server
    await server.stop()


async def test_a_connection_paused_at_the_end_of_an_answer_is_read_when_it_is_used_again(scripted):
    goes_on = asyncio.Event()

    async def last_words(call):
        await call.send(b"hi")
        return True

    scripted.scripts = [waits_for(goes_on, last_words, before=SIZED), answers(b"next")]
    pool = Pool("127.0.0.1", scripted.port, idle_seconds=60, connect_seconds=5)
    made = asyncio.get_running_loop().create_future()
    pool.connect(made.set_result, made.set_exception)
    connection = await made
    first, second = Listening(connection), Listening(connection)
    connection.ask(first, QUESTION, b"")
    await scripted.until_called()
    goes_on.set()
    await first.ended.wait()
    assert first.content == b"hi"
    assert pool.take() is connection
    connection.ask(second, QUESTION, b"")
    async with asyncio.timeout(DEADLINE):
        await second.ended.wait()
    assert second.content == b"next"
    pool.close()


class Asking:
    """Who a connection is made for."""

    def __init__(self):
        self.connection = asyncio.get_running_loop().create_future()

    def made(self, connection):
        self.connection.set_result(connection)

    def failed(self, reason):
        raise AssertionError(reason)


async def test_a_kept_connection_does_not_keep_whom_it_was_made_for(scripted):
    pool = Pool("127.0.0.1", scripted.port, idle_seconds=60, connect_seconds=5)
    asking = Asking()
    pool.connect(asking.made, asking.failed)
    connection = await asking.connection
    gone = weakref.ref(asking)
    del asking
    await eventually(lambda: gone() is None)
    connection.abort()


async def refuses_by_the_head(call):
    """And takes what comes after it for the body, as far as that goes."""
    await call.send(SIZED + b"no")
    await call.body()
    return True


async def test_nobody_s_request_is_taken_for_the_rest_of_another_one(plane):
    plane.limit(replay_bytes=1000)
    server = await plane.serve(refuses_by_the_head, answers(b"next"))
    caller = await plane.connect()
    await caller.send(request(EMBEDDINGS, "Content-Length: 5000", method="OPTIONS") + b"x" * 2000)
    assert (await caller.answer()).content == b"no"
    assert (await plane.ask(QUESTION)).content == b"next"
    assert server.connections == 2
