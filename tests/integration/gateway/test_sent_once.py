"""What may have had an effect is never sent twice: only what is pure is asked again after a loss."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.fast import warm
from tests.integration.gateway.plane import request
from tests.integration.gateway.scripts import answers, dies, hangs, head, loads, sends
from tests.ports import free_port

TOOL = {"tool": "exec_shell_command", "params": {"command": "date >> log"}}
IMPURE = {
    "a tool": request("/tools", body=TOOL),
    "a tool, spelt otherwise": request("/tool%73", body=TOOL),
    "a tool behind a prefix": request("/llama/tools", body=TOOL),
    "a path that nobody knows": request("/v1/anything", body={}),
    "properties": request("/props", body={}),
    "adapters": request("/lora-adapters", body=[]),
    "a slot": request("/slots/0?action=erase", body={}),
    "a model": request("/models/load", body={"model": "one"}),
    "a page": request("/cors-proxy?url=http://example.com"),
    "the end of an answer": request("/v1/stream?conv_id=1", method="DELETE"),
    "a PUT": request("/v1/chat/completions", body={}, method="PUT"),
}
PURE = {
    "embeddings": request("/v1/embeddings", body={"input": "hi"}),
    "tokens": request("/tokenize", body={"content": "hi"}),
    "a transcription": request("/v1/audio/transcriptions", body={}),
    "slots": request("/slots"),
    "an unknown GET": request("/v1/anything"),
}
LOST = {
    "without a word": dies(),
    "with a reset": dies(resets=True),
    "in its head": sends(b"HTTP/1.1 200 OK\r\nContent-"),
    "after its head": sends(head(200, "a/b", "Content-Length: 5")),
}


@pytest.mark.parametrize("end", LOST.values(), ids=LOST)
@pytest.mark.parametrize("asked", IMPURE.values(), ids=IMPURE)
async def test_an_operation_that_may_have_been_done_is_not_done_again(plane, asked, end):
    server = await plane.serve(end, answers(b"again"))
    answer = await plane.ask(asked)
    assert (answer.status, answer.error["code"]) == (502, "upstream_crashed")
    assert answer.error["retryable"] is False
    assert len(server.calls) == 1
    (record,) = await plane.records(1)
    assert (record.outcome, record.replays) == (Outcome.UPSTREAM_CRASHED, 0)


@pytest.mark.parametrize("asked", PURE.values(), ids=PURE)
async def test_a_pure_operation_is_asked_for_again(plane, asked):
    server = await plane.serve(dies(), answers(b""))
    assert (await plane.ask(asked)).status == 200
    assert len(server.calls) == 2


async def test_an_operation_with_effects_waits_for_its_server_and_is_sent_once(plane):
    server = await plane.serve(answers(b"done"))
    await server.stop()
    server.crashed()
    asking = plane.asks(IMPURE["a tool"])
    await plane.until_waiting(1)
    await server.start()
    server.restarted()
    assert (await asking).content == b"done"
    assert len(server.calls) == 1


async def test_a_server_that_took_no_connection_was_not_asked(plane):
    server = await plane.serve(answers(b"done"))
    port = server.port
    server.says(url=f"http://127.0.0.1:{free_port()}")
    asking = plane.asks(IMPURE["a tool"])
    await plane.until_waiting(1)
    server.says(url=f"http://127.0.0.1:{port}")
    assert (await asking).content == b"done"


async def test_a_server_that_loads_has_not_done_the_operation(plane):
    server = await plane.serve(loads(), answers(b"done"))
    assert (await plane.ask(IMPURE["a tool"])).content == b"done"
    assert len(server.calls) == 2


async def test_an_answer_that_the_server_loads_is_passed_on(plane):
    server = await plane.serve(loads(), answers(b"not asked"))
    assert (await plane.ask(IMPURE["a page"])).status == 503
    assert len(server.calls) == 1


async def test_an_operation_with_effects_never_goes_over_an_old_connection(plane, taken):
    """There nobody could tell whether the server has seen it."""
    server, caller = await warm(plane, answers(b"done"), answers(b"done"), path="/tools")
    connections = server.connections
    assert (await caller.ask(IMPURE["a tool"])).content == b"done"
    assert server.connections == connections + 1
    assert not any(taken)


async def test_a_server_that_is_stopped_under_an_operation_does_it_once(plane):
    server = await plane.serve(hangs(), answers(b"again"))
    asking = plane.asks(IMPURE["a tool"])
    await server.until_called(1)
    server.crashed()
    assert (await asking).status == 502
    server.restarted()
    await asyncio.sleep(0)
    assert len(server.calls) == 1
