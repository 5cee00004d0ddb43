"""Questions of the gateway itself, beside the requests of clients."""

from __future__ import annotations

import asyncio

from supervisor_app.gateway.servers.fetch import fetch
from tests.integration.gateway.plane import question
from tests.integration.gateway.scripts import answers


async def test_a_request_never_gets_the_connection_of_a_question_that_is_about_to_end_it(plane):
    """Not even of a server that keeps it, although it was told otherwise: the request would end with it."""
    await plane.serve(answers(b"{}"), answers(b'{"from": "it"}'))
    backend = plane.gateway.backends["default"]
    asking = asyncio.ensure_future(fetch(backend, "/props"))
    while not asking.done():
        assert backend.pool.take() is None
        await asyncio.sleep(0)
    assert asking.result() == b"{}"
    assert (await plane.ask(question())).json == {"from": "it"}
