"""Events that come one by one, each a chunk of its own: they are passed on as they came, and known all the same."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import request, streaming
from tests.integration.gateway.scripts import (
    DONE,
    FINISH,
    LAST_CHUNK,
    chunked,
    event,
    sends,
    stream_of,
    waits_for,
)

KEY = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"))
LONG = "long enough not to be put together with another one"
USAGE = {"completion_tokens": 3, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
PING = b":\n\n"


def trickles(*chunks, ends=FINISH):
    """Each by itself."""

    async def script(call):
        await call.body()
        await call.send(stream_of())
        for chunk in chunks:
            await call.send(chunk)
            await asyncio.sleep(0.03)
        await call.send(ends)
        return False

    return script


def events(number):
    return [event(f"{LONG} {index}") for index in range(number)]


async def test_single_events_arrive_as_they_came(plane):
    sent = events(5)
    await plane.serve(trickles(*map(chunked, sent)))
    caller = await plane.connect()
    await caller.send(streaming())
    for each in sent:
        assert (await caller.read_until(chunked(each))).endswith(chunked(each))
    assert await caller.read_until(LAST_CHUNK) == FINISH


async def test_the_end_of_a_stream_may_come_by_itself(plane):
    await plane.serve(trickles(*map(chunked, events(2)), chunked(DONE), ends=LAST_CHUNK))
    answer = await plane.ask(streaming())
    assert (answer.content, answer.whole) == (b"".join(events(2)) + DONE, True)
    assert (await plane.records(1))[0].outcome is Outcome.OK


async def test_an_old_client_gets_them_without_chunks(plane):
    sent = events(3)
    await plane.serve(trickles(*map(chunked, sent)))
    body = {"messages": [], "stream": True}
    answer = await plane.ask(request("/v1/chat/completions", body=body, version="1.0"))
    assert answer.content == b"".join(sent) + DONE


async def test_tokens_generated_so_far_are_counted(plane):
    await plane.serve(trickles(*map(chunked, events(4)), ends=b""))
    answer = await plane.ask(streaming())
    assert answer.last_event["error"]["tokens_so_far"] == 3  # the first has the role only


async def test_single_events_show_that_the_server_works(plane):
    second = chunked(event(f"{LONG} again"))
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, sends(second), before=stream_of(event(LONG))))
    caller = await plane.connect()
    await caller.send(streaming())
    await caller.read_until(chunked(event(LONG)))
    plane.gateway.backends["default"].moved = False
    goes_on.set()
    await caller.read_until(second)
    assert plane.gateway.backends["default"].moved


async def test_the_cost_of_an_answer_is_found_although_much_comes_after_it(plane):
    usage = b"data: %b\n\n" % json.dumps({"usage": USAGE, "choices": []}).encode()
    await plane.serve(trickles(*map(chunked, [*events(2), usage, *[PING] * 8])))
    assert (await plane.ask(streaming())).whole
    (record,) = await plane.records(1)
    assert record.usage == Usage(5, 1, 3)


@pytest.mark.parametrize(
    "more", [b"", b" and it will not come back, for all that is known of it, before tomorrow"]
)
async def test_a_router_that_loses_its_model_is_not_passed_on(plane, more):
    lost = b"proxy error: the process of the model is gone" + more
    await plane.serve(trickles(*map(chunked, [*events(2), lost])))
    answer = await plane.ask(streaming())
    assert b"proxy error" not in answer.content.partition(b'"error"')[0]
    assert answer.last_event["error"]["code"] == "upstream_crashed"
    (record,) = await plane.records(1)
    assert record.outcome is Outcome.UPSTREAM_CRASHED


async def test_a_key_s_capture_has_them_all(plane):
    plane.gateway.door.keys = KeyRing([replace(KEY, capture=True)])
    sent = events(3)
    await plane.serve(trickles(*map(chunked, sent)))
    body = {"messages": [], "stream": True}
    await plane.ask(request("/v1/chat/completions", "Authorization: Bearer lp-a", body=body))
    (record,) = await plane.records(1)
    assert record.captured_answer == (b"".join(sent) + DONE).decode()


BROKEN = {
    "a chunk that is longer than it says": b"5\r\n" + event(LONG) + b"\r\n",
    "a chunk that is shorter than it says": b"fff\r\n" + event(LONG) + b"\r\n" + LAST_CHUNK,
    "a size that is none": b"zz\r\n" + event(LONG) + b"\r\n",
    "a size with a sign": b"+5\r\n" + event(LONG) + b"\r\n",
    "no end of a chunk": b"%x\r\n" % len(event(LONG)) + event(LONG) + b"xx",
}


@pytest.mark.parametrize("chunk", BROKEN.values(), ids=BROKEN)
async def test_bytes_that_are_no_chunk_are_not_passed_on_as_one(plane, chunk):
    await plane.serve(trickles(*map(chunked, events(2)), chunk, ends=b""))
    answer = await plane.ask(streaming())
    assert answer.is_broken
    assert (await plane.records(1))[0].outcome is Outcome.UPSTREAM_CRASHED


async def test_two_chunks_at_once_and_one_in_two_pieces_are_put_in_order(plane):
    one, two, three, four = (chunked(each) for each in events(4))
    await plane.serve(trickles(one, two + three, four[:20], four[20:]))
    answer = await plane.ask(streaming())
    assert answer.content == b"".join(events(4)) + DONE
    assert answer.whole


async def test_a_chunk_in_the_middle_of_another_one_is_its_content(plane):
    inner = chunked(event(LONG))
    outer = b"data: " + inner + b"\n\n"
    first, rest = chunked(outer).split(inner)
    await plane.serve(trickles(*map(chunked, events(2)), first, inner, rest))
    answer = await plane.ask(streaming())
    assert answer.content == b"".join(events(2)) + outer + DONE


async def test_a_chunk_that_follows_the_beginning_of_another_one_s_size_is_part_of_that(plane):
    chunk = chunked(event(LONG))
    await plane.serve(trickles(*map(chunked, events(2)), b"f", chunk, ends=b""))
    answer = await plane.ask(streaming())
    assert answer.content.startswith(b"".join(events(2)))
    assert event(LONG) + b"\r\n" in answer.content
    assert (await plane.records(1))[0].outcome is Outcome.UPSTREAM_CRASHED
