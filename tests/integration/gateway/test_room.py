"""Who takes a place at a server, who needs none, and who moves to where there is one."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.hold import Hold
from supervisor_app.gateway.servers.waiting import PATIENCE_SECONDS
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request, streaming
from tests.integration.gateway.scripts import answers, hangs, waits_for

SHARED = {"models": ("tiny",), "offered": ("tiny",), "capacity": 1}
TINY = {"model": "tiny", "input": "hi"}


async def two_servers(plane, busy, idle=None):
    """Of one model, with a slot each. The first one has a request inside that goes on."""
    first = await plane.serve(busy, name="first", **SHARED)
    asking = plane.asks(request(EMBEDDINGS, "Session: talk", body=TINY))
    await plane.until_inside(1, "first")
    second = await plane.serve(idle or answers(b"second"), name="second", **SHARED)
    return first, second, asking


@pytest.mark.parametrize(
    "asked",
    [
        request("/slots"),
        request("/props"),
        request("/", method="HEAD"),
        request("/tokenize", body={"content": "hi"}),
        request("/v1/messages/count_tokens", body={"messages": []}),
        request("/v1/chat/completions/input_tokens", body={"messages": []}),
        request("/tools", body={"tool": "exec_shell_command", "params": {"command": "sleep 5"}}),
        request("/llama/tools", body={}),
        request("/cors-proxy?url=http://example.com", body={}),
        request("/slots/0?action=save", body={}),
        request("/lora-adapters", body=[]),
        request("/models", body={"model": "one"}),
        request("/v1/stream?conv_id=1", method="DELETE"),
    ],
)
async def test_a_request_that_needs_no_slot_waits_for_none(plane, asked):
    server = await plane.serve(hangs(), answers(b"x"), capacity=1)
    asking = [plane.asks(streaming("long"))]
    await server.until_called()
    asking.append(plane.asks(question("waits")))
    await plane.until_waiting(1)
    assert (await plane.ask(asked, to_head=asked.startswith(b"HEAD"))).status == 200
    assert len(plane.gateway.backends["default"].gate.waiting) == 1
    for each in asking:
        each.cancel()


async def test_a_request_that_occupies_no_slot_keeps_nobody_from_one(plane):
    """Two tools that run for long, on a server of two slots."""
    server = await plane.serve(hangs(), hangs(), answers(b"x"), capacity=2)
    tools = [plane.asks(request("/tools", body={"tool": "sleep"})) for _ in range(2)]
    await server.until_called(2)
    assert (await plane.ask(question())).content == b"x"
    for each in tools:
        each.cancel()


async def test_a_request_that_needs_no_slot_waits_for_a_server_that_is_away(plane):
    server = await plane.serve(answers(b"x"), status=Status.CRASHED, capacity=1)
    asking = plane.asks(request("/tokenize", body={"content": "hi"}))
    await plane.until_waiting(1)
    server.says(status=Status.READY)
    assert (await asking).content == b"x"


async def test_a_server_is_in_use_while_it_answers_who_needs_no_slot(plane):
    server = await plane.serve(hangs())
    asking = plane.asks(request("/slots"))
    await server.until_called()
    gate = plane.gateway.backends["default"].gate
    assert (len(gate.inside), len(gate.in_flight)) == (0, 1)
    assert list(plane.gateway.load()) == [("default", "", 1, 0)]
    server.says(status=Status.STOPPING)
    await eventually(lambda: not gate.in_flight)
    assert len(gate.waiting) == 1
    asking.cancel()


async def test_a_conversation_goes_to_the_idle_server_when_its_own_is_full(plane):
    _, _, asking = await two_servers(plane, hangs())
    answer = await plane.ask(request(EMBEDDINGS, "Session: talk", body=TINY))
    assert answer.content == b"second"
    asking.cancel()


async def test_a_request_that_waits_at_a_full_server_moves_when_another_has_room(plane):
    goes_on = asyncio.Event()
    _, second, first_asking = await two_servers(plane, hangs(), waits_for(goes_on, answers(b"second")))
    second_asking = plane.asks(request(EMBEDDINGS, body=TINY))
    await plane.until_inside(1, "second")
    waiting = [plane.asks(request(EMBEDDINGS, body=TINY)) for _ in range(4)]
    gates = [backend.gate for backend in plane.gateway.backends.values()]
    await eventually(lambda: sum(len(gate.waiting) for gate in gates) == 4)
    assert all(gate.waiting for gate in gates)
    goes_on.set()
    assert [(await each).content for each in (second_asking, *waiting)] == [b"second"] * 5
    assert len(second.calls) == 5
    first_asking.cancel()


async def test_a_conversation_goes_where_there_is_room_and_not_into_a_queue(plane):
    """Also where nobody may wait."""
    first = await plane.serve(hangs(), name="first", **{**SHARED, "capacity": 2, "max_queue": 0})
    talk = request(EMBEDDINGS, "Session: talk", body=TINY)
    asking = [plane.asks(talk) for _ in range(2)]
    await first.until_called(2)
    second = await plane.serve(hangs(), answers(b"x"), name="second", **{**SHARED, "capacity": 2})
    asking.append(plane.asks(request(EMBEDDINGS, body={**TINY, "model": "second"})))
    await second.until_called()
    assert (await plane.ask(talk)).content == b"x"
    for each in asking:
        each.cancel()


async def test_room_that_nobody_tells_of_is_found_all_the_same(plane):
    """As another worker makes it."""
    _, second, first_asking = await two_servers(plane, hangs())
    gates = {name: backend.gate for name, backend in plane.gateway.backends.items()}
    gates["second"].is_open = False
    waiting = plane.asks(request(EMBEDDINGS, "Session: talk", body=TINY))
    await plane.until_waiting(1, "first")
    gates["second"].is_open = True
    assert (await waiting).content == b"second"
    assert len(second.calls) == 1
    first_asking.cancel()


async def test_a_suspect_at_the_head_of_a_queue_keeps_nobody_from_moving(plane):
    goes_on = asyncio.Event()
    _, _, first_asking = await two_servers(plane, hangs(), waits_for(goes_on, answers(b"second")))
    second_asking = plane.asks(request(EMBEDDINGS, body={**TINY, "model": "second"}))
    await plane.until_inside(1, "second")
    waiting = [plane.asks(request(EMBEDDINGS, body={**TINY, "model": "first"})) for _ in range(2)]
    await plane.until_waiting(2, "first")
    plane.gateway.backends["first"].gate.waiting[0].solo = True
    late = plane.asks(request(EMBEDDINGS, "Session: talk", body=TINY))
    await eventually(lambda: sum(len(each.gate.waiting) for each in plane.gateway.all) == 3)
    goes_on.set()
    assert [(await each).content for each in (second_asking, late)] == [b"second"] * 2
    for each in (first_asking, *waiting):
        each.cancel()


async def test_a_request_that_waits_for_another_model_stays(plane):
    await plane.serve(hangs(), name="first", capacity=1)
    asking = [plane.asks(request(EMBEDDINGS, body={"model": "first"})) for _ in range(2)]
    await plane.until_waiting(1, "first")
    await plane.serve(answers(b"x"), name="second", capacity=1)
    assert (await plane.ask(request(EMBEDDINGS, body={"model": "second"}))).content == b"x"
    assert len(plane.gateway.backends["first"].gate.waiting) == 1
    for each in asking:
        each.cancel()


@pytest.mark.parametrize("change", ["another server", "another name"])
async def test_a_waiting_request_stays_although_its_name_of_the_model_is_gone(plane, change):
    """It was let in; a server that serves it is still there."""
    goes_on = asyncio.Event()
    name = "gpt-4" if change == "another server" else "bee"
    server = await plane.serve(waits_for(goes_on, answers(b"x")), models=("bee",), capacity=1)
    asking = [plane.asks(request(EMBEDDINGS, body={"model": name})) for _ in range(3)]
    await plane.until_waiting(2)
    await plane.serve(answers(), name="other")
    if change == "another name":
        server.says(models=("cee",))
    await asyncio.sleep(0)
    goes_on.set()
    assert [(await each).content for each in asking] == [b"x"] * 3
    assert (await plane.ask(request(EMBEDDINGS, body={"model": name}))).status == 404


async def test_a_request_that_may_not_be_held_waits_quietly_for_its_turn(plane, monkeypatch):
    waits = []
    begin = Hold.begin

    def begins(hold, seconds, too_late):
        waits.append(seconds)
        begin(hold, seconds, too_late)

    monkeypatch.setattr(Hold, "begin", begins)
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, answers(b"x")), capacity=1, hold_seconds=0.0)
    asking = [plane.asks(question(f"{number}")) for number in range(2)]
    await eventually(lambda: len(waits) == 2)
    goes_on.set()
    assert [(await each).content for each in asking] == [b"x"] * 2
    assert waits == [0.0, PATIENCE_SECONDS]


async def test_long_names_of_conversations_are_not_kept(plane):
    servers = [await plane.serve(answers(), name=name, models=("tiny",)) for name in ("first", "second")]
    caller = await plane.connect()
    tracemalloc.start()
    try:
        for number in range(100):
            lines = f"Session: {number}{'x' * 60_000}"
            assert (await caller.ask(request(EMBEDDINGS, lines, body=TINY))).status == 200
            for server in servers:
                server.calls.clear()
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
