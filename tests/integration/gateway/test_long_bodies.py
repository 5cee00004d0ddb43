"""The choice among several servers for requests whose model is hard to find.

One names no model, one cannot be read, and one is too long to be kept and names its model at the end.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.plane import spool
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, LARGE, request, with_key
from tests.integration.gateway.scripts import LAST_CHUNK, answers, chunked, dies

KEY = "X-Api-Key: lp-a"
FORM = "Content-Type: multipart/form-data; boundary=bound"
LAST = b'{"input": "%b", "model": "b"}' % LARGE
PIECE = 50_000


def part(name, content, more=b""):
    return b'--bound\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, content)


@pytest.fixture
async def two(plane):
    """Servers `default` and `b`; little of a body is kept."""
    plane.limit(replay_bytes=1000)
    plane.default = await plane.serve(answers(b"default"), models=("default",))
    plane.b = await plane.serve(answers(b"b"), name="b", models=("b",))
    return plane


def in_chunks(body, *lines):
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    head = request(EMBEDDINGS, "Transfer-Encoding: chunked", *lines, method="POST")
    return head + b"".join(map(chunked, pieces)) + LAST_CHUNK


# --- Long ones -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask", [lambda body: request(EMBEDDINGS, body=body), in_chunks], ids=["sized", "chunked"]
)
async def test_a_body_that_names_its_model_last_is_read_to_its_end(two, ask):
    assert (await two.ask(ask(LAST))).content == b"b"
    assert two.b.contents == [LAST]
    assert not two.default.calls


async def test_a_body_goes_the_same_way_whether_kept_or_read_on(two):
    two.limit(replay_bytes=len(LAST))
    for more in range(-2, 3):
        body = LAST + b" " * (2 + more)
        assert (await two.ask(request(EMBEDDINGS, body=body))).content == b"b"
        assert two.b.contents[-1] == body


@pytest.mark.parametrize("size", [10, 20_000_000])
async def test_a_form_that_names_its_model_last_is_read_to_its_end(two, size):
    sound = part(b"file", os.urandom(size), b'; filename="a.wav"')
    body = sound + part(b"model", b"b") + b"--bound--\r\n"
    assert (await two.ask(request("/v1/audio/transcriptions", FORM, body=body))).content == b"b"
    assert two.b.contents == [body]


async def test_a_body_that_names_its_model_first_is_not_kept_on_disk(two, monkeypatch):
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", no_room)
    body = b'{"model": "b", "input": "%b"}' % LARGE
    assert (await two.ask(request(EMBEDDINGS, body=body))).content == b"b"


async def test_a_long_body_that_names_no_model_goes_to_the_default_server(two):
    body = b'{"input": "%b"}' % LARGE
    assert (await two.ask(request(EMBEDDINGS, body=body))).content == b"default"
    assert two.default.contents == [body]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"input": "%b"' % LARGE, "it ends too soon"),
        (b'{"input": "%b", nonsense}' % LARGE, "The body is not JSON"),
        (b"[1, %b]" % (b"1, " * 10_000 + b"1"), "must be a JSON object"),
    ],
)
async def test_a_long_body_that_cannot_be_read_goes_nowhere(two, body, says):
    answer = await two.ask(request(EMBEDDINGS, body=body))
    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert says in answer.error["message"]
    assert not two.default.calls + two.b.calls


async def test_a_body_on_disk_is_sent_again_after_a_crash_like_a_short_one(two):
    two.b.scripts = [dies(), answers(b"b")]
    asking = two.asks(in_chunks(LAST))
    await two.b.until_called()
    two.b.restarted()
    assert (await asking).content == b"b"
    assert two.b.contents[-1] == LAST


async def test_a_body_on_disk_waits_for_its_server(two):
    two.b.crashed()
    asking = two.asks(request(EMBEDDINGS, body=LAST))
    await two.until_waiting(1, "b")
    two.b.restarted()
    assert (await asking).content == b"b"
    assert two.b.contents == [LAST]


async def test_a_client_that_leaves_before_the_end_of_its_body_leaves_nothing_behind(two):
    before = nameless_files()
    caller = await two.connect()
    await caller.send(request(EMBEDDINGS, body=LAST)[:-5])
    await eventually(lambda: two.gateway.spooled_bytes > PIECE)
    await eventually(lambda: nameless_files() - before)
    caller.leave()
    await eventually(lambda: not two.gateway.exchanges)
    await eventually(lambda: not nameless_files() - before)


def nameless_files():
    """Of this process."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(fd))
    return {target for target in found if target.endswith("(deleted)")}


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("full", ["disk", "limit"])
async def test_a_body_for_which_there_is_no_room_is_refused_with_what_to_do(two, monkeypatch, caplog, full):
    if full == "disk":
        monkeypatch.setattr(spool.tempfile, "TemporaryFile", no_room)
    else:
        two.limit(all_spooled_bytes=len(LAST) // 2)
    caller = await two.connect()
    await caller.send(request(EMBEDDINGS, body=LAST))
    answer = await caller.answer()
    assert (answer.status, answer.error["code"], answer.fields["retry-after"]) == (
        503,
        "server_unavailable",
        "5",
    )
    assert "Put `model` before what is long" in answer.error["message"]
    assert ("A long body is refused" in caplog.text) is (full == "disk")
    assert not two.default.calls + two.b.calls
    two.limit(all_spooled_bytes=10**9)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("first", "last", "status"), [("tiny", "tiny", 200), ("tiny", "huge", 403), ("huge", "tiny", 200)]
)
async def test_a_long_body_to_a_router_asks_for_the_model_that_it_names_last(plane, first, last, status):
    plane.limit(replay_bytes=1000)
    with_key(plane, models=frozenset({"tiny"}))
    await plane.serve(answers(), models=("tiny", "huge"), offered=("tiny", "huge"), is_router=True)
    body = b'{"model": "%b", "input": "%b", "model": "%b"}' % (first.encode(), LARGE, last.encode())
    assert (await plane.ask(request(EMBEDDINGS, KEY, body=body))).status == status


