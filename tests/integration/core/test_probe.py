"""Health of servers asked over real sockets, also of those that lie, stall or slam the door."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from supervisor_app.core.machine import health as health_module
from supervisor_app.core.machine.probe import looks_like_llama_server
from supervisor_app.core.ports import ProbeError
from supervisor_app.core.sightings import Canary, Endpoint, Health, Slots
from tests.integration.core.answering import http, probe, proved, server, spec_for

__all__ = ["probe"]  # fixtures


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (http("200 OK", b'{"status":"ok"}'), Health.OK),
        (http("503 Service Unavailable", b'{"error":{"message":"Loading model"}}'), Health.LOADING),
        (http("404 Not Found"), Health.WRONG),
        # A redirect is not followed: health is this server's own.
        (http("302 Found", b"", "Location: http://127.0.0.1:1/"), Health.WRONG),
        # Not HTTP at all.
        (b"SSH-2.0-OpenSSH_9.2\r\n", Health.SILENT),
        # The door slammed.
        (b"", Health.SILENT),
        # A body that ends short.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nx", Health.SILENT),
        # A head without an end.
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**17, Health.SILENT),
        # More than anybody reads.
        (http("200 OK", b"x" * 2**20), Health.OK),
    ],
)
async def test_each_answer_of_health_has_its_meaning(probe, answer, health):
    with server(answer) as spec:
        for asked in (spec, proved(spec)):
            assert await probe.health(asked, 5.0) is health


async def test_nobody_listens(probe):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        spec = spec_for(unused.getsockname()[1])
        assert await probe.health(spec, 5.0) is Health.REFUSED
        # The server stopped listening between the look and the connection.
        gone = spec.at(Endpoint(address="127.0.0.1", port=spec.port, uid=None))
        assert await probe.health(gone, 5.0) is Health.REFUSED


async def test_an_answer_that_never_comes_is_silence_and_holds_nobody_up(probe):
    with server(None) as hung, server(http("200 OK")) as healthy:
        slow = asyncio.create_task(probe.health(hung, 1.0))
        assert await probe.health(healthy, 5.0) is Health.OK
        assert not slow.done()
        assert await slow is Health.SILENT


async def test_a_connection_that_cannot_be_made_in_time_is_silence(probe):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    spec = spec_for(listener.getsockname()[1])
    # Fill the backlog, so that the next connection waits for ever.
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        waiting.append(filler)
    assert await probe.health(spec, 0.3) is Health.SILENT
    known = spec.at(Endpoint(address="127.0.0.1", port=spec.port, uid=None))
    assert await probe.health(known, 0.3) is Health.SILENT
    for opened in (listener, *waiting):
        opened.close()


async def test_the_key_is_sent_along_once_its_address_is_proved_but_never_to_health(probe):
    seen: list[bytes] = []
    with server(http("200 OK", b'{"data": []}'), requests=seen) as spec:
        unproved = spec_for(spec.port, api_key="hunter2")
        await probe.models(unproved, 5.0)
        await probe.health(proved(unproved), 5.0)
        assert not [asked for asked in seen if b"hunter2" in asked]
        await probe.models(proved(unproved), 5.0)
    assert b"Authorization: Bearer hunter2" in seen[-1]


async def test_to_a_process_of_another_user_not_a_byte_is_sent(probe):
    seen: list[bytes] = []
    with server(http("200 OK", b'{"data": []}'), requests=seen) as spec:
        elsewhere = proved(spec_for(spec.port, api_key="hunter2"), uid=os.getuid() + 1)
        assert await probe.health(elsewhere, 5.0) is Health.REFUSED
        with pytest.raises(ProbeError):
            await probe.models(elsewhere, 5.0)
        assert await probe.slots(elsewhere, 5.0, may_wake=True) == Slots(answered=False)
        assert await probe.canary(elsewhere, 5.0) is Canary.FINE
    assert b"".join(seen) == b""


async def test_to_a_process_that_took_the_port_just_now_not_a_byte_is_sent_either(probe, monkeypatch):
    seen: list[bytes] = []
    monkeypatch.setattr(
        health_module, "stranger_at", lambda endpoint: False
    )  # it was looked for a moment too early
    with server(http("200 OK"), requests=seen) as spec:
        taken = proved(spec, uid=os.getuid() + 1)
        assert await probe.health(taken, 5.0) is Health.REFUSED
    assert b"".join(seen) == b""


@pytest.mark.parametrize(
    ("answer", "llama"),
    [
        (http("200 OK", b"{}", "Server: llama.cpp"), True),
        # Older builds do not say who they are.
        (http("200 OK", b'{"status": "ok"}'), True),
        (
            http(
                "503 x",
                b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',
            ),
            True,
        ),
        (http("200 OK", b"<html>"), False),
        (http("404 Not Found", b'{"status":"ok"}'), False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        # Perhaps it hangs, or speaks TLS.
        (b"", None),
    ],
)
def test_a_stranger_is_recognised_by_its_answer(answer, llama):
    with server(answer) as spec:
        assert looks_like_llama_server(spec) is llama
