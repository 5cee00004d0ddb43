"""Asking servers over real sockets, also those that lie, stall or slam the door."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from supervisor_app.core.machine import health as health_module
from supervisor_app.core.machine import probe as probe_module
from supervisor_app.core.machine.probe import HttpProbe, looks_like_llama_server, read_models
from supervisor_app.core.ports import ProbeError
from supervisor_app.core.shortage import LateError
from supervisor_app.core.sightings import Canary, Endpoint, Health, Slots
from supervisor_app.core.spec import LaunchSpec


@contextmanager
def server(*answers: bytes | None, requests: list[bytes] | None = None):
    """Answer each connection with the next of these bytes, then always with the last one; None: say nothing."""
    script = list(answers)
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = [listener]

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(connection)
            answer = script.pop(0) if len(script) > 1 else script[0]
            if answer is None:
                continue
            with suppress(OSError):  # it was only looked at, or all is over
                data = whole_request(connection)
                if requests is not None:
                    requests.append(data)
                connection.sendall(answer)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield spec_for(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for opened in open_sockets:
            opened.close()
        thread.join(5)


def whole_request(connection: socket.socket) -> bytes:
    """Its body often comes after its head. Less when the client leaves."""
    data, missing = b"", 1
    while missing > 0 and (received := connection.recv(65536)):
        data += received
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        missing = (int(length[1]) if length else 0) - len(body) if end else 1
    return data


def proved(spec: LaunchSpec, uid: int | None = None) -> LaunchSpec:
    uid = os.getuid() if uid is None else uid
    return spec.at(Endpoint(address="127.0.0.1", port=spec.port, uid=uid))


def spec_for(port: int, **more) -> LaunchSpec:
    return LaunchSpec(host="127.0.0.1", port=port, command=(), args=(), **more)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def probe():
    made = HttpProbe()
    yield made
    made.close()


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


# Models


def models(body: str, **more):
    with server(http("200 OK", body.encode())) as spec:
        return read_models(spec_for(spec.port, **more), 5.0)


def test_a_real_servers_list():
    (model,) = models('{"data":[{"id":"/models/a.gguf","meta":{"size":524032}}],"object":"list"}')
    assert (model.id, model.name, model.size, model.type) == ("/models/a.gguf", "a.gguf", 524032, "llama")
    assert model.status == "available"


def test_size_and_time_are_the_files(tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(b"x" * 10)
    (model,) = models('{"data":[{"id":"a","meta":{"size":5}}]}', model_path=str(file))
    assert model.size == 10
    assert model.modified_at == int(file.stat().st_mtime)


def test_a_file_that_cannot_be_seen_leaves_what_the_server_says():
    (model,) = models('{"data":[{"id":"a","meta":{"size":5}}]}', model_path="/no/such/file")
    assert model.size == 5
    assert model.modified_at is None


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        (http("200 OK", b'{"model_path": "./m.gguf"}'), "./m.gguf"),
        (http("200 OK", b'{"model_path": 7}'), ""),
        (http("200 OK", b"[]"), ""),
        (http("404 Not Found"), ""),
        (b"", ""),
    ],
)
async def test_which_model_runs_is_the_servers_word(probe, answer, path):
    with server(answer) as spec:
        assert await probe.running_model(spec, 5.0) == path


async def test_a_server_that_never_says_what_it_runs_is_not_waited_for(probe, monkeypatch):
    async def late(*_):
        raise LateError

    monkeypatch.setattr(probe, "_ask", late)
    assert await probe.running_model(spec_for(1), 5.0) == ""


def test_the_originals_list():
    (model,) = models('{"models":[{"name":"A","size":3,"type":"qwen","modified_at":7,"status":"loaded"}]}')
    assert (model.id, model.size, model.type, model.modified_at) == ("A", 3, "qwen", 7)
    assert model.status == "loaded"


def test_a_routers_list_tells_the_status_of_each():
    found = models(
        '{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"unloaded"}}]}'
    )
    assert [model.status for model in found] == ["loaded", "unloaded"]


@pytest.mark.parametrize(
    "body",
    ['{"data":[{}]}', '{"data":[{"id":null,"meta":null,"size":"big"}]}'],
)
def test_every_field_is_optional(body):
    (model,) = models(body)
    assert (model.id, model.size) == ("unknown", None)


def test_an_empty_list_is_a_list():
    assert models('{"data":[]}') == ()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("401 Unauthorized"), "/v1/models answered 401"),
        (http("200 OK", b"[]"), "not a model list"),
        (http("200 OK", b"{not json"), "not a model list"),
        (http("200 OK", b'{"data": 3}'), "not a model list"),
        (http("200 OK", b"[" * 100_000), "not a model list"),
        (b"", "did not answer"),
    ],
)
async def test_an_answer_that_is_no_list_of_models_is_told(probe, answer, words):
    with server(answer) as spec, pytest.raises(ProbeError, match=words):
        await probe.models(spec, 5.0)


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
        # It embeds: asked for text it may crash.
        ([AWAKE, http("400 Bad Request")], Canary.UNSUPPORTED, 2),
        ([AWAKE, http("200 OK", b"[]")], Canary.UNSUPPORTED, 2),
        # It is loading again.
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
