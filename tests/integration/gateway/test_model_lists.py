"""What servers say of their models: when they are asked, and how long it is kept."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from supervisor_app.core.status import Status
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.gateway.edge import model_lists, survey
from supervisor_app.gateway.edge.model_lists import ModelLists
from supervisor_app.traffic.models import ModelList
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_ready_server
from tests.integration.gateway.linking import announce, facts, linked
from tests.integration.gateway.scripts import Scripted, answers

pytestmark = pytest.mark.django_db(transaction=True)

QWEN = json.dumps(
    {
        "data": [{"id": "qwen", "aliases": ["q"], "created": 1, "meta": {"n_ctx": 7}}],
        "models": [{"name": "qwen"}],
    }
).encode()


def router_says(**models):
    """Each with its state."""
    data = [{"id": name, "created": 1, "status": {"value": value}} for name, value in models.items()]
    return json.dumps({"data": data, "object": "list"}).encode()


@asynccontextmanager
async def saying(*lists, **fields):
    """A server that is ready and says so of its models."""
    server = Scripted(answers(b'{"total_slots": 2}'))
    server.lists = list(lists)
    await server.start()
    await db(make_ready_server, url=f"http://127.0.0.1:{server.port}", pid=11)
    await db(LlamaServer.objects.update, **{"model_path": "/m/file.gguf", **fields})
    try:
        yield server
    finally:
        await server.stop()


async def kept():
    return [json.loads(said) for said in await db(list, ModelList.objects.values_list("said", flat=True))]


async def test_each_process_says_once_what_model_it_has(often, looks):
    async with saying(QWEN) as server, linked() as gateway:
        await eventually(lambda: facts(gateway).listing.ids == ("qwen",))
        assert facts(gateway).listing.data[0]["meta"] == {"n_ctx": 7}
        assert {"default", "file", "qwen", "q"} < set(facts(gateway).models)
        looks.clear()
        await eventually(lambda: len(looks) > 3)
        assert len(server.list_calls) == 1
        await announce(Status.READY, 2, pid=12, url=facts(gateway).url)
        await eventually(lambda: len(server.list_calls) == 2)


@pytest.mark.parametrize("said", [b"[]", b"{}", b"\xff", b'{"data": 1}', b"[" * 100_000])
async def test_a_server_without_a_proper_list_is_asked_once_and_goes_by_its_configuration(often, looks, said):
    async with saying(said) as server, linked() as gateway:
        await eventually(lambda: server.list_calls)
        looks.clear()
        await eventually(lambda: len(looks) > 3)
        assert len(server.list_calls) == 1
        assert (facts(gateway).offered, facts(gateway).listing.ids) == (("default",), ())


async def test_a_list_is_there_while_its_server_is_down_and_after_the_gateways_restart(often):
    async with saying(QWEN):
        async with linked() as gateway:
            await eventually(lambda: facts(gateway).listing.ids == ("qwen",))
            await eventually(lambda: facts(gateway).status is Status.READY)
            await db(ServerState.objects.update, status="crashed", served=[], version=2)
            await eventually(lambda: facts(gateway).status is Status.CRASHED)
            assert facts(gateway).listing.ids == ("qwen",)
        async with linked() as gateway:
            assert facts(gateway).listing.data[0]["meta"] == {"n_ctx": 7}


async def test_a_server_that_dies_before_its_turn_to_be_asked_is_not_asked(plane):
    """Whatever listens at its address by then would get its key."""

    async def keep(facts, listing):
        pass

    server = await plane.serve()
    server.lists = [QWEN]
    lists, backend = ModelLists(plane.gateway, keep), plane.gateway.backends["default"]
    lists.look(backend)
    server.crashed()
    await asyncio.wait(lists.tasks)
    assert server.list_calls == []
    server.restarted()
    lists.look(backend)
    await eventually(lambda: server.facts.listing.ids == ("qwen",))


async def test_a_router_whose_models_change_is_asked_again_and_again(often, monkeypatch):
    monkeypatch.setattr(model_lists, "AGAIN_SECONDS", 0.05)
    lists = [router_says(a="unloaded"), router_says(a="loaded"), router_says(b="unloaded")]
    async with saying(*lists, model_path="", models_dir="/m") as server, linked() as gateway:
        await eventually(lambda: facts(gateway).offered == ("b",))
        assert "a" not in facts(gateway).models
        await eventually(lambda: len(server.list_calls) > 4)
        (listing,) = await kept()
        assert listing["data"][0]["id"] == "b"


async def test_the_same_list_with_another_time_in_it_is_no_news(often, monkeypatch):
    monkeypatch.setattr(model_lists, "AGAIN_SECONDS", 0.0)
    said = [router_says(a="unloaded"), router_says(a="unloaded").replace(b'"created": 1', b'"created": 2')]
    async with saying(*said, model_path="", models_dir="/m") as server, linked() as gateway:
        await eventually(lambda: len(server.list_calls) > 3)
        assert facts(gateway).listing.data[0]["created"] == 1


async def test_while_a_model_is_being_loaded_it_is_asked_more_often(often, monkeypatch):
    monkeypatch.setattr(model_lists, "SOON_SECONDS", 0.05)
    lists = [router_says(a="loading"), router_says(a="loaded")]
    async with saying(*lists, model_path="", models_dir="/m"), linked() as gateway:
        await eventually(lambda: [a["status"]["value"] for a in facts(gateway).listing.data] == ["loaded"])


async def test_clients_that_want_to_know_more_ask_once_for_all_and_not_too_often(by_news_only, monkeypatch):
    lists = [router_says(a="unloaded"), router_says(a="unloaded", b="unloaded")]
    async with saying(*lists, model_path="", models_dir="/m") as server, linked() as gateway:
        await eventually(lambda: facts(gateway).offered == ("a",))
        await asyncio.gather(*(gateway.outside.read_models(now=True) for _ in range(20)))
        assert facts(gateway).offered == ("a", "b")
        assert len(server.list_calls) == 2
        monkeypatch.setattr(model_lists, "LEAST_SECONDS", 600.0)
        await gateway.outside.read_models()
        assert len(server.list_calls) == 2, "it just said so"
        monkeypatch.setattr(model_lists, "LEAST_SECONDS", 0.0)
        await gateway.outside.read_models(reload=True)
        assert server.list_calls[-1].startswith("GET /v1/models?reload=1 ")
        gateway.outside.models_changed("default")
        gateway.outside.models_changed("nobody")
        await eventually(lambda: len(server.list_calls) == 4)


async def test_a_client_that_comes_while_a_list_is_asked_for_is_not_told_the_old_one(
    by_news_only, monkeypatch
):
    monkeypatch.setattr(model_lists, "LEAST_SECONDS", 0.0)
    async with (
        saying(router_says(a="unloaded"), model_path="", models_dir="/m") as server,
        linked() as gateway,
    ):
        await eventually(lambda: facts(gateway).offered == ("a",))
        server.list_says_nothing = True
        first = asyncio.create_task(gateway.outside.read_models(now=True))
        await eventually(lambda: len(server.list_calls) == 2)
        server.list_says_nothing, server.lists = False, [router_says(b="unloaded")]
        second = asyncio.create_task(gateway.outside.read_models(now=True))
        server.drop_all()  # the first has no answer
        await asyncio.gather(first, second)
        assert facts(gateway).offered == ("b",)


async def test_a_server_of_a_single_model_need_not_be_asked_again(by_news_only):
    async with saying(QWEN) as server, linked() as gateway:
        await eventually(lambda: facts(gateway).listing.ids)
        await gateway.outside.read_models(reload=True)
        gateway.outside.models_changed("default")
        assert len(server.list_calls) == 1
        await db(LlamaServer.objects.update, model_path="", models_dir="/m")
        server.lists = [router_says(a="unloaded")]
        await gateway.outside.load()
        assert not facts(gateway).listing.ids, "what it said before has nothing to do with what it will be"
        await announce(Status.READY, 2, pid=12, url=facts(gateway).url)
        await eventually(lambda: facts(gateway).offered == ("a",))


async def test_a_server_that_does_not_answer_holds_nobody_up_for_long(by_news_only, monkeypatch):
    monkeypatch.setattr(model_lists, "PATIENCE_SECONDS", 0.05)
    async with (
        saying(router_says(a="unloaded"), model_path="", models_dir="/m") as server,
        linked() as gateway,
    ):
        await eventually(lambda: facts(gateway).offered == ("a",))
        server.list_says_nothing = True
        await gateway.outside.read_models()
        assert facts(gateway).offered == ("a",)


async def test_a_list_that_could_not_be_written_down_is_written_down_later(often, outage, monkeypatch):
    monkeypatch.setattr(model_lists, "AGAIN_SECONDS", 600.0)
    monkeypatch.setattr(survey, "keep_listing", outage.failing(survey.keep_listing))
    async with saying(QWEN), linked() as gateway:
        outage.lasts = True
        await announce(Status.READY, 2, pid=12, url=facts(gateway).url)
        await outage.has_been_noticed()
        await eventually(lambda: facts(gateway).listing.ids == ("qwen",))
        outage.lasts = False
        await eventually(lambda: facts(gateway).listing.ids == ("qwen",))
        found = []

        async def look():
            while not found:
                found.extend(await kept())
                await asyncio.sleep(0.02)

        await asyncio.wait_for(look(), DEADLINE)


async def test_a_mistake_of_ours_over_a_list_is_told(by_news_only, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("bug")

    monkeypatch.setattr(model_lists, "listing_of", broken)
    async with saying(QWEN), linked():
        await eventually(lambda: "bug" in caplog.text)
