"""A stream that its client has ended by another request is ended, not broken."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyRing, digest_of
from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.engines import engine, make_model_that_says
from tests.integration.gateway.fast import KEY
from tests.integration.gateway.plane import CHAT, request
from tests.integration.gateway.scripts import (
    EVENTS,
    LAST_CHUNK,
    answers,
    chunked,
    event,
    head,
    sends,
    stream_of,
    streams,
    waits_for,
)
from tests.integration.gateway.test_assembly import gateway_to

NAME = "X-Conversation-Id: talk"
NUMBERS = [f"{number}," for number in range(1, 41)]
QUESTION = {
    "messages": [{"role": "user", "content": "Count."}],
    "prompt": "Count.",
    "input": "Count.",
    "max_tokens": 10_000,
    "n_predict": 10_000,
    "ignore_eos": True,
}
PATHS = [CHAT, "/v1/completions", "/completion", "/v1/messages", "/v1/responses"]


def ask(path=CHAT, *lines, stream=True, **fields):
    return request(path, *lines, body={**QUESTION, "stream": stream, **fields})


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_that_its_client_stopped_ends_as_its_server_ended_it(plane, path):
    goes_on = asyncio.Event()
    first = b'data: {"content": "a","stop":false}\n\n'
    await plane.serve(waits_for(goes_on, sends(LAST_CHUNK), before=stream_of(first)))
    asking = plane.asks(ask(path, NAME))
    await plane.until_begun()
    goes_on.set()
    answer = await asking
    assert (answer.content, answer.whole) == (first, True)
    (record,) = await plane.records(1)
    assert (record.status, record.outcome, record.run_name) == (200, Outcome.CLIENT_LEFT, "")


async def test_a_stream_that_was_stopped_before_its_first_word_is_not_begun_again(plane):
    server = await plane.serve(sends(stream_of(b":\n\n") + LAST_CHUNK), streams(event("again")))
    answer = await plane.ask(ask(CHAT, NAME))
    assert (answer.content, answer.whole) == (b":\n\n", True)
    assert len(server.calls) == 1
    assert (await plane.records(1))[0].outcome is Outcome.CLIENT_LEFT


async def test_the_server_of_a_stopped_stream_is_not_doubted(plane):
    await plane.serve(sends(stream_of(event("a")) + LAST_CHUNK), answers(b"x"))
    await plane.ask(ask(CHAT, NAME))
    backend = plane.gateway.backends["default"]
    assert backend.gate.is_open
    assert not backend.losses.accusations


@pytest.mark.parametrize(
    ("lines", "script"),
    [
        ([], sends(stream_of(event("a")) + LAST_CHUNK)),
        ([NAME], sends(stream_of(event("a")))),
        ([NAME], sends(stream_of(event("a")), resets=True)),
        ([NAME], sends(head(200, EVENTS) + event("a"))),
        ([NAME], sends(stream_of(event("a")) + chunked(b"proxy error: gone") + LAST_CHUNK)),
    ],
    ids=["without a name", "cut", "reset", "of no known length", "a router's loss"],
)
async def test_a_stream_that_nobody_could_have_ended_is_broken(plane, lines, script):
    await plane.serve(script, is_router=True)
    answer = await plane.ask(ask(CHAT, *lines))
    assert answer.is_broken
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.UPSTREAM_CRASHED


async def test_a_stream_that_ends_with_its_process_is_broken(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, sends(LAST_CHUNK), before=stream_of(event("a"))))
    asking = plane.asks(ask(CHAT, NAME))
    await plane.until_begun()
    server.says(status=Status.CRASHED, pid=None)
    goes_on.set()
    assert (await asking).is_broken


async def test_an_answer_in_one_piece_is_not_asked_for_as_a_stream_that_others_could_end(plane):
    server = await plane.serve(answers(b"{}"))
    await plane.ask(ask(CHAT, NAME, stream=False))
    assert b'"stream":true' not in server.calls[0].content.replace(b" ", b"")


STOP = request("/v1/stream?conv_id=talk", method="DELETE")


async def test_a_stream_that_waits_for_its_server_is_stopped_at_once_and_never_sent(plane):
    server = await plane.serve(answers(b"{}"), status=Status.STARTING)
    asking = plane.asks(ask(CHAT, NAME))
    others = [plane.asks(ask(CHAT, line)) for line in ("X-Conversation-Id: other", "X-Other: talk")]
    await plane.until_waiting(3)
    stopping = plane.asks(STOP)
    answer = await asking
    assert (answer.status, answer.content, answer.whole) == (200, b"", True)
    assert answer.fields["content-type"] == EVENTS
    assert (await plane.records(1))[0].outcome is Outcome.CLIENT_LEFT
    server.says(status=Status.READY)
    await asyncio.gather(stopping, *others)
    assert len(server.calls) == 3


async def test_nobody_stops_what_came_with_another_key(plane):
    keys = [KEY, replace(KEY, id=8, name="other", digest=digest_of("lp-b"))]
    plane.gateway.door.keys = KeyRing(keys)
    server = await plane.serve(answers(b"{}"), status=Status.STARTING)
    asking = plane.asks(ask(CHAT, NAME, "X-Api-Key: lp-a"))
    await plane.until_waiting(1)
    stopping = plane.asks(request("/v1/stream?conv_id=talk", "X-Api-Key: lp-b", method="DELETE"))
    await plane.until_waiting(2)
    server.says(status=Status.READY)
    await asyncio.gather(asking, stopping)
    assert len(server.calls) == 2


# --- The real one --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """It counts for ever, some 5 ms for each number."""
    directory = tmp_path_factory.mktemp("counting")
    model = make_model_that_says(directory / "counting.gguf", *NUMBERS, padding_mb=32, context=16384)
    flags = ["-m", str(model), "-c", "65536", "-np", "4", "--no-warmup"]
    with engine("llama-server", directory, *flags) as running:
        yield running


ENDS = {
    "a DELETE": STOP,
    "another question": ask(CHAT, NAME, max_tokens=1, n_predict=1),
}


@pytest.mark.engine
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("path", PATHS)
async def test_a_real_stream_is_ended_by(counting, path, end):
    async with gateway_to(counting) as plane:
        asking = plane.asks(ask(path, NAME))
        await plane.until_begun()
        assert (await plane.ask(end)).status in (200, 204)
        answer = await asking
        assert answer.whole
        assert b"upstream_crashed" not in answer.content
        outcomes = {record.outcome for record in await plane.records(2)}
        assert outcomes == {Outcome.CLIENT_LEFT, Outcome.OK}
        await eventually(lambda: plane.gateway.backends["default"].gate.is_open)
