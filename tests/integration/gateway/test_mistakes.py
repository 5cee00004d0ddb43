"""Mistakes of our own over an answer: they cost one request, which is told, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.gateway.plane.client import Client
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.attempt import Attempt
from tests.integration.gateway.plane import question, streaming
from tests.integration.gateway.scripts import (
    FINISH,
    answers,
    chunked,
    event,
    sends,
    stream_of,
    waits_for,
)


@pytest.fixture
def breaks(monkeypatch):
    """From now on, whoever calls this gets an error, once."""

    def once(owner, name):
        working = getattr(owner, name)

        def broken(*arguments):
            monkeypatch.setattr(owner, name, working)
            raise ValueError("unforeseen")

        monkeypatch.setattr(owner, name, broken)

    return once


STUMBLES = {
    "the long way": (1, Exchange, "answer_whole", 200),
    "its beginning": (1, Attempt, "on_whole", 200),
    "the fast path": (2, Client, "answer", 200),
    "between the two": (2, Exchange, "go_on_from", 201),
}


@pytest.mark.parametrize(("number", "owner", "name", "status"), STUMBLES.values(), ids=STUMBLES)
async def test_a_request_over_which_we_stumble_is_answered_and_so_is_the_next(
    plane, breaks, caplog, number, owner, name, status
):
    """`number`: of the request on its connection."""
    scripts = [answers(b"before"), answers(b"lost", status), answers(b"after")]
    await plane.serve(*scripts[2 - number :])
    caller = await plane.connect()
    for _ in range(number - 1):
        assert (await caller.ask(question())).content == b"before"
    breaks(owner, name)
    answer = await caller.ask(question())
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert (await caller.ask(question())).content == b"after"
    assert "This is a mistake in llamaproxy" in caplog.text
    assert "unforeseen" in caplog.text
    records = await plane.records(number + 1)
    assert [record.outcome for record in records[-2:]] == [Outcome.UNAVAILABLE, Outcome.OK]


async def test_a_stream_over_which_we_stumble_says_so(plane, breaks):
    goes_on = asyncio.Event()
    rest = sends(chunked(event("b")) + FINISH)
    await plane.serve(waits_for(goes_on, rest, before=stream_of(event("a"))))
    caller = await plane.connect()
    await caller.send(streaming())
    await caller.read_until(chunked(event("a")))
    breaks(Attempt, "_pass_on")
    goes_on.set()
    assert b'"code":"internal_error"' in await caller.rest()
