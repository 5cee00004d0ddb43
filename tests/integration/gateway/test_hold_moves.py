"""Requests that wait, and move to another server with their model."""

from __future__ import annotations

import asyncio

from supervisor_app.core.status import Status
from tests.integration.gateway.plane import question
from tests.integration.gateway.scripts import answers, hangs, waits_for

SOON = 0.05
"""Seconds after which something is done that would else take long."""


async def test_a_waiting_request_goes_to_another_server_with_its_model_after_an_error(plane):
    first = await plane.serve(answers(b"first"), name="first", status=Status.STARTING, models=("qwen",))
    second = await plane.serve(answers(b"second"), name="second", status=Status.CRASHED, models=("qwen",))
    asking = plane.asks(question(model="qwen"))
    await plane.until_waiting(1, "first")
    first.says(status=Status.ERROR)
    await plane.until_waiting(1, "second")
    second.says(status=Status.READY)
    assert (await asking).content == b"second"
    assert not first.calls


async def test_a_waiting_request_goes_to_another_server_that_is_ready_sooner(plane):
    await plane.serve(answers(), name="first", status=Status.STARTING, models=("qwen",))
    second = await plane.serve(answers(b"second"), name="second", status=Status.CRASHED, models=("qwen",))
    asking = plane.asks(question(model="qwen"))
    await plane.until_waiting(1, "first")
    second.says(status=Status.READY)
    assert (await asking).content == b"second"


async def test_a_waiting_request_stays_when_another_server_has_another_model(plane):
    first = await plane.serve(answers(), name="first", status=Status.STARTING)
    await plane.serve(answers(), name="second")
    asking = plane.asks(question(model="first"))
    await plane.until_waiting(1, "first")
    first.says(status=Status.ERROR, detail="It is broken.")
    assert (await asking).error["message"] == "first: It is broken."


async def test_a_request_from_another_queue_goes_by_its_arrival(plane):
    first = await plane.serve(answers(), name="first", status=Status.STARTING, models=("qwen",))
    second = await plane.serve(answers(), name="second", status=Status.CRASHED, models=("qwen",), capacity=1)
    old = plane.asks(question("old", model="qwen"))
    await plane.until_waiting(1, "first")
    new = plane.asks(question("new", model="second"))
    await plane.until_waiting(1, "second")
    first.says(status=Status.ERROR)
    await plane.until_waiting(2, "second")
    second.says(status=Status.READY)
    assert [(await old).status, (await new).status] == [200, 200]
    assert second.texts == ["old", "new"]


async def test_a_request_that_moves_to_another_queue_waits_there_for_its_turn(plane):
    """By that server's own rules, not by what was left of the time at the one that died."""
    goes_on = asyncio.Event()
    shared = {"models": ("shared",), "offered": ("shared",), "capacity": 1}
    one = await plane.serve(hangs(), name="one", hold_seconds=SOON, **shared)
    await plane.serve(waits_for(goes_on, answers(b"two")), name="two", pid=2001, **shared)
    asking = [plane.asks(question(text, model="shared")) for text in ("first", "second")]
    await plane.until_inside(1, "one")
    await plane.until_inside(1, "two")
    one.drop_all()
    one.crashed()
    await plane.until_waiting(1, "two")
    await asyncio.sleep(2 * SOON)
    goes_on.set()
    assert [(await answer).content for answer in asking] == [b"two", b"two"]
