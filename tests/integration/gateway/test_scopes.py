"""What a key may do beside asking a model: only what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.gateway.access.keys import KeyRing
from supervisor_app.gateway.llama.operations import Family, Scope
from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.fast import BEARER, KEY, warm
from tests.integration.gateway.plane import CHAT, request
from tests.integration.gateway.scripts import answers, hangs, stream_of
from tests.unit.gateway.test_operations import CHANGES, COMPUTES, COUNTS, READS

SPELT = [
    ("POST", "/tool%73"),
    ("POST", "/slots%2F0?action=erase"),
    ("POST", "/slots/0/?action=erase"),
    ("GET", "/slots?action=erase&id_slot=0"),
    ("GET", "/slots?%61ction=erase"),
    ("POST", "/behind/a/proxy/tools"),
    ("POST", "/tools/"),
    ("POST", "/TOOLS"),
    ("POST", "//tools"),
    ("POST", "/v1/nobody/knows/this"),
    ("PUT", CHAT),
    ("DELETE", CHAT),
]
FOR_EVERY_KEY = [
    *[("POST", path) for path in [*COMPUTES, *COUNTS]],
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/v1/models/default"),
    ("GET", "/health"),
    ("GET", "/v1/stream?conv_id=1"),
    ("DELETE", "/v1/stream?conv_id=1"),
    ("GET", "/"),
]
SCOPES = {
    "inference": frozenset({Scope.INFERENCE}),
    "read": frozenset({Scope.INFERENCE, Scope.READ}),
    "change": frozenset(Scope),
}


async def status_of(plane, method, path):
    body = {} if method in ("POST", "PUT") else None
    data = request(path, BEARER, method=method, body=body)
    return (await plane.ask(data, to_head=method == "HEAD")).status


@pytest.mark.parametrize(("method", "path"), [*CHANGES, *SPELT])
@pytest.mark.parametrize("scopes", ["inference", "read", "change"])
async def test_a_server_is_changed_by_keys_that_may(plane, only, scopes, method, path):
    only(scopes=SCOPES[scopes])
    server = await plane.serve(answers())
    may = scopes == "change"
    assert await status_of(plane, method, path) == (200 if may else 403)
    assert len(server.calls) == may


@pytest.mark.parametrize(("method", "path"), [*READS, ("GET", "/nobody/knows/this"), ("HEAD", "/prop%73")])
@pytest.mark.parametrize("scopes", ["inference", "read", "change"])
async def test_a_server_is_looked_at_by_keys_that_may(plane, only, scopes, method, path):
    only(scopes=SCOPES[scopes])
    plane.gateway.public_metrics = False
    await plane.serve(answers())
    assert await status_of(plane, method, path) == (403 if scopes == "inference" else 200)


@pytest.mark.parametrize(("method", "path"), FOR_EVERY_KEY)
async def test_every_key_may_ask_a_model(plane, only, method, path):
    only()
    await plane.serve(answers())
    assert await status_of(plane, method, path) == 200


async def test_a_key_without_the_scope_is_told_what_is_missing_and_recorded(plane, only):
    only()
    await plane.serve(answers())
    answer = await plane.ask(request("/tools", BEARER, body={}))
    assert (answer.status, answer.error["code"]) == (403, "scope_not_allowed")
    assert "POST /tools" in answer.error["message"]
    assert "may change" in answer.error["message"]
    (record,) = await plane.records(1)
    assert (record.key, record.outcome, record.server) == (KEY.id, Outcome.REFUSED, "")


async def test_a_request_without_the_scope_is_refused_before_its_body_comes(plane, only):
    only()
    await plane.serve(answers())
    caller = await plane.connect()
    await caller.send(request("/tools", BEARER, "Content-Length: 1000", method="POST"))
    assert (await caller.answer()).status == 403


async def test_without_any_key_the_programs_of_this_machine_may_all(plane):
    server = await plane.serve(answers())
    assert (await plane.ask(request("/tools", body={}))).status == 200
    assert len(server.calls) == 1


async def test_a_right_that_is_taken_away_is_gone_with_the_next_request(plane, only):
    only(scopes=SCOPES["change"])
    _, caller = await warm(plane, answers(), answers(), lines=(BEARER,), path="/tools")
    only()
    assert (await caller.ask(request("/tools", BEARER, body={}))).status == 403


async def test_a_right_that_is_taken_away_ends_what_was_begun_with_it(plane, only):
    policy = only(scopes=SCOPES["read"])
    server = await plane.serve(hangs(stream_of()))
    caller = await plane.connect()
    await caller.send(request("/models/sse", BEARER))
    assert (await caller.head()).status == 200
    plane.gateway.learn_keys(KeyRing([replace(policy, scopes=SCOPES["inference"])]))
    assert b"scope_not_allowed" in await caller.rest()
    await server.calls[0].until_left()


async def test_a_key_for_some_endpoints_is_told_which_and_is_fast_for_those(plane, only):
    only(families=frozenset({Family.EMBEDDINGS}))
    server = await plane.serve(answers())
    answer = await plane.ask(request("/v1/chat/completions", BEARER, body={}))
    assert (answer.status, answer.error["code"]) == (403, "endpoint_not_allowed")
    assert "POST /v1/chat/completions. It is limited to: embeddings." in answer.error["message"]
    assert await status_of(plane, "GET", "/v1/models") == 403
    assert not server.calls
    for _ in range(2):  # the second one finds a connection kept, and takes the fast path
        assert await status_of(plane, "POST", "/v1/embeddings") == 200
    assert len(server.calls) == 2
