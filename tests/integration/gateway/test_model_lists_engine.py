"""A real llama-server's list of models, of one model and of several."""

from __future__ import annotations

import shutil

import pytest
import requests

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge import model_lists
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_ready_server
from tests.integration.gateway.engines import engine, post
from tests.integration.gateway.linking import facts, linked

pytestmark = [pytest.mark.engine, pytest.mark.django_db(transaction=True)]


def values(gateway):
    return {entry["id"]: entry["status"]["value"] for entry in facts(gateway).listing.data}


async def test_a_router_s_models_are_known_as_they_come_go_and_are_loaded(tmp_path, often, monkeypatch):
    monkeypatch.setattr(model_lists, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(model_lists, "SOON_SECONDS", 0.1)
    models = tmp_path / "models"
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    for name in ("one", "two"):
        make_demo_model(models / f"{name}.gguf")
    with engine("llama-server", tmp_path, "--models-dir", str(models)) as running:
        # Taken over: nothing in its configuration says that it is a router.
        await db(make_ready_server, url=f"http://127.0.0.1:{running.port}", pid=11)
        async with linked() as gateway:
            await eventually(lambda: facts(gateway).offered == ("one", "two"))
            assert facts(gateway).is_router
            assert not {"args", "preset"} & set(facts(gateway).listing.data[0]["status"])
            assert post(running, "/models/load", {"model": "one"})[0] == 200
            await eventually(lambda: values(gateway) == {"one": "loaded", "two": "unloaded"})
            assert facts(gateway).listing.data[0]["meta"]["n_ctx"] > 0
            assert post(running, "/models/unload", {"model": "one"})[0] == 200
            await eventually(lambda: values(gateway) == {"one": "unloaded", "two": "unloaded"})
            shutil.copy(models / "two.gguf", models / "three.gguf")
            await gateway.outside.read_models(reload=True)
            assert facts(gateway).offered == ("one", "three", "two")


async def test_the_list_of_a_server_of_one_model_is_kept(tmp_path, often):
    with engine("llama-server", tmp_path, "-c", "1024") as running:
        await db(make_ready_server, url=f"http://127.0.0.1:{running.port}", pid=11)
        await db(LlamaServer.objects.update, model_path=str(tmp_path / "demo.gguf"))
        async with linked() as gateway:
            await eventually(lambda: facts(gateway).listing.data)
            entry = facts(gateway).listing.data[0]
            told = requests.get(f"http://127.0.0.1:{running.port}/v1/models", timeout=DEADLINE).json()
            assert {**entry, "created": 0} == {**told["data"][0], "created": 0}
            assert list(facts(gateway).listing.models) == told["models"]
            assert not facts(gateway).is_router
            assert facts(gateway).offered == ("default",)
