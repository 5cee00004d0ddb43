"""Requests in flight: what people see of them at each step, and their end when somebody cancels them."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.plane.sight import sight_of
from supervisor_app.gateway.records.in_flight import Phase
from supervisor_app.gateway.records.record import Outcome
from tests.integration.building import eventually
from tests.integration.gateway.plane import CHAT, question, request, streaming
from tests.integration.gateway.scripts import FINISH, answers, event, sends, stream_of, waits_for

HEAD_ALONE = stream_of()


@pytest.fixture
def never():
    """An event that does not come: the server computes for ever."""
    return asyncio.Event()


def only(plane):
    """The one request in flight, as people see it."""
    sight = plane.gateway.sight()
    assert (sight.total, len(sight.requests)) == (1, 1)
    return sight.requests[0]


async def until(plane, phase):
    await eventually(lambda: plane.gateway.exchanges and only(plane).phase is phase)
    return only(plane)


async def begin(plane, data):
    """Send a request whose answer nobody waits for."""
    await (await plane.connect()).send(data)


def cancel_all(plane):
    plane.gateway.cancel({each.id for each in plane.gateway.sight().requests})


# --- What is seen --------------------------------------------------------------------------------------


async def test_a_gateway_without_requests_shows_nothing(plane):
    await plane.serve()
    sight = plane.gateway.sight()
    assert (sight.counts, sight.requests, sight.total) == ({}, [], 0)


async def test_a_stream_is_seen_with_its_tokens(plane, never):
    await plane.serve(waits_for(never, answers(), before=stream_of(*(event(text) for text in "abcd"))))
    await begin(plane, streaming())
    seen = await until(plane, Phase.GENERATING)
    await eventually(lambda: only(plane).tokens == 3)  # the first event of a chat has the role
    assert (seen.server, seen.model, seen.key, seen.route) == ("default", "default", "", CHAT)
    assert seen.id.startswith("req_")
    count = plane.gateway.sight().counts["default"]
    assert (count.inside, count.waiting) == (1, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_client_is_seen_by_its_address_and_its_program(plane, never, stream):
    await plane.serve(waits_for(never, answers()))
    await begin(plane, request(CHAT, "User-Agent: curl/8.5.0", body={"messages": [], "stream": stream}))
    await eventually(lambda: plane.gateway.exchanges)
    assert only(plane).client == "this host curl/8.5.0"


async def test_a_prompt_that_is_read_is_seen_as_prefill(plane, never):
    await plane.serve(waits_for(never, answers(), before=HEAD_ALONE))
    await begin(plane, streaming())
    assert (await until(plane, Phase.PREFILL)).tokens is None


async def test_an_answer_that_comes_whole_does_not_tell_how_far_it_is(plane, never):
    await plane.serve(waits_for(never, answers()))
    await begin(plane, question())
    assert (await until(plane, Phase.SENT)).tokens is None


async def test_a_request_on_the_fast_path_is_seen(plane, never):
    await plane.serve(answers(), waits_for(never, answers()))
    caller = await plane.connect()
    await caller.ask(question())
    await caller.send(question())
    seen = await until(plane, Phase.SENT)
    assert (seen.server, seen.model) == ("default", "default")
    cancel_all(plane)
    assert (await caller.answer()).error["code"] == "cancelled_by_staff"


@pytest.mark.parametrize(
    ("status", "phase"), [(Status.STARTING, Phase.LOADING), (Status.CRASHED, Phase.HELD)]
)
async def test_a_request_that_waits_tells_for_what(status, phase, plane):
    await plane.serve(status=status, pid=None)
    await begin(plane, streaming())
    await plane.until_waiting(1)
    assert only(plane).phase is phase
    count = plane.gateway.sight().counts["default"]
    assert (count.inside, count.waiting) == (0, 1)


async def test_a_request_behind_others_is_queued(plane, never):
    await plane.serve(waits_for(never, answers()), capacity=1)
    await begin(plane, question())
    await plane.until_inside(1)
    await begin(plane, question("next"))
    await plane.until_waiting(1)
    assert [each.phase for each in plane.gateway.sight().requests] == [Phase.SENT, Phase.QUEUED]


async def test_the_oldest_are_listed_and_all_are_counted(plane):
    await plane.serve(status=Status.STARTING, pid=None)
    for number in range(3):
        await begin(plane, question(str(number)))
        await plane.until_waiting(number + 1)
    sight = sight_of(plane.gateway.exchanges, plane.gateway.all, 2)
    assert (sight.total, len(sight.requests)) == (3, 2)
    assert sight.requests[0].at <= sight.requests[1].at


async def test_a_key_is_seen_by_its_name(plane):
    plane.gateway.learn_keys(KeyRing([KeyPolicy(id=7, name="laptop", digest=digest_of("lp-laptop"))]))
    await plane.serve(status=Status.STARTING, pid=None)
    body = {"model": "default", "messages": [], "stream": True}
    await begin(plane, request(CHAT, "Authorization: Bearer lp-laptop", body=body))
    await plane.until_waiting(1)
    assert only(plane).key == "laptop"


# --- Cancelled -----------------------------------------------------------------------------------------


async def test_a_cancelled_stream_ends_in_an_error_event_and_its_server_stops(plane, never):
    calls = []

    async def script(call):
        calls.append(call)
        return await waits_for(never, answers(), before=stream_of(*(event(text) for text in "abc")))(call)

    await plane.serve(script)
    asking = plane.asks(streaming())
    await until(plane, Phase.GENERATING)
    await eventually(lambda: only(plane).tokens == 2)
    cancel_all(plane)
    answer = await asking
    assert answer.is_broken
    error = answer.last_event["error"]
    assert (error["code"], error["retryable"]) == ("cancelled_by_staff", False)
    await calls[0].until_left()
    (record,) = await plane.records(1)
    assert (record.outcome, record.failed, record.usage.generated_tokens) == (Outcome.CANCELLED, False, None)


async def test_a_cancelled_request_that_waits_for_its_answer_is_refused(plane, never):
    await plane.serve(waits_for(never, answers()))
    asking = plane.asks(question())
    await until(plane, Phase.SENT)
    cancel_all(plane)
    answer = await asking
    assert (answer.status, answer.error["code"]) == (403, "cancelled_by_staff")
    assert answer.fields["x-should-retry"] == "false"
    (record,) = await plane.records(1)
    assert (record.outcome, record.status, record.failed) == (Outcome.CANCELLED, 403, False)


async def test_a_cancelled_request_leaves_the_queue_and_the_next_one_has_its_turn(plane):
    server = await plane.serve(answers(), status=Status.STARTING, pid=None)
    asking = plane.asks(question("first"))
    await plane.until_waiting(1)
    cancel_all(plane)
    assert (await asking).error["code"] == "cancelled_by_staff"
    other = plane.asks(question("second"))
    await plane.until_waiting(1)
    server.says(status=Status.READY, pid=1002)
    assert (await other).status == 200
    assert server.texts == ["second"]


async def test_other_requests_go_on(plane):
    goes_on = asyncio.Event()
    script = waits_for(goes_on, sends(FINISH), before=stream_of(event("a"), event("b")))
    await plane.serve(script, script)
    asking = [plane.asks(streaming("one")), plane.asks(streaming("two"))]
    await eventually(lambda: [each.tokens for each in plane.gateway.sight().requests] == [1, 1])
    first, second = plane.gateway.sight().requests
    plane.gateway.cancel({first.id, "req_of_another_gateway_1"})
    done, pending = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert done.pop().result().is_broken
    assert [each.id for each in plane.gateway.sight().requests] == [second.id]
    goes_on.set()
    assert (await pending.pop()).content.endswith(b"data: [DONE]\n\n")
