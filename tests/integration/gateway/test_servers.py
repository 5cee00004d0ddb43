"""Which server is asked on which connection, with which key; and the end of the gateway."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.gateway.records.record import Outcome
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, LARGE, question, request, streaming, with_key
from tests.integration.gateway.scripts import (
    FINISH,
    LAST_CHUNK,
    answers,
    chunked,
    event,
    hangs,
    head,
    stream_of,
    waits_for,
)

KEY = "X-Api-Key: lp-a"
FORM = "Content-Type: multipart/form-data; boundary=bound"
ROUTER = {"models": ("tiny", "huge"), "offered": ("tiny", "huge"), "is_router": True}


def allow(plane, *models):
    """Whoever has the key may use these, and see how they are configured."""
    scopes = frozenset({Scope.INFERENCE, Scope.READ})
    with_key(plane, models=frozenset(models), scopes=scopes)


def form(*parts):
    """With these heads and contents."""
    return b"".join(b"--bound\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--bound--\r\n"


def named(name):
    return b'Content-Disposition: form-data; name="%b"' % name


# --- Servers -------------------------------------------------------------------------------------------


async def test_a_waiting_key_for_one_model_of_several_is_not_sent_away(plane):
    allow(plane, "tiny")
    server = await plane.serve(answers(b"x"), status=Status.STARTING, **ROUTER)
    asking = plane.asks(request(EMBEDDINGS, KEY, body={"model": "tiny"}))
    await plane.until_waiting(1)
    server.says(detail="Loading: 40 %.")
    server.says(status=Status.READY)
    assert (await asking).content == b"x"


@pytest.mark.parametrize(
    ("lines", "target", "body"),
    [
        ((), EMBEDDINGS, {"model": "huge"}),
        ((), EMBEDDINGS, {}),
        ((), EMBEDDINGS, b'{"model": "tiny", "model": "huge"}'),
        ((), f"{EMBEDDINGS}?model=tiny", {"model": "huge"}),
        (
            (FORM,),
            EMBEDDINGS,
            form((named(b"x"), b""), *[(named(b"y"), b"")] * 64, (named(b"model"), b"huge")),
        ),
        (
            (FORM,),
            EMBEDDINGS,
            form((named(b"model"), b"tiny"), *[(named(b"y"), b"")] * 64, (named(b"model"), b"huge")),
        ),
    ],
)
async def test_a_key_for_one_model_of_several_cannot_get_another(plane, lines, target, body):
    allow(plane, "tiny")
    server = await plane.serve(answers(), **ROUTER)
    answer = await plane.ask(request(target, KEY, *lines, body=body))
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert not server.calls


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/props?model=tiny", None, 200),
        ("/props?model=huge", None, 403),
        ("/props?model=huge", {"model": "tiny"}, 403),
        ("/props?model=tiny", b"model=huge", 403),
        ("/props?model=tiny&model=huge&model=tiny", None, 403),
        ("/props", {"model": "tiny"}, 403),
    ],
)
async def test_the_model_that_a_get_asks_for_is_in_its_query(plane, target, body, status):
    allow(plane, "tiny")
    await plane.serve(answers(), **ROUTER)
    assert (await plane.ask(request(target, KEY, body=body, method="GET"))).status == status


@pytest.mark.parametrize(
    ("allowed", "facts"), [("default", ROUTER), ("tiny", {"models": ("tiny",), "offered": ("alias", "tiny")})]
)
async def test_a_long_body_passes_where_all_that_it_may_name_is_allowed(plane, allowed, facts):
    plane.limit(replay_bytes=1000)
    allow(plane, allowed)
    await plane.serve(answers(b"x"), **facts)
    body = b'{"model": "tiny", "pad": "%b"}' % LARGE
    assert (await plane.ask(request(EMBEDDINGS, KEY, body=body))).content == b"x"


@pytest.mark.parametrize("model", ["tiny", "alias", "gpt-4"])
async def test_a_key_for_the_only_model_of_a_server_is_good_for_each_of_its_names(plane, model):
    allow(plane, "tiny")
    await plane.serve(answers(b"x"), models=("tiny", "alias"), offered=("alias", "tiny"))
    assert (await plane.ask(request(EMBEDDINGS, KEY, body={"model": model}))).content == b"x"


async def test_a_connection_to_a_server_is_kept_and_used_again(plane):
    server = await plane.serve(answers())
    for _ in range(4):
        assert (await plane.ask(question())).status == 200
    assert server.connections == 1


async def test_an_answer_without_a_size_is_the_last_on_its_connection(plane):
    whole = head(200, "a/b", "Transfer-Encoding: chunked") + chunked(b"x") + LAST_CHUNK
    server = await plane.serve(
        keeps(whole),
        keeps(stream_of(event("a")) + FINISH),
        answers(b"x", 200, "Connection: close"),
        answers(),
    )
    for data in (question(), streaming(), question(), question()):
        assert (await plane.ask(data)).status == 200
    assert server.connections == 4


def keeps(data):
    """Answers, and listens for the next request on the same connection."""

    async def script(call):
        await call.body()
        await call.send(data)
        return True

    return script


async def test_a_connection_that_says_something_unasked_is_not_used(plane):
    server = await plane.serve(
        keeps(head(200, "a/b", "Content-Length: 1") + b"xHTTP/1.1 200 OK\r\n\r\n"), answers(b"y")
    )
    assert [(await plane.ask(question())).content for _ in range(2)] == [b"x", b"y"]
    assert server.connections == 2


async def test_connections_nobody_used_for_a_while_are_closed(plane):
    plane.limit(upstream_idle_seconds=0.05)
    server = await plane.serve(answers())
    await plane.ask(question())
    await server.calls[0].until_left()


async def test_a_server_gets_its_own_key_and_never_the_client_s(plane):
    plane.gateway.door.keys = KeyRing([KeyPolicy(id=7, name="chat", digest=digest_of("lp-client"))])
    server = await plane.serve(answers(), api_key="sk-server")
    assert (await plane.ask(question())).status == 401
    data = request(
        EMBEDDINGS, "Authorization: Bearer lp-client", "X-Api-Key: lp-client", "Cookie: a", body={}
    )
    assert (await plane.ask(data)).status == 200
    (call,) = server.calls
    assert call.fields["authorization"] == "Bearer sk-server"
    assert "lp-client" not in str(call.fields)
    refused, answered = await plane.records(2)
    assert (refused.outcome, refused.key, answered.key) == (Outcome.REFUSED, None, 7)


async def test_words_are_kept_only_for_a_key_that_wants_it_and_not_without_end(plane):
    keys = [
        KeyPolicy(id=number, name=f"{number}", digest=digest_of(f"lp-{number}"), capture=number == 1)
        for number in (1, 2)
    ]
    plane.gateway.door.keys = KeyRing(keys)
    await plane.serve(answers(LARGE))
    for number in (1, 2):
        await plane.ask(request(EMBEDDINGS, f"X-Api-Key: lp-{number}", body=b"prompt \xff\0" + LARGE))
    kept, other = await plane.records(2)
    assert kept.captured_request.startswith("prompt \ufffd\ufffdxxx")
    assert kept.captured_answer.startswith("xxx")
    assert len(kept.captured_request) <= len(kept.captured_answer) == 65_536
    assert kept.captured_request_head.startswith("POST /v1/embeddings HTTP/1.1\r\n")
    assert "x-api-key: lp-1" in kept.captured_request_head
    assert kept.captured_answer_head.startswith("HTTP/1.1 200 OK\r\n")
    assert (other.captured_request, other.captured_answer) == (None, None)
    assert (other.captured_request_head, other.captured_answer_head) == (None, None)


async def test_a_request_goes_to_the_server_of_its_model(plane):
    a = await plane.serve(answers(b"a"), name="a", models=("qwen", "small"))
    b = await plane.serve(answers(b"b"), name="b", models=("gemma",))
    for model, expected in (("a", b"a"), ("small", b"a"), ("gemma", b"b"), ("b", b"b")):
        assert (await plane.ask(question(model=model))).content == expected
    assert (len(a.calls), len(b.calls)) == (2, 2)


async def test_the_query_names_the_model_where_the_body_does_not(plane):
    for name in ("a", "b"):
        await plane.serve(answers(name.encode()), name=name)
    for target, body in (("/tokenize?model=b", {"content": "hi"}), ("/tokenize?model=a", {"model": "b"})):
        assert (await plane.ask(request(target, body=body))).content == b"b"


async def test_a_long_form_goes_to_the_server_of_its_model(plane):
    plane.limit(replay_bytes=1000)
    for name in ("a", "b"):
        await plane.serve(answers(name.encode()), name=name)
    body = form((named(b"model"), b"b"), (named(b"file") + b'; filename="a.wav"', LARGE))
    assert (await plane.ask(request("/v1/audio/transcriptions", FORM, body=body))).content == b"b"


async def test_with_one_server_any_name_will_do_as_it_does_for_llama_server(plane):
    await plane.serve(answers(b"x"))
    assert (await plane.ask(question(model="gpt-4"))).content == b"x"


async def test_a_model_that_nobody_has_is_not_found_and_the_others_are_named(plane):
    for name in ("a", "b"):
        await plane.serve(answers(), name=name, offered=(f"model-{name}",))
    answer = await plane.ask(question(model="gpt-4"))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        404,
        "model_not_found",
        "invalid_request_error",
    )
    assert answer.error["message"] == "The model 'gpt-4' does not exist here. There is: model-a, model-b."
    assert (await plane.ask(request(EMBEDDINGS, body={}))).error["message"].startswith("Name a model.")


async def test_without_any_server_no_model_is_found(plane):
    answer = await plane.ask(question())
    assert (answer.status, answer.error["message"]) == (
        404,
        "The model 'default' does not exist here. No server is configured yet.",
    )


async def test_a_server_gets_as_many_requests_at_once_as_it_has_slots(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, answers()))
    plane.gateway.backends["default"].learn_slots(2)
    asking = [plane.asks(question(f"{number}")) for number in range(5)]
    await plane.until_waiting(3)
    await server.until_called(2)
    assert len(server.calls) == 2
    goes_on.set()
    assert {(await answer).status for answer in asking} == {200}


# --- The end of the gateway ----------------------------------------------------------------------------


async def test_a_request_that_was_begun_is_finished_and_nothing_new_is_begun(plane):
    goes_on = asyncio.Event()
    server = await plane.serve(waits_for(goes_on, answers(b"x")))
    idle, busy, late = [await plane.connect() for _ in range(3)]
    await busy.send(question())
    await late.send(question("late")[:-1])
    await server.until_called()
    await eventually(lambda: len(plane.gateway.exchanges) == 2)
    draining = asyncio.create_task(plane.gateway.drain(20))
    assert await idle.is_cut_off()
    goes_on.set()
    assert (await busy.answer()).content == b"x"
    assert await busy.rest() == b""
    assert (await late.ask(question("late")[-1:])).status == 200
    await draining


async def test_the_gateway_waits_until_the_last_byte_of_an_answer_is_on_its_way(plane):
    await plane.serve(answers(LARGE * 20))
    caller = await plane.connect()
    caller.read_nothing()
    await caller.send(question())
    await plane.until_begun()

    async def clients_at_the_end():
        await plane.gateway.drain(20)
        return len(plane.gateway.clients)

    ending = asyncio.create_task(clients_at_the_end())
    await eventually(lambda: plane.gateway.draining)
    caller.read_on()
    assert (await caller.answer()).content == LARGE * 20
    assert await ending == 0


async def test_a_client_that_takes_nothing_of_an_answer_is_not_waited_for_any_longer(plane):
    await plane.serve(answers(LARGE * 20))
    caller = await plane.connect()
    caller.read_nothing()
    await caller.send(question())
    await plane.until_begun()
    async with asyncio.timeout(DEADLINE):
        await plane.gateway.drain(0.05)
    assert not plane.gateway.exchanges


async def test_a_stream_that_is_ended_in_the_middle_of_an_event_says_so_in_one_of_its_own(plane):
    half = event("b")[:20]
    await plane.serve(hangs(stream_of(event("a"), half)))
    reading = await plane.connect()
    await reading.send(streaming())
    await reading.read_until(half)
    await plane.gateway.drain(0.05)
    rest = await reading.rest()
    assert b'\n\ndata: {"error"' in rest
    assert b"gateway_stopping" in rest


async def test_at_the_end_of_its_grace_all_that_goes_on_is_told_so(plane):
    await plane.serve(hangs(), hangs(stream_of(event("a"))))
    waiting, reading = [await plane.connect() for _ in range(2)]
    await waiting.send(question())
    await plane.until_inside(1)
    await reading.send(streaming())
    await reading.read_until(event("a"))
    await plane.gateway.drain(0.05)
    answer = await waiting.answer()
    assert (answer.status, answer.error["code"], answer.fields["retry-after"]) == (
        503,
        "gateway_stopping",
        "1",
    )
    rest = await reading.rest()
    assert b'"code":"gateway_stopping"' in rest
    assert rest.endswith(LAST_CHUNK)


async def test_a_hurried_drain_waits_no_longer(plane):
    await plane.serve(hangs())
    asking = plane.asks(question())
    await plane.until_inside(1)
    draining = asyncio.create_task(plane.gateway.drain(60))
    await eventually(lambda: plane.gateway.draining)
    plane.gateway.hurry()
    await draining
    assert (await asking).status == 503


async def test_a_gateway_that_ends_tells_new_requests_to_ask_again(plane):
    server = await plane.serve(hangs())
    first, second = await plane.connect(), await plane.connect()
    await first.send(question())
    await second.send(b"GET /")
    await server.until_called()
    await eventually(lambda: len(plane.gateway.clients) == 2)
    plane.gateway.draining = True
    answer = await second.ask(b"health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (answer.status, answer.fields["connection"]) == (503, "close")
