"""Connections to a server that are used again: none on which something is left of the request before."""

from __future__ import annotations

from tests.integration.gateway.plane import EMBEDDINGS, question, request
from tests.integration.gateway.scripts import answers, head

QUESTION = question("hi")
SIZED = head(200, "text/plain", "Content-Length: 2")


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
