"""What a request costs the key that it came with."""

from __future__ import annotations

import json

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import CHAT, request
from tests.integration.gateway.scripts import answers, event, hangs, sends, stream_of

KEY = "X-Api-Key: lp-a"
POLICY = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"), tokens_per_minute=1000)
USAGE = {"completion_tokens": 10, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def charged(plane, monkeypatch):
    """Tokens that the key paid, one entry for each request."""
    plane.gateway.door.keys = KeyRing([POLICY])
    tokens: list[int] = []
    monkeypatch.setattr(plane.gateway.limiter, "charge", lambda policy, count, now: tokens.append(count))
    return tokens


def asked(path, **body):
    return request(path, KEY, body=body)


@pytest.mark.parametrize(
    ("path", "body", "counted"),
    [
        (CHAT, {"messages": MESSAGES}, (5, 2, 10)),
        (CHAT, {"messages": MESSAGES, "n": 4}, (5, 2, 40)),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "n": 2}, (15, 6, 60)),
        ("/v1/messages", {"messages": MESSAGES, "n": 4}, (5, 2, 10)),
    ],
)
async def test_all_answers_of_a_request_are_recorded_and_paid(plane, charged, path, body, counted):
    await plane.serve(answers(json.dumps({"usage": USAGE}).encode()))
    assert (await plane.ask(asked(path, max_tokens=10, **body))).status == 200
    usage = (await plane.records(1))[0].usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.generated_tokens) == counted
    assert charged == [counted[0] + counted[2]]


async def test_the_tokens_that_came_of_several_broken_answers_are_paid(plane, charged):
    token = b'data: {"content":"a","stop":false,"tokens_predicted":%d,"tokens_evaluated":5}\n\n'
    await plane.serve(sends(stream_of(token % 1, token % 1, token % 2)))
    await plane.ask(asked("/completion", prompt=["a"] * 20, stream=True))
    usage = (await plane.records(1))[0].usage
    assert (usage.prompt_tokens, usage.generated_tokens) == (100, 3)
    assert charged == [103]


async def test_tokens_that_came_are_paid_although_nothing_was_told(plane, charged):
    await plane.serve(sends(stream_of(event("a"), event("b"), event("c"))))
    await plane.ask(asked(CHAT, messages=MESSAGES, n=2, stream=True))
    assert (await plane.records(1))[0].usage.generated_tokens is None
    assert charged == [2]


A_PICTURE = "iVBORw0KGgo/" * 4000
PICTURES = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{A_PICTURE}"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": A_PICTURE}},
    {"type": "input_audio", "input_audio": {"data": A_PICTURE, "format": "wav"}},
]


async def leaves(plane, data, *, after):
    """Its only record, once the client of it has left."""
    caller = await plane.connect()
    await caller.send(data)
    await caller.read_until(after)
    caller.leave()
    return (await plane.records(1))[0]


async def test_a_client_that_leaves_before_the_prompt_is_counted_pays_for_its_length(plane, charged):
    await plane.serve(hangs(stream_of(event("a"), event("b"))))
    data = asked(CHAT, messages=[{"role": "user", "content": "word " * 8000}], stream=True)
    record = await leaves(plane, data, after=event("b"))
    assert (record.outcome, record.usage.prompt_tokens) == (Outcome.CLIENT_LEFT, None)
    assert charged == [len(data.partition(b"\r\n\r\n")[2]) // 4 + 1]


async def leaves_unanswered(plane, data):
    """The client, once its request is at the server."""
    server = await plane.serve(hangs())
    caller = await plane.connect()
    await caller.send(data)
    await server.until_called()
    caller.leave()
    await plane.records(1)


async def test_a_client_that_leaves_before_any_answer_pays_for_its_question(plane, charged):
    await leaves_unanswered(plane, asked("/v1/embeddings", input="word " * 80))
    assert charged[0] >= 100


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["type"])
async def test_a_picture_is_no_text(plane, charged, picture):
    await plane.serve(hangs(stream_of(event("a"))))
    await leaves(
        plane,
        asked(CHAT, messages=[{"role": "user", "content": [picture]}], stream=True),
        after=event("a"),
    )
    assert 0 < charged[0] < 100


async def test_a_recording_is_no_text(plane, charged):
    form, body = "Content-Type: multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 4000
    await leaves_unanswered(plane, request("/v1/audio/transcriptions", KEY, form, body=body))
    assert charged == [0]


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("text", ["你好" * 2000, "<p>a</p> " * 1000], ids=["no spaces", "spaces"])
async def test_a_long_text_need_not_be_a_picture(plane, charged, text, escaped):
    body = json.dumps({"model": "default", "messages": [{"content": text}]}, ensure_ascii=escaped).encode()
    await leaves_unanswered(plane, request("/v1/embeddings", KEY, body=body))
    assert charged[0] > 2000


async def test_a_client_that_leaves_a_request_without_tokens_pays_nothing(plane, charged):
    await leaves_unanswered(plane, asked("/tokenize", content="word " * 8000))
    assert charged == [0]


async def test_a_client_that_leaves_after_the_prompt_was_counted_pays_that_count(plane, charged):
    start = b'event: message_start\ndata: {"message":{"usage":{"input_tokens":7,"output_tokens":0}}}\n\n'
    await plane.serve(hangs(stream_of(start)))
    record = await leaves(plane, asked("/v1/messages", messages=MESSAGES * 50, stream=True), after=start)
    assert (record.usage.prompt_tokens, charged) == (7, [7])


async def test_a_client_that_leaves_the_queue_pays_nothing(plane, charged):
    await plane.serve(answers(), status=Status.STARTING)
    caller = await plane.connect()
    await caller.send(asked(CHAT, messages=MESSAGES * 50))
    await plane.until_waiting(1)
    caller.leave()
    await plane.records(1)
    assert charged == [0]


async def test_nobody_pays_for_what_a_dead_server_has_not_told(plane, charged):
    await plane.serve(sends(stream_of(event("a"), event("b"))))
    await plane.ask(asked(CHAT, messages=MESSAGES * 50, stream=True))
    assert (await plane.records(1))[0].outcome == Outcome.UPSTREAM_CRASHED
    assert charged == [1]
