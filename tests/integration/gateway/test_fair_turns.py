"""Clients that ask for much at once get little of it at once: in between all others have their turn."""

from __future__ import annotations

import asyncio
from functools import partial

from supervisor_app.gateway.plane.client import CHUNKS_AT_ONCE, Client
from supervisor_app.gateway.plane.work_queue import WorkQueue
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, request
from tests.integration.gateway.scripts import answers

MEGABYTE = 1_000_000
MODELS = request("/v1/models")
BEGINNING = b'{"model": "default", "input": "' + b"x" * MEGABYTE
"""Of a body that does not come whole."""


class Wire(asyncio.Transport):
    """A connection that takes what is written, and tells whether it is read."""

    def __init__(self):
        super().__init__({"socket": self})
        self.written = b""
        self.is_read = True

    def write(self, data):
        self.written += data

    def writelines(self, pieces):
        self.written += b"".join(pieces)

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True

    def getsockopt(self, *_):
        return b"\x01"  # established

    def is_closing(self):
        return False

    @property
    def answers(self):
        return self.written.count(b"HTTP/1.1 200 ")


def connected(plane):
    wire, client = Wire(), Client(plane.gateway)
    client.connection_made(wire)
    return wire, client


async def test_each_turn_answers_one_pipelined_request(plane):
    await plane.serve(answers(b"x"))
    wire, client = connected(plane)
    client.data_received(MODELS * 3000)
    assert wire.answers == 1
    assert not wire.is_read
    client.data_received(MODELS)
    assert wire.answers == 1
    await eventually(lambda: wire.answers == 3001, DEADLINE)
    assert wire.is_read
    client.connection_lost(None)


async def test_some_tiny_chunks_are_read_in_each_turn(plane):
    await plane.serve(answers(b"x"))
    wire, client = connected(plane)
    head = request(EMBEDDINGS, "Transfer-Encoding: chunked", method="POST")
    client.data_received(head + b"1\r\n \r\n" * 10_000)
    assert plane.gateway.kept_bytes == CHUNKS_AT_ONCE
    assert not wire.is_read
    await eventually(lambda: plane.gateway.kept_bytes == 10_000, DEADLINE)
    assert wire.is_read
    client.data_received(b"2\r\n{}\r\n0\r\n\r\n")
    await eventually(lambda: wire.answers == 1, DEADLINE)
    client.connection_lost(None)


async def test_the_text_of_an_unfinished_body_is_not_read(plane):
    await plane.serve(answers(b"x"))
    head = request(EMBEDDINGS, f"Content-Length: {2 * MEGABYTE}", method="POST")
    wires = [connected(plane) for _ in range(3)]
    for _, client in wires:
        client.data_received(head + BEGINNING)
    for _, client in wires:
        client.connection_lost(None)
    assert plane.gateway.kept_bytes == 0
    assert [record.model for record in await plane.records(3)] == ["", "", ""]


async def test_large_bodies_that_come_together_are_routed_one_in_each_turn(plane):
    await plane.serve(answers(b"x"))
    body = BEGINNING + b'"}'
    asked = request(EMBEDDINGS, f"Content-Length: {len(body)}", method="POST") + body
    wires = [connected(plane) for _ in range(5)]
    for _, client in wires:
        client.data_received(asked)
    gate = plane.gateway.backends["default"].gate
    assert [*gate.in_flight, *gate.waiting] == []
    wires[4][1].connection_lost(None)
    await eventually(lambda: [wire.answers for wire, _ in wires] == [1, 1, 1, 1, 0], DEADLINE)
    for _, client in wires[:4]:
        client.connection_lost(None)
    assert [record.model for record in await plane.records(5)].count("default") == 4


async def test_between_two_turns_others_have_theirs():
    loop, story = asyncio.get_running_loop(), []
    queue = WorkQueue(loop)
    for number in range(3):
        queue.put(partial(story.append, number))

    def other():
        story.append("other")
        if len(story) < 6:
            loop.call_soon(other)

    loop.call_soon(other)
    await eventually(lambda: len(story) >= 6, DEADLINE)
    assert story[:6] == [0, "other", 1, "other", 2, "other"]


async def test_work_that_fails_holds_no_other_up():
    loop, story, failures = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    queue = WorkQueue(loop)

    def fail():
        raise ValueError

    queue.put(fail)
    queue.put(lambda: story.append("done"))
    await eventually(lambda: story == ["done"], DEADLINE)
    assert [type(failure) for failure in failures] == [ValueError]


async def test_a_turn_may_be_taken_again():
    story = []
    queue = WorkQueue(asyncio.get_running_loop())
    queue.put(partial(story.append, 1))
    await eventually(lambda: story == [1], DEADLINE)
    queue.put(partial(story.append, 2))
    await eventually(lambda: story == [1, 2], DEADLINE)
