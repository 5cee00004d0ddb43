"""Requests for presets: changed on their way, named in their answers as they were asked for."""

from __future__ import annotations

import json

import pytest

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.llama.operations import Scope
from supervisor_app.gateway.llama.presets import presets_of
from supervisor_app.gateway.records.record import Outcome, QuarantineEntry
from supervisor_app.gateway.servers.suspects import hash_of
from tests.integration.gateway.fast import warm
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, LARGE, question, request, with_key
from tests.integration.gateway.scripts import (
    DONE,
    JSON,
    LAST_CHUNK,
    answers,
    chunked,
    dies,
    head,
    sends,
    streams,
)

BRIEF = presets_of({"brief": {"set": {"temperature": 0.5}, "cap": {"max_tokens": 512}}})
PREFIX = presets_of({"brief": {"system_prefix": "Be brief."}})
OWN = "/m/own.gguf"
SAID = json.dumps({"model": OWN, "input": {"model": "corolla"}}, separators=(",", ":")).encode()
RENAMED = SAID.replace(OWN.encode(), b"brief")
KEY = "X-Api-Key: lp-a"
HI = {"role": "user", "content": "hi"}


async def serve(plane, *scripts, presets=BRIEF, **facts):
    facts.setdefault("models", ("qwen", OWN))
    return await plane.serve(*(scripts or [answers(SAID)]), name="qwen", presets=presets, **facts)


def ask_for(model, *lines, path=CHAT, **fields):
    return request(path, *lines, body={"model": model, "messages": [HI], **fields})


def sent(server, number=-1):
    return json.loads(server.contents[number])


# --- What is changed -----------------------------------------------------------------------------------


async def test_a_request_for_a_preset_is_changed_and_its_answer_has_the_preset_s_name(plane):
    server = await serve(plane)
    answer = await plane.ask(ask_for("brief", max_tokens=100, temperature=1))
    assert sent(server) == {"model": "brief", "messages": [HI], "max_tokens": 100, "temperature": 0.5}
    assert (answer.status, answer.content) == (200, RENAMED)
    assert int(answer.fields["content-length"]) == len(RENAMED)
    (record,) = await plane.records(1)
    assert (record.server, record.model, record.outcome) == ("qwen", "brief", Outcome.OK)


async def test_a_body_that_comes_in_chunks_is_changed_as_well(plane):
    server = await serve(plane)
    body = json.dumps({"model": "brief", "messages": [HI], "max_tokens": 100}).encode()
    pieces = b"".join(chunked(body[at : at + 10]) for at in range(0, len(body), 10))
    answer = await plane.ask(request(CHAT, "Transfer-Encoding: chunked", method="POST") + pieces + LAST_CHUNK)
    assert answer.content == RENAMED
    assert sent(server) == {"model": "brief", "messages": [HI], "max_tokens": 100, "temperature": 0.5}
    assert server.calls[0].fields["content-length"] == str(len(server.contents[0]))


@pytest.mark.parametrize("model", ["qwen", "anything", None])
async def test_any_other_request_is_passed_on_byte_for_byte(plane, model):
    server = await serve(plane)
    body = b'{ "model" : %b, "max_tokens":1,"input": "hi" }' % json.dumps(model).encode()
    answer = await plane.ask(request(EMBEDDINGS, body=body))
    assert server.contents == [body]
    assert answer.content == SAID


async def test_the_fast_path_is_for_requests_without_a_preset(plane, taken):
    server, caller = await warm(plane, answers(SAID), models=("qwen", OWN), presets=BRIEF)
    assert (await caller.ask(question(model="brief"))).content == RENAMED
    assert (await caller.ask(question(model="qwen"))).content == SAID
    assert taken == [False, True]
    assert [sent(server, number).get("temperature") for number in range(3)] == [None, 0.5, None]


async def test_a_stream_has_the_preset_s_name_in_each_event_wherever_it_is_cut(plane):
    events = [b'data: {"choices":[{"delta":{"content":"a"}}],"model":"%b"}\n\n' % OWN.encode()] * 3
    raw = head(200, "text/event-stream", "Connection: close") + b"".join(events) + DONE
    await serve(plane, streams(*events), sends(raw, piece=7))
    data = request(CHAT, body={"model": "brief", "messages": [HI], "stream": True})
    expected = b"".join(events).replace(OWN.encode(), b"brief") + DONE
    assert [(await plane.ask(data)).content for _ in range(2)] == [expected, expected]


async def test_an_answer_that_comes_in_pieces_is_renamed_and_whole(plane):
    raw = head(200, JSON, f"Content-Length: {len(SAID)}") + SAID
    await serve(plane, sends(raw, piece=5))
    answer = await plane.ask(ask_for("brief", max_tokens=1))
    assert (answer.status, answer.content, answer.whole) == (200, RENAMED, True)


