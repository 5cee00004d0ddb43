"""Servers that make text, embed or rank: which names they have, and which requests reach them."""

from __future__ import annotations

import pytest

from supervisor_app.fleet.conf import Overlay
from supervisor_app.gateway.edge import survey
from supervisor_app.gateway.edge.survey import load_facts
from supervisor_app.gateway.llama.listing import listing_of
from tests.integration.building import make_server
from tests.integration.gateway.fast import warm
from tests.integration.gateway.plane import CHAT, EMBEDDINGS, question, request
from tests.integration.gateway.scripts import answers

FILE = "/models/small.gguf"
RERANK = ["--reranking"]
EMBEDS = ["--embedding"]


def ids():
    return {name: known.offered for name, known in load_facts(Overlay()).items()}


def having(name):
    """Servers that may be asked by a name."""
    return sorted(server for server, known in load_facts(Overlay()).items() if name in known.models)


# --- Names ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_server_that_embeds_shares_no_name_with_one_that_makes_text():
    make_server("chat", model_path=FILE)
    embeds = make_server("embed", model_path=FILE, args=EMBEDS)
    assert ids() == {"chat": ("chat",), "embed": ("embed",)}
    said = listing_of({"data": [{"id": FILE, "aliases": ["small"]}]}, 5.0)
    survey.keep_listing("embed", survey.launch_of(embeds), said)
    for name in ("small", "small.gguf", FILE):
        assert having(name) == ["chat"]
    assert having("embed") == ["embed"]


@pytest.mark.django_db
def test_servers_that_do_the_same_share_the_name_of_their_file():
    for name, args in [("a", []), ("b", []), ("c", EMBEDS), ("d", EMBEDS), ("e", RERANK)]:
        make_server(name, model_path=FILE, args=args)
    make_server("f", model_path="/models/bge.gguf", args=EMBEDS)
    make_server("g", model_path="/models/bge.gguf", args=["--embeddings"])
    assert ids() == {
        "a": ("small",),
        "b": ("small",),
        "c": ("c",),
        "d": ("d",),
        "e": ("e",),
        "f": ("bge",),
        "g": ("bge",),
    }
    assert having("small") == ["a", "b"]
    assert having("bge") == ["f", "g"]


@pytest.mark.django_db
def test_an_alias_that_several_have_stands_for_text_before_embeddings():
    make_server("chat", aliases=["llama"])
    make_server("embed", aliases=["llama", "vectors"], args=EMBEDS)
    assert ids() == {"chat": ("llama",), "embed": ("vectors",)}
    assert having("llama") == ["chat"]


@pytest.mark.django_db
def test_a_server_keeps_its_own_name_whatever_others_call_their_model():
    make_server("small", model_path="/models/bge.gguf", args=EMBEDS)
    make_server("chat", model_path=FILE)
    assert having("small") == ["small"]
    assert having("small.gguf") == ["chat"]


@pytest.mark.django_db
def test_a_server_that_embeds_alone_keeps_all_names_of_its_model():
    make_server("embed", model_path=FILE, args=EMBEDS)
    make_server("router", model_path="", models_dir="/models")
    assert having("small") == having(FILE) == ["embed"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"args": EMBEDS}, "--embedding"),
        ({"args": ["--embeddings", "--pooling", "mean"]}, ""),
        ({"args": RERANK}, ""),
        ({"args": EMBEDS, "model_path": "", "models_dir": "/models"}, ""),
        ({}, ""),
    ],
    ids=["embeds", "does both", "ranks", "router", "makes text"],
)
def test_the_flag_that_keeps_a_server_from_making_text_is_known(fields, flag):
    make_server(**fields)
    assert load_facts(Overlay())["default"].textless == flag


# --- Requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": []}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/completion", {"prompt": "hi"}),
        ("/infill", {"input_prefix": "hi"}),
        ("/v1/messages", {"messages": []}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
async def test_a_question_for_text_does_not_reach_a_server_that_only_embeds(plane, path, body, others):
    server = await plane.serve(answers(), name="embed", textless="--embedding")
    for number in range(others):
        await plane.serve(answers(), name=f"other{number}")
    answer = await plane.ask(request(path, body={"model": "embed", "max_tokens": 1, **body}))
    assert answer.status == 400
    assert "embed was started with --embedding, so it makes no text." in answer.json["error"]["message"]
    assert not server.calls


async def test_a_client_that_has_embedded_is_not_let_through_with_a_question_for_text(plane):
    server, caller = await warm(plane, answers(b"more"), name="embed", textless="--embedding")
    answer = await caller.ask(question(path=CHAT, model="embed", max_tokens=1))
    assert (answer.status, answer.error["code"]) == (400, "makes_no_text")
    assert (await caller.ask(question(path=EMBEDDINGS, model="embed"))).content == b"more"
    assert len(server.calls) == 2


async def test_of_servers_with_one_name_that_one_is_asked_for_text_which_makes_some(plane):
    silent = await plane.serve(answers(b"x"), name="a", models=("qwen",), textless="--embedding")
    await plane.serve(answers(b"text"), name="b", models=("qwen",))
    assert (await plane.ask(question(path=CHAT, model="qwen"))).content == b"text"
    assert not silent.calls


async def test_embeddings_are_asked_of_whichever_server_is_named(plane):
    await plane.serve(answers(b"its own answer"), name="chat")
    assert (await plane.ask(question(path=EMBEDDINGS, model="chat"))).content == b"its own answer"
