"""A key that is switched off, expires or is deleted ends what came with it, also in the middle."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.records.record import Outcome
from tests.integration.gateway.plane import CHAT, question, request
from tests.integration.gateway.scripts import FINISH, answers, event, sends, stream_of, waits_for

KEY = KeyPolicy(id=7, name="laptop", digest=digest_of("lp-laptop"))
OTHER = KeyPolicy(id=8, name="other", digest=digest_of("lp-other"))
BEARER, OTHER_BEARER = "Authorization: Bearer lp-laptop", "Authorization: Bearer lp-other"


@pytest.fixture
def keys(plane):
    plane.gateway.learn_keys(KeyRing([KEY, OTHER]))
    return plane.gateway.learn_keys


def streaming(bearer):
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return request(CHAT, bearer, body=body)


WITHDRAWN = {
    "switched off": [replace(KEY, enabled=False), OTHER],
    "expired": [replace(KEY, expires_at=1.0), OTHER],
    "deleted": [OTHER],
}


@pytest.mark.parametrize("left", WITHDRAWN.values(), ids=WITHDRAWN)
async def test_a_stream_ends_with_the_reason_and_nobody_else_s(left, keys, plane):
    goes_on = asyncio.Event()
    begins = stream_of(event("a"))
    script = waits_for(goes_on, sends(FINISH), before=begins)
    await plane.serve(script, script)
    streams = [asyncio.create_task(plane.ask(streaming(bearer))) for bearer in (BEARER, OTHER_BEARER)]
    while len(await plane.until_begun()) < 2:
        await asyncio.sleep(0)
    keys(KeyRing(left))
    ended = await streams[0]
    assert ended.whole
    assert "laptop" in ended.last_event["error"]["message"]
    assert not streams[1].done()
    goes_on.set()
    assert (await streams[1]).content.endswith(b"data: [DONE]\n\n")
    records = {record.key: record for record in await plane.records(2)}
    assert records[7].outcome == Outcome.REFUSED
    assert records[8].outcome == Outcome.OK


async def test_a_request_that_waits_for_its_answer_is_refused(keys, plane):
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, answers()))
    content = question("hi")
    asking = asyncio.create_task(plane.ask(content.replace(b"\r\n", f"\r\n{BEARER}\r\n".encode(), 1)))
    await plane.until_inside(1)
    keys(KeyRing([OTHER]))
    answer = await asking
    assert answer.status == 401
    assert "was deleted" in answer.error["message"]


async def test_a_key_that_stays_as_it_is_ends_nothing(keys, plane):
    goes_on = asyncio.Event()
    await plane.serve(waits_for(goes_on, sends(FINISH), before=stream_of(event("a"))))
    asking = asyncio.create_task(plane.ask(streaming(BEARER)))
    await plane.until_begun()
    keys(KeyRing([KEY, OTHER]))
    goes_on.set()
    assert (await asking).whole


async def test_no_cookie_of_a_server_reaches_a_browser(plane):
    """Cookies know no ports: one of a server would be one of the pages, too."""
    await plane.serve(
        answers(b"{}", 200, "Set-Cookie: sessionid=stolen", "Clear-Site-Data: *", "X-Kept: yes")
    )
    answer = await plane.ask(question("hi"))
    assert answer.fields.get("x-kept") == "yes"
    assert not {"set-cookie", "clear-site-data"} & answer.fields.keys()