async def test_an_answer_that_is_no_json_is_passed_on_unchanged(plane):
    audio = b'"model":"/m/own.gguf"'
    await serve(plane, sends(head(200, "audio/wav", f"Content-Length: {len(audio)}") + audio))
    data = request("/v1/audio/speech", body={"model": "brief", "input": "hi"})
    answer = await plane.ask(data)
    assert (answer.content, answer.fields["content-length"]) == (audio, str(len(audio)))


async def test_an_answer_that_is_put_together_from_a_stream_has_the_preset_s_name(plane):
    event = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], "model": OWN}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "model": OWN}
    usage = {"choices": [], "model": OWN, "usage": {"completion_tokens": 1, "prompt_tokens": 1}}
    events = [
        f"data: {json.dumps(each, separators=(',', ':'))}\n\n".encode() for each in (event, last, usage)
    ]
    server = await serve(plane, streams(*events))
    answer = (await plane.ask(ask_for("brief"))).json
    assert sent(server)["stream"] is True
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("brief", "a")


async def test_a_preset_counts_as_it_is_when_a_request_comes(plane):
    server, caller = await warm(plane, answers(SAID), models=("qwen",), presets=BRIEF)
    server.says(presets=presets_of({"brief": {"set": {"temperature": 0.9}}}))
    await caller.ask(question(model="brief"))
    server.says(presets={})
    await caller.ask(question(model="brief"))
    assert [sent(server, number).get("temperature") for number in (1, 2)] == [0.9, None]
    assert server.connections == 1


async def test_a_query_may_ask_for_a_preset(plane):
    server = await serve(plane)
    await plane.ask(request(f"{CHAT}?model=brief", body={"messages": [HI], "max_tokens": 1}))
    assert (sent(server)["temperature"], sent(server)["model"]) == (0.5, "brief")


async def test_a_preset_leads_to_its_server_among_several(plane):
    await plane.serve(answers(b"{}"), models=("default",))
    server = await serve(plane)
    await plane.ask(ask_for("brief", max_tokens=1))
    await plane.ask(request("/props?model=brief"))
    assert [call.first_line for call in server.calls] == [
        f"POST {CHAT} HTTP/1.1",
        "GET /props?model=brief HTTP/1.1",
    ]


# --- Crashes -------------------------------------------------------------------------------------------


async def test_a_replay_sends_the_changed_body_again(plane):
    server = await serve(plane, dies(), answers(SAID))
    assert (await plane.ask(ask_for("brief", max_tokens=1))).content == RENAMED
    first, second = server.contents
    assert first == second
    assert sent(server)["temperature"] == 0.5
    (record,) = await plane.records(1)
    assert (record.model, record.replays) == ("brief", 1)


async def test_in_quarantine_is_the_changed_request(plane):
    server = await serve(plane)
    await plane.ask(ask_for("brief", max_tokens=1))
    now = plane.gateway.wall_time()
    entry = QuarantineEntry(
        server="qwen",
        body_hash=hash_of(CHAT, server.contents[0], None),
        run_name="3",
        reason="It crashed.",
        at=now,
        until=now + 60,
    )
    plane.gateway.inquest.quarantined.replace([entry])
    answer = await plane.ask(ask_for("brief", max_tokens=1))
    assert (answer.status, answer.error["code"]) == (422, "quarantined")
    assert (await plane.ask(ask_for("qwen", max_tokens=1))).status == 200
    records = await plane.records(3)
    assert [(each.model, each.outcome) for each in records] == [
        ("brief", Outcome.OK),
        ("brief", Outcome.QUARANTINED),
        ("qwen", Outcome.OK),
    ]


async def test_a_stream_that_breaks_ends_in_an_error_that_names_the_preset(plane):
    await serve(plane, sends(b"".join([head(200, "text/event-stream"), b"data: {}\n\n"]), resets=True))
    answer = await plane.ask(request("/v1/responses", body={"model": "brief", "input": "hi", "stream": True}))
    failed = json.loads(answer.content.split(b"event: response.failed\ndata: ")[1].split(b"\n")[0])
    assert failed["response"]["model"] == "brief"


# --- Refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "presets", "says"),
    [
        (
            request("/v1/completions", body={"model": "brief"}),
            PREFIX,
            "begins with a system prompt, and this path has none",
        ),
        (
            request(f"{CHAT}?model=brief", body=b"[]"),
            BRIEF,
            "changes JSON objects, and this body is none that can be read",
        ),
        (
            request(
                "/v1/audio/transcriptions",
                "Content-Type: multipart/form-data; boundary=b",
                body=b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nbrief\r\n--b--\r\n',
            ),
            BRIEF,
            "changes JSON, and this request is a form. Send JSON",
        ),
    ],
)
async def test_a_request_that_a_preset_cannot_change_is_refused_in_a_sentence(plane, data, presets, says):
    server = await serve(plane, presets=presets)
    answer = await plane.ask(data)
    assert (answer.status, answer.error["code"]) == (400, "preset_impossible")
    assert answer.error["message"].startswith(f"The preset brief {says}")
    assert answer.error["message"].endswith("or ask for qwen, which changes nothing.")
    assert not server.calls
    (record,) = await plane.records(1)
    assert (record.server, record.model, record.outcome) == ("qwen", "brief", Outcome.REFUSED)


