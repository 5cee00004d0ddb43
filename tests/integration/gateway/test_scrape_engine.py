"""A real router's metrics: those of each model that is loaded, and none is loaded for them."""

from __future__ import annotations

import pytest
import requests

from supervisor_app.core.status import Status
from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.facts import ServerFacts
from supervisor_app.gateway.servers.scrape import metrics_of
from tests.deadline import DEADLINE
from tests.integration.gateway.engines import engine, post
from tests.unit.gateway.test_metrics import samples

pytestmark = pytest.mark.engine

TOKENS = "llamacpp:tokens_predicted_total"


@pytest.fixture(params=[["--metrics"], []], ids=["with metrics", "without"])
def router(request, tmp_path):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    for name in ("asked", "asked too", "idle"):
        make_demo_model(tmp_path / "models" / f"{name}.gguf")
    with engine(
        "llama-server", tmp_path, "--models-dir", str(tmp_path / "models"), *request.param
    ) as running:
        running.has_metrics = bool(request.param)
        yield running


async def test_each_model_that_is_loaded_tells_its_own_and_no_other_is_loaded(router):
    for model, tokens in (("asked", 3), ("asked too", 2)):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
        assert post(router, "/v1/chat/completions", body)[0] == 200
    url = f"http://127.0.0.1:{router.port}"
    facts = ServerFacts(name="default", status=Status.READY, url=url, offered=("asked", "asked too", "idle"))
    backend = Backend(facts, Limits())
    told = samples(await metrics_of(backend))
    backend.close()
    found = {(labels["server"], labels["model"]): tokens for labels, tokens in told.get(TOKENS, [])}
    assert found == ({("default", "asked"): 3, ("default", "asked too"): 2} if router.has_metrics else {})
    models = requests.get(f"{url}/models", timeout=DEADLINE).json()["data"]
    assert [each["id"] for each in models if each["status"]["value"] != "unloaded"] == ["asked", "asked too"]
