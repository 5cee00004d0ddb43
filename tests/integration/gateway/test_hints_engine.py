"""What is read from a request is what the real server goes by."""

from __future__ import annotations

import json

import pytest

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.gateway.hints import hints_of, model_in_prefix
from tests.integration.gateway.engines import ENGINES, engine, post

pytestmark = pytest.mark.engine

CHAT = "/v1/chat/completions"
MISSING = "model name is missing from the request"
FORM = "multipart/form-data; boundary=bound"


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tmp_path_factory):
    with engine(request.param, tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.mark.parametrize(
    "fields",
    [
        b'"max_tokens":3,"n_predict":2',
        b'"max_completion_tokens":4,"max_tokens":3',
        b'"n_predict":null,"max_tokens":3',
        b'"max_tokens":3,"max_tokens":2',
        b'"max_tokens":2.7',
    ],
)
def test_the_limit_is_the_one_that_the_server_keeps(server, fields):
    body = b'{"messages":[{"role":"user","content":"hi"}],%b}' % fields
    status, answer = post(server, CHAT, body)
    assert status == 200
    assert json.loads(answer)["usage"]["completion_tokens"] == hints_of(body).max_tokens


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """Knows which model is meant, and says so because it has none of that name."""
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    directory = tmp_path_factory.mktemp("router")
    make_demo_model(directory / "models" / "demo.gguf")
    with engine("llama-server", directory, "--models-dir", str(directory / "models")) as running:
        yield running


def model_that_was_meant(status, answer):
    assert status == 400
    message = json.loads(answer)["error"]["message"]
    return None if message == MISSING else message.removeprefix("model '").removesuffix("' not found")


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"\\"model\\":\\"b\\""}],"model":"a"}',
        b'{"metadata":{"model":"b"},"model":"a"}',
        b'{"mod\\u0065l":"a b"}',
        b'{"model":7}',
        b'{"model":["a"]}',
        b"{}",
    ],
)
def test_the_model_is_the_one_that_the_server_takes(router, body):
    meant = model_that_was_meant(*post(router, CHAT, body))
    assert hints_of(body).model == model_in_prefix(body) == meant


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'\xef\xbb\xbf{"model":"a"}'])
def test_and_so_it_is_where_only_the_whole_body_tells(router, body):
    assert hints_of(body).model == model_that_was_meant(*post(router, CHAT, body))


def part(head, value):
    return b"--bound\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head, value)


@pytest.mark.parametrize(
    "parts",
    [
        part(b'name="model"', b"a"),
        part(b"name=model", b"a"),
        part(b'name="file"; filename="name=model"', b'\r\nname="model"\r\n\r\nb')
        + part(b'name="model"', b"a"),
        part(b'name="model"', b"a") + part(b'name="model"', b"b"),
    ],
)
def test_the_model_of_a_form_is_the_one_that_the_server_takes(router, parts):
    body = parts + b"--bound--\r\n"
    meant = model_that_was_meant(*post(router, "/v1/audio/transcriptions", body, FORM))
    assert hints_of(body, FORM.encode()).model == meant


@pytest.mark.parametrize("query", ["model=a", "model=a&model=b", "model=%61+b", "x=model"])
def test_the_model_of_a_query_is_the_one_that_the_server_takes(router, query):
    status, answer = router.get(f"/props?{query}")
    assert hints_of(b"", query=query.encode()).model == (
        model_that_was_meant(status, answer) if status == 400 else None
    )


def test_with_a_body_the_query_does_not_count(router):
    assert (
        model_that_was_meant(*post(router, f"{CHAT}?model=b", b"{}"))
        == hints_of(b"{}", query=b"model=b").model
    )
