"""Answers of real servers to requests that a preset has changed."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.presets import presets_of
from supervisor_app.gateway.servers.facts import ServerFacts
from tests.integration.gateway.engines import ENGINES, engine
from tests.integration.gateway.plane import CHAT, request

pytestmark = pytest.mark.engine

PRESETS = presets_of(
    {
        "short": {"cap": {"max_tokens": 3}, "set": {"ignore_eos": True}},
        "begun": {"system_prefix": "Be brief.", "default": {"max_tokens": 2}},
    }
)
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(params=ENGINES)
async def real(request, plane, tmp_path):
    """A gateway before a real server, which calls its model by the path of its file."""
    with engine(request.param, tmp_path) as running:
        facts = ServerFacts(
            name="qwen",
            url=f"http://127.0.0.1:{running.port}",
            status=Status.READY,
            pid=running.process.pid,
            version=1,
            models=("qwen", str(tmp_path / "demo.gguf")),
            presets=PRESETS,
        )
        plane.gateway.hear(facts)
        yield plane


@pytest.mark.parametrize("spelling", ["max_tokens", "max_completion_tokens", "n_predict"])
@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (CHAT, {"messages": HI}, lambda said: said["usage"]["completion_tokens"]),
        ("/v1/completions", {"prompt": "hi"}, lambda said: said["usage"]["completion_tokens"]),
        ("/completion", {"prompt": "hi"}, lambda said: said["tokens_predicted"]),
        ("/v1/messages", {"messages": HI}, lambda said: said["usage"]["output_tokens"]),
        ("/v1/responses", {"input": "hi"}, lambda said: said["usage"]["output_tokens"]),
    ],
)
async def test_an_answer_is_as_long_as_the_preset_lets_it_be_and_has_its_name(
    real, path, body, tokens, spelling
):
    for limit in ({}, {spelling: 50}, {spelling: -1}):
        answer = await real.ask(request(path, body={"model": "short", **body, **limit}))
        assert (answer.status, tokens(answer.json), answer.json["model"]) == (200, 3, "short")


async def test_a_stream_is_as_long_and_has_the_preset_s_name_in_each_event(real):
    data = request(CHAT, body={"model": "short", "messages": HI, "stream": True, "max_tokens": 50})
    events = (await real.ask(data)).content.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert all(b'"model":"short"' in event for event in events[:-2])
    assert b"demo.gguf" not in b"".join(events)


async def test_the_prompt_begins_with_the_prefix(real):
    kind = {"role": "system", "content": "Be kind."}
    for messages, expected in ((HI, "Be brief."), ([kind, *HI], "Be brief.\n\nBe kind.")):
        body = {"model": "begun", "messages": messages}
        prompt = (await real.ask(request("/apply-template", body=body))).json["prompt"]
        assert prompt.startswith(f"system: {expected}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", {"messages": HI}),
        ("/v1/messages/count_tokens", {"messages": HI, "system": [{"type": "text", "text": "Be kind."}]}),
        ("/v1/chat/completions/input_tokens", {"messages": HI}),
        ("/v1/responses/input_tokens", {"input": "hi"}),
        ("/v1/responses/input_tokens", {"input": "hi", "instructions": "Be kind."}),
    ],
)
async def test_the_tokens_of_the_prefix_are_counted_with_those_of_the_prompt(real, path, body):
    plain, begun = [
        (await real.ask(request(path, body={"model": model, **body}))).json["input_tokens"]
        for model in ("qwen", "begun")
    ]
    assert begun > plain
