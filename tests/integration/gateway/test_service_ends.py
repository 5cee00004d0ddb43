"""A gateway at its end: what was begun is finished, nothing is broken off in silence."""

from __future__ import annotations

import asyncio
import logging

import pytest

from supervisor_app.common.database import Unchanged
from supervisor_app.gateway.edge import link, service, slots
from supervisor_app.gateway.edge.service import listening_socket
from supervisor_app.traffic.models import RequestRecord
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import question, streaming
from tests.integration.gateway.scripts import event, hangs, stream_of, streams, waits_for
from tests.integration.gateway.serving import HEALTH, in_database, make_service, served, upstream

pytestmark = pytest.mark.usefixtures("process_as_before")


@pytest.fixture(autouse=True)
def _slots_are_known(monkeypatch):
    """Let slots be known, so that a script is asked for nothing else."""
    monkeypatch.setattr(slots.SlotCounts, "look", lambda self, backend: None)


def said(caplog):
    """Return what the service said, and none of what else has come to an end meanwhile."""
    return [record.getMessage() for record in caplog.records if record.name == service.__name__]


@in_database
async def test_a_stream_in_flight_is_finished_and_nobody_new_is_let_in(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    finish = asyncio.Event()
    script = waits_for(finish, streams(event("a"), event("b")))
    async with upstream(script) as server, served(grace=600) as gateway:
        idle = await gateway.connect()
        await idle.ask(HEALTH)
        caller = await gateway.begins(server, streaming())
        stopping = asyncio.create_task(gateway.service.stop())
        assert await idle.is_cut_off()
        assert gateway.refuses
        assert not stopping.done()
        finish.set()
        answer = await caller.answer()
        assert answer.content == event("a") + event("b") + b"data: [DONE]\n\n"
        assert answer.whole
        await asyncio.wait_for(stopping, DEADLINE)
        assert said(caplog) == ["👋 [GATEWAY] Finishing 1 request, for up to 10 m"]


@in_database
async def test_a_request_that_takes_longer_than_the_grace_is_ended_honestly_and_recorded(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    async with (
        upstream(hangs(stream_of(event("a"))), hangs()) as server,
        served(grace=0.05) as gateway,
    ):
        stream = await gateway.begins(server, streaming())
        await stream.head()
        waiting = await gateway.begins(server, question())
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert b'"code":"gateway_stopping"' in await stream.rest()
        answer = await waiting.answer()
        assert (answer.status, answer.error["code"]) == (503, "gateway_stopping")
        assert answer.fields["retry-after"] == "1"
        await eventually(lambda: all(call.left for call in server.calls))
    assert said(caplog) == ["👋 [GATEWAY] Finishing 2 requests, for up to 0.05 s"]
    assert await RequestRecord.objects.acount() == 2


@in_database
async def test_a_second_request_to_end_waits_for_nobody():
    async with upstream(hangs(stream_of(event("a")))) as server, served(grace=600) as gateway:
        stream = await gateway.begins(server, streaming())
        await stream.head()
        stopping = asyncio.create_task(gateway.service.stop())
        await eventually(lambda: gateway.refuses)
        gateway.service.force()
        await asyncio.wait_for(stopping, DEADLINE)
        assert b'"code":"gateway_stopping"' in await stream.rest()


@in_database
async def test_a_service_forced_from_the_beginning_waits_for_nobody_either():
    async with upstream(hangs()) as server, served(grace=600) as gateway:
        waiting = await gateway.begins(server, question())
        gateway.service.force()
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert (await waiting.answer()).status == 503


@in_database
async def test_a_service_with_nothing_in_flight_ends_at_once_without_a_word(caplog):
    caplog.set_level(logging.INFO, service.__name__)
    async with served(grace=600) as gateway:
        await asyncio.wait_for(gateway.service.stop(), DEADLINE)
        assert gateway.refuses
    assert said(caplog) == []


@in_database
async def test_a_bug_in_a_service_is_raised_and_closes_its_address(monkeypatch):
    def broken(*known):
        raise RuntimeError("a bug")

    monkeypatch.setattr(link, "REFRESH_SECONDS", 0.01)
    bound, said = listening_socket("127.0.0.1", 0), []
    task = asyncio.create_task(make_service(bound, on_listening=said.append).serve())
    await eventually(lambda: said)
    monkeypatch.setattr(Unchanged, "__call__", broken)  # each look at the database
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(task, DEADLINE)
    assert raised.group_contains(RuntimeError, match="a bug")
    assert bound.fileno() == -1