@pytest.mark.parametrize("body", [b'{"model":"brief","input":"%b"}', b'{"input":"%b","model":"brief"}'])
async def test_a_body_that_is_too_long_to_be_kept_is_refused(plane, body):
    plane.limit(replay_bytes=1000)
    server = await serve(plane)
    answer = await plane.ask(request(EMBEDDINGS, body=body % LARGE))
    assert (answer.status, answer.error["code"]) == (400, "preset_impossible")
    assert "this one is too long for that" in answer.error["message"]
    assert not server.calls


async def test_a_long_body_for_the_server_itself_goes_through(plane):
    plane.limit(replay_bytes=1000)
    server = await serve(plane)
    body = b'{"model":"qwen","input":"%b"}' % LARGE
    assert (await plane.ask(request(EMBEDDINGS, body=body))).content == SAID
    assert server.contents == [body]


# --- Rights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1])
async def test_a_key_for_a_preset_may_use_that_alone(plane, others):
    with_key(plane, models=frozenset({"brief"}))
    for _ in range(others):
        await plane.serve(answers(), models=("default",))
    server = await serve(plane, presets={**BRIEF, **presets_of({"long": {}})})
    assert (await plane.ask(ask_for("brief", KEY, max_tokens=1))).status == 200
    assert (await plane.ask(request("/tokenize", KEY, body={"model": "brief", "content": "a"}))).status == 200
    calls = len(server.calls)
    for model in ("qwen", "long", OWN):
        answer = await plane.ask(ask_for(model, KEY, max_tokens=1))
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert len(server.calls) == calls


@pytest.mark.parametrize(
    "data",
    [
        request("/lora-adapters", KEY, body={"model": "brief"}),
        request("/slots/0?action=erase&model=brief", KEY, method="POST", body={"model": "brief"}),
        request("/props?model=brief", KEY),
        request("/unknown", KEY, body={"model": "brief"}),
    ],
)
async def test_a_key_for_a_preset_may_do_nothing_that_no_preset_changes(plane, data):
    with_key(plane, models=frozenset({"brief"}), scopes=frozenset(Scope))
    server = await serve(plane)
    answer = await plane.ask(data)
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert not server.calls


async def test_a_key_for_the_server_may_use_its_presets(plane):
    with_key(plane, models=frozenset({"qwen"}))
    server = await serve(plane)
    await plane.serve(answers(), models=("default",))
    assert (await plane.ask(ask_for("brief", KEY, max_tokens=1))).status == 200
    assert sent(server)["temperature"] == 0.5


async def test_a_key_that_isolates_its_prompts_does_so_for_a_preset_too(
    plane,
):
    key = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"))
    alone = KeyPolicy(
        id=8, name="alone", digest=digest_of("lp-b"), models=frozenset({"brief"}), isolate_cache=True
    )
    plane.gateway.door.keys = KeyRing([key, alone])
    server = await serve(plane)
    await plane.ask(ask_for("brief", KEY, max_tokens=1, cache_prompt=True))
    assert server.contents[0].endswith(b'"cache_prompt":false}')


# --- The list ------------------------------------------------------------------------------------------


async def test_presets_are_listed_as_models_of_their_server(plane):
    await serve(plane, offered=("qwen",), presets={**BRIEF, **presets_of({"long": {}})})
    found = (await plane.ask(request("/v1/models"))).json
    assert [each["id"] for each in found["data"]] == ["brief", "long", "qwen"]
    assert [each["name"] for each in found["models"]] == ["brief", "long", "qwen"]
    brief, _, qwen = found["data"]
    assert brief["status"] == {"value": "loaded"}
    assert brief["aliases"] == []
    assert brief["llamaproxy"]["server"] == "qwen"
    assert brief["llamaproxy"]["preset"] == {"name": "brief", "changes": ["temperature", "max_tokens"]}
    assert "preset" not in qwen["llamaproxy"]
    assert "brief" not in qwen["aliases"]
    one = (await plane.ask(request("/v1/models/brief"))).json
    assert (one["id"], one["llamaproxy"]["preset"]["name"]) == ("brief", "brief")
    by_path = (await plane.ask(request(f"/v1/models/{OWN}"))).json
    assert (by_path["id"], "preset" in by_path["llamaproxy"]) == ("qwen", False)


async def test_a_key_sees_the_presets_that_it_may_use(plane):
    with_key(plane, models=frozenset({"brief"}))
    await serve(plane, offered=("qwen",), presets={**BRIEF, **presets_of({"long": {}})})
    found = (await plane.ask(request("/v1/models", KEY))).json
    assert [each["id"] for each in found["data"]] == ["brief"]


async def test_an_unknown_name_is_told_what_there_is_with_presets(plane):
    await serve(plane)
    await plane.serve(answers(), models=("default",))
    answer = await plane.ask(ask_for("nobody"))
    assert answer.error["message"].endswith("There is: brief, default, qwen.")
