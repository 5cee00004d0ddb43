"""What a request costs the key that it came with."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.keys import KeyPolicy, KeyRing, digest_of
from tests.integration.gateway.plane import CHAT, request
from tests.integration.gateway.scripts import answers, event, sends, stream_of

KEY = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"), tokens_per_minute=1000)
USAGE = {"completion_tokens": 10, "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def charged(plane, monkeypatch):
    """Tokens that the key paid, one entry for each request."""
    plane.gateway.door.keys = KeyRing([KEY])
    tokens: list[int] = []
    monkeypatch.setattr(plane.gateway.limiter, "charge", lambda policy, count, now: tokens.append(count))
    return tokens


def asked(path, **body):
    return request(path, "X-Api-Key: lp-a", body=body)


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


async def test_of_several_answers_that_broke_those_tokens_are_paid_that_came(plane, charged):
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
