"""A server that sleeps is woken by what needs its model, and kept up by nothing else."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.fast import warm
from tests.integration.gateway.plane import CHAT, question, request
from tests.integration.gateway.scripts import answers, dies, hangs
from tests.unit.gateway.test_operations import COMPUTES, COUNTS

ASLEEP = {"status": Status.INITIAL, "wanted": False, "wakes": True, "pid": None}
UNLOADED = {"status": Status.INITIAL, "unloaded": True, "pid": None}
SLEEPERS = [pytest.param(ASLEEP, id="idle"), pytest.param(UNLOADED, id="made room")]
LOOKS = {
    "an icon": request("/favicon.ico"),
    "a page": request("/"),
    "its head": request("/", method="HEAD"),
    "properties": request("/props"),
    "slots": request("/slots"),
    "a head": request(CHAT, method="HEAD"),
    "options": request(CHAT, method="OPTIONS"),
    "an unknown path": request("/nope", body={}),
    "another spelling": request("/v1/chat/completions/", body={}),
    "an unknown GET": request("/nope"),
    "a tool": request("/tools", body={}),
    "a stream": request("/v1/stream?conv_id=1"),
    "new properties": request("/props", body={}),
}
NEEDS = [*COMPUTES, *COUNTS, "/llama/v1/chat/completions", "/lora-adapters", "/models/load"]


def is_head(data):
    return data.startswith(b"HEAD")


@pytest.mark.parametrize("sleeps", SLEEPERS)
@pytest.mark.parametrize("asked", LOOKS.values(), ids=LOOKS)
async def test_a_request_that_needs_no_model_wakes_none_and_is_told_so_at_once(plane, asked, sleeps):
    await plane.serve(answers(), **sleeps)
    answer = await plane.ask(asked, to_head=is_head(asked))
    assert answer.status == 503
    if not is_head(asked):
        assert answer.error["code"] == "server_unavailable"
        assert "sleeps" in answer.error["message"]
        assert answer.fields["x-should-retry"] == "false"
    assert plane.outside.woken == []
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize("sleeps", SLEEPERS)
@pytest.mark.parametrize("path", NEEDS)
async def test_a_request_that_needs_the_model_wakes_its_server(plane, path, sleeps):
    server = await plane.serve(answers(b"x"), **sleeps)
    asking = plane.asks(question(path=path))
    await eventually(lambda: plane.outside.woken == ["default"])
    server.says(status=Status.READY, wanted=True, unloaded=False, pid=7)
    assert (await asking).content == b"x"
    assert (await plane.records(1))[0].counts_as_use


@pytest.mark.parametrize("asked", LOOKS.values(), ids=LOOKS)
async def test_looking_at_a_server_is_no_use_of_it(plane, asked):
    await plane.serve(answers())
    assert (await plane.ask(asked, to_head=is_head(asked))).status == 200
    (record,) = await plane.records(1)
    assert record.counts_as_use == (b"/v1/stream" in asked)


async def test_a_question_on_the_fast_path_is_use(plane, taken):
    _, caller = await warm(plane, answers(b"x"))
    await caller.ask(question())
    assert taken == [True]
    assert [record.counts_as_use for record in await plane.records(2)] == [True, True]


async def test_a_request_that_only_looks_does_not_wait_on_when_its_server_falls_asleep(plane):
    server = await plane.serve(answers(), status=Status.STARTING, pid=None)
    looking, asking = plane.asks(request("/props")), plane.asks(question())
    await plane.until_waiting(2)
    server.says(**ASLEEP)
    assert (await looking).status == 503
    server.says(status=Status.READY, wanted=True, pid=7)
    assert (await asking).status == 200


async def test_a_look_that_was_lost_while_its_server_fell_asleep_does_not_wait(plane):
    server = await plane.serve(hangs())
    looking = plane.asks(request("/props"))
    await server.until_called(1)
    server.says(**ASLEEP)
    await server.stop()
    assert (await looking).status == 503
    assert plane.outside.woken == []


async def test_a_server_that_is_being_put_to_sleep_but_still_answers_is_looked_at(plane):
    await plane.serve(answers(b"x"), wanted=False, wakes=True)
    assert (await plane.ask(request("/props"))).content == b"x"
    assert plane.outside.woken == []


async def test_another_server_of_its_model_is_looked_at_instead(plane):
    shared = {"models": ("m",), "offered": ("m",)}
    await plane.serve(dies(), name="asleep", **ASLEEP, **shared)
    await plane.serve(answers(b"x"), name="awake", **shared)
    assert (await plane.ask(request("/props?model=m"))).content == b"x"
