"""The slots that work in a server, and one token of it as a sign of life."""

from __future__ import annotations

import json

import pytest

from supervisor_app.core.machine import probe as probe_module
from supervisor_app.core.sightings import Canary, Slots
from tests.integration.core.answering import http, probe, proved, server, spec_for

__all__ = ["probe"]  # fixtures


# --- Slots ---------------------------------------------------------------------------------------------

BUSY = (
    b'[{"id":0,"is_processing":true,"id_task":7,"n_prompt_tokens_processed":5,"next_token":[{"n_decoded":3}]},'
    b'{"id":1,"is_processing":false},"?",'
    b'{"id":2,"is_processing":true,"id_task":8,"next_token":{"n_decoded":4}},'
    b'{"id":3,"is_processing":true,"next_token":[]}]'
)


async def test_working_slots_are_counted_and_marked(probe):
    with server(http("200 OK", BUSY)) as spec:
        slots = await probe.slots(spec, 2, may_wake=True)
    assert (slots.answered, slots.busy, slots.working, slots.total) == (True, True, 3, 5)
    assert slots.mark == ((0, 7, 5, 3), (2, 8, None, 4), (3, None, None, None))


@pytest.mark.parametrize(
    "answer", [http("200 OK", b"[]"), http("501 Not Implemented"), http("200 OK", b"{}")]
)
async def test_a_server_that_does_not_tell_its_slots_counts_as_idle(probe, answer):
    with server(answer) as spec:
        assert await probe.slots(spec, 2, may_wake=True) == Slots(
            answered=True, mark=() if b"[]" in answer else None
        )


async def test_slots_that_do_not_answer_are_told(probe):
    with server(b"") as spec:
        assert await probe.slots(spec, 2, may_wake=True) == Slots(answered=False)


@pytest.mark.parametrize(("asleep", "requests_made"), [(b"true", 1), (b"false", 2)])
async def test_a_sleeping_server_is_not_woken(probe, asleep, requests_made):
    made: list[bytes] = []
    with server(http("200 OK", b'{"is_sleeping":%s}' % asleep), requests=made) as spec:
        assert (await probe.slots(spec, 2, may_wake=False)).answered
    assert len(made) == requests_made
    assert b"/props" in made[0]


# --- One token -----------------------------------------------------------------------------------------

AWAKE = http("200 OK", b'{"is_sleeping":false}')


NO_EMBEDDINGS = http("501 Not Implemented")


async def test_a_token_is_asked_for_with_next_to_no_work(probe):
    made: list[bytes] = []
    with server(AWAKE, NO_EMBEDDINGS, http("200 OK", b'{"content":" the"}'), requests=made) as spec:
        assert await probe.canary(proved(spec_for(spec.port, api_key="hunter2")), 5.0) is Canary.FINE
    asked = made[-1]
    assert asked.startswith(b"POST /completion ")
    assert b"Bearer hunter2" in asked
    body = json.loads(asked.partition(b"\r\n\r\n")[2])
    assert (body["n_predict"], body["cache_prompt"]) == (1, False)


@pytest.mark.parametrize(
    ("answer", "canary"),
    [
        (http("500 Internal Server Error"), Canary.FINE),
        (http("503 Service Unavailable"), Canary.FINE),
        (http("401 Unauthorized"), Canary.UNSUPPORTED),
        (http("404 Not Found"), Canary.UNSUPPORTED),
        (http("501 Not Implemented"), Canary.UNSUPPORTED),
        # The door slammed: whether it lives is for others to find out.
        (b"", Canary.FINE),
        (None, Canary.SILENT),
    ],
)
async def test_the_answer_to_a_canary_decides_what_came_of_it(probe, answer, canary):
    with server(AWAKE, NO_EMBEDDINGS, answer) as spec:
        assert await probe.canary(spec, 0.5) is canary


@pytest.mark.parametrize(
    ("answers", "canary", "requests_made"),
    [
        ([http("200 OK", b'{"is_sleeping":true}')], Canary.FINE, 1),
        # A server that embeds may crash when it is asked for text.
        ([AWAKE, http("400 Bad Request")], Canary.UNSUPPORTED, 2),
        ([AWAKE, http("200 OK", b"[]")], Canary.UNSUPPORTED, 2),
        # A server that loads again.
        ([http("503 Service Unavailable")], Canary.FINE, 2),
    ],
)
async def test_a_server_that_sleeps_embeds_or_loads_is_asked_for_no_token(
    probe, answers, canary, requests_made
):
    made: list[bytes] = []
    with server(*answers, requests=made) as spec:
        assert await probe.canary(spec, 5.0) is canary
    assert len(made) == requests_made
    assert not any(b"/completion" in asked for asked in made)


async def test_a_mistake_in_asking_for_a_token_is_raised(probe, monkeypatch):
    def broken(spec, timeout):
        raise RuntimeError("bug")

    monkeypatch.setattr(probe_module, "send_canary", broken)
    with pytest.raises(RuntimeError, match="bug"):
        await probe.canary(spec_for(1), 1.0)
