"""A client whose next request takes the fast path."""

from __future__ import annotations

from supervisor_app.gateway.access.keys import KeyPolicy, digest_of
from tests.integration.gateway.plane import EMBEDDINGS, request
from tests.integration.gateway.scripts import (
    answers,
)

KEY = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"))
BEARER = "Authorization: Bearer lp-a"


async def warm(plane, *scripts, lines=(), path=EMBEDDINGS, **facts):
    """A server with a connection to spare, and a client that has asked it before."""
    server = await plane.serve(answers(b"warm"), *scripts, **facts)
    caller = await plane.connect()
    body = {"model": server.name, "input": "warm", "max_tokens": 1}
    assert (await caller.ask(request(path, *lines, body=body))).status == 200
    return server, caller


def in_flight(plane):
    (exchange,) = plane.gateway.exchanges
    return exchange


def asked(text="hi", **fields):
    return request(EMBEDDINGS, BEARER, body={"input": text, **fields})
