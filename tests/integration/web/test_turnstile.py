"""What passes to Django, whichever server runs the ASGI application."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.exceptions import RequestAborted

from llamaproxy.asgi import application
from supervisor_app.web.limits import WebLimits
from supervisor_app.web.turnstile import Turnstile
from tests.deadline import DEADLINE

HOST = [(b"host", b"localhost")]


def scope(*headers, path="/livez", method="POST"):
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*HOST, *headers],
    }


async def answer(asked, *bodies, app=application):
    client = ApplicationCommunicator(app, asked)
    for number, body in enumerate(bodies, 1):
        await client.send_input({"type": "http.request", "body": body, "more_body": number < len(bodies)})
    start = await client.receive_output(5)
    content = await client.receive_output(5)
    await client.wait(5)
    return start["status"], content["body"]


async def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes():
    status, content = await answer(scope((b"content-length", b"1500000000")))
    assert status == 413
    assert b"at most 262144 bytes" in content


@pytest.mark.parametrize("length", [b"9" * 30, b"9" * 5000])
async def test_a_length_that_nobody_can_read_is_too_large(length):
    assert (await answer(scope((b"content-length", length))))[0] == 413


async def test_a_body_that_turns_out_to_be_too_large_is_refused():
    assert (await answer(scope(), *[b"x" * 65536] * 5))[0] == 413


@pytest.mark.parametrize(
    ("limits", "code"), [(WebLimits(body_bytes=2), "too_large"), (WebLimits(waiting=0), "busy")]
)
async def test_a_program_is_refused_in_json(limits, code):
    asked = scope((b"content-length", b"3"), path="/api/servers/default/start")
    error = json.loads((await answer(asked, app=Turnstile(waits, limits)))[1])["error"]
    assert (error["code"], error.keys()) == (code, {"code", "message", "hint"})


async def test_a_usual_body_passes():
    assert (await answer(scope((b"content-length", b"3")), b"a=1"))[0] == 403  # of a form without its token
    assert await answer(scope(method="GET"), b"") == (200, b"ok\n")


async def waits(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def test_a_few_are_worked_on_at_once_some_wait_and_the_others_are_told_to_come_back():
    turnstile = Turnstile(waits, WebLimits(at_once=2, waiting=1))
    inside = [ApplicationCommunicator(turnstile, scope(path="/")) for _ in range(3)]
    for client in inside:
        assert await client.receive_nothing()
    assert (await answer(scope(path="/"), app=turnstile))[0] == 503
    for client in inside:
        await client.send_input({"type": "http.request"})
    for client in inside:
        assert (await client.receive_output(5))["status"] == 200
        await client.receive_output(5)
        await client.wait(5)
    assert (await answer(scope(), b"", app=turnstile))[0] == 200


async def test_a_probe_does_not_wait_for_pages():
    turnstile = Turnstile(waits, WebLimits(at_once=1, waiting=1))
    pages = [ApplicationCommunicator(turnstile, scope(path="/")) for _ in range(2)]
    for page in pages:
        assert await page.receive_nothing()
    assert (await answer(scope(path="/"), app=turnstile))[0] == 503
    assert (await answer(scope(path="/livez"), b"", app=turnstile))[0] == 200
    for page in pages:
        page.future.cancel()
    await asyncio.gather(*(page.future for page in pages), return_exceptions=True)


async def test_a_client_that_leaves_while_it_waits_gives_its_place_up():
    turnstile = Turnstile(waits, WebLimits(at_once=1, waiting=1))
    first, second = (ApplicationCommunicator(turnstile, scope(path="/")) for _ in range(2))
    assert await first.receive_nothing()
    assert await second.receive_nothing()
    second.future.cancel()
    await asyncio.gather(second.future, return_exceptions=True)
    await first.send_input({"type": "http.request"})
    assert (await first.receive_output(5))["status"] == 200
    await first.receive_output(5)
    await first.wait(5)
    assert (await answer(scope(), b"", app=turnstile))[0] == 200


@pytest.mark.parametrize("begun", [False, True])
async def test_without_a_thread_for_a_page_there_is_no_traceback(begun, caplog):
    async def breathless(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all of it"})
        raise RuntimeError("can't start new thread")

    status, content = await answer(scope(path="/"), b"", app=Turnstile(breathless))
    assert (status, b"all of it" in content) == ((200, True) if begun else (503, False))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Traceback" not in caplog.text


async def test_a_mistake_in_a_page_is_no_shortage():
    async def broken(scope, receive, send):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await answer(scope(path="/"), b"", app=Turnstile(broken))


# --- Threads and garbage -------------------------------------------------------------------------------


def in_a_thread(done):
    """Make an application that notes in which thread its work is done."""

    async def works(scope, receive, send):
        async with ThreadSensitiveContext():  # as Django does it
            await sync_to_async(lambda: done.append(threading.current_thread()))()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return works


async def test_requests_are_worked_on_one_after_another_in_the_same_thread():
    threads = []
    turnstile = Turnstile(in_a_thread(threads))
    for _ in range(5):
        await answer(scope(path="/"), b"", app=turnstile)
    assert len(set(threads)) == 1


async def test_requests_at_the_same_time_have_a_thread_each():
    together = threading.Barrier(2, timeout=DEADLINE)

    async def meets(scope, receive, send):
        await sync_to_async(together.wait)()
        await waits(scope, receive, send)

    turnstile = Turnstile(meets)
    both = await asyncio.gather(*(answer(scope(path="/"), b"", app=turnstile) for _ in range(2)))
    assert both == [(200, b"done")] * 2


async def test_work_that_was_refused_for_want_of_a_thread_is_not_done_later(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    threads = []
    turnstile = Turnstile(in_a_thread(threads))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert (await answer(scope(path="/"), b"", app=turnstile))[0] == 503
    assert (await answer(scope(path="/"), b"", app=turnstile))[0] == 200
    assert len(threads) == 1


async def test_an_answered_request_leaves_no_exception_for_the_garbage_collection():
    def aborted():
        return [one for one in gc.get_objects() if isinstance(one, RequestAborted)]

    gc.collect()
    gc.disable()
    try:
        client = ApplicationCommunicator(application, scope(method="GET"))
        await client.send_input({"type": "http.request"})
        assert (await client.receive_output(5))["status"] == 200
        await client.receive_output(5)
        await client.send_input({"type": "http.disconnect"})  # as Daphne does it
        await client.wait(5)
        assert aborted() == []
    finally:
        gc.enable()