# --- Short ones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}, b""])
async def test_a_client_that_names_no_model_is_answered_by_the_default_server(two, body):
    caller = await two.connect()
    for _ in range(2):
        assert (await caller.ask(request(EMBEDDINGS, body=body))).content == b"default"
    assert (await caller.ask(request("/props"))).content == b"default"
    assert not two.b.calls


async def test_without_a_default_server_who_names_no_model_is_told_to(plane):
    await plane.serve(answers(), name="a")
    await plane.serve(answers(), name="b")
    answer = await plane.ask(request(EMBEDDINGS, body={}))
    assert (answer.status, answer.error["message"]) == (404, "Name a model. There is: a, b.")


async def test_a_key_that_may_not_use_the_default_server_has_to_name_one_that_it_may(two):
    policy = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"), models=frozenset({"b"}))
    two.gateway.door.keys = KeyRing([policy])
    answer = await two.ask(request(EMBEDDINGS, KEY, body={}))
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert answer.error["message"] == "The API key 'chat' may not use 'default'. It may use: b."


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"messages": [{"role"', "The body is not JSON"),
        (b"model=b", "The body is not JSON"),
        (b"[]", "The body must be a JSON object."),
        (json.dumps({"model": 5}).encode(), "`model` must be text."),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_and_goes_to_nobody(two, body, says):
    caller = await two.connect()
    for _ in range(2):
        answer = await caller.ask(request(EMBEDDINGS, body=body))
        assert (answer.status, answer.error["code"]) == (400, "bad_request")
        assert answer.error["message"].startswith(says)
    form = part(b"model", b"b")
    answer = await caller.ask(request("/v1/audio/transcriptions", FORM, body=form[:-3]))
    assert (answer.status, answer.error["message"]) == (400, "The form ends before its last boundary.")
    assert not two.default.calls + two.b.calls


async def test_the_server_complains_of_a_body_when_the_query_names_the_model(two):
    assert (await two.ask(request(f"{EMBEDDINGS}?model=b", body=b"{"))).content == b"b"


async def test_a_single_server_complains_itself_of_a_broken_body(plane):
    server = await plane.serve(answers(b"?", 400))
    assert (await plane.ask(request(EMBEDDINGS, body=b"{"))).content == b"?"
    server.says(status=Status.READY)
