"""Lists of models of many shapes, and the model that a server says it runs."""

from __future__ import annotations

import pytest

from supervisor_app.core.machine.probe import read_models
from supervisor_app.core.ports import ProbeError
from supervisor_app.core.shortage import LateError
from tests.integration.core.answering import http, probe, server, spec_for

__all__ = ["probe"]  # fixtures


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
