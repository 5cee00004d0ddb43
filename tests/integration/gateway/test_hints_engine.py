"""What is read from a request is what the real server goes by."""

from __future__ import annotations

import json
from contextlib import suppress
from http.client import HTTPConnection

import pytest
import requests

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.gateway.http.heads import BadHeadError
from supervisor_app.gateway.http.request_heads import read_request
from supervisor_app.gateway.llama.hints import hints_of, hints_of_beginning, hints_of_query
from tests.deadline import DEADLINE
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


TOKENIZE = "/tokenize"


def answers_at(server, target):
    """To this target, down to the byte."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    try:
        connection.request("POST", target, b'{"content":"hi"}', {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.mark.parametrize(
    "target",
    [
        "/tokenize",
        "/t%6Fkeniz%65",
        "%2ftokenize",
        "/tokenize?a#b",
        "/tokenize%3Fa",
        "/tokenize%23",
        "/%2574okenize",
        "/tokenize+",
        "//tokenize",
        "/./tokenize",
        "/%2e/tokenize",
        "/tokenize%2F",
        "/TOKENIZE",
        "/tokenize#a",
        "/t%u006fkenize",
        "/tokenize%00",
        "/tokenize%",
        "/tokeniz%C1%A5",
    ],
)
def test_the_path_is_the_one_that_the_server_reads_or_none_at_all(server, target):
    with suppress(BadHeadError):
        head, _ = read_request(f"POST {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (head.path == TOKENIZE) == answers_at(server, target)


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
    assert hints_of(body).model == hints_of_beginning(body).model == meant


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'\xef\xbb\xbf{"model":"a"}'])
def test_the_model_is_the_one_that_only_the_whole_body_tells(router, body):
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


MANY = [part(b'name="x"', b"")] * 64


@pytest.mark.parametrize(
    "parts",
    [
        [part(b'name="model"; filename="f"', b"a"), *MANY, part(b'name="model"', b"b")],
        [part(b'name="x"\r\nContent-Disposition: form-data; name="model"', b"b")],
        [b"preamble\r\n", part(b'name="model"', b"b")],
    ],
)
def test_a_model_read_from_an_odd_form_is_never_another_one_that_is_certain(router, parts):
    body = b"".join(parts) + b"--bound--\r\n"
    assert model_that_was_meant(*post(router, "/v1/audio/transcriptions", body, FORM)) == "b"
    hints = hints_of(body, FORM.encode())
    assert hints.model == "b" or hints.doubt


def asked_for_props(router, query, **sent):
    url = f"http://127.0.0.1:{router.port}/props?{query}"
    answer = requests.get(url, timeout=DEADLINE, **sent)
    return model_that_was_meant(answer.status_code, answer.content) if answer.status_code == 400 else None


@pytest.mark.parametrize("query", ["model=a", "model=a&model=b", "model=%61+b", "mod%65l=a", "x=model"])
def test_the_model_of_a_query_is_the_one_that_the_server_takes(router, query):
    assert hints_of_query(query).model == asked_for_props(router, query)


def test_a_query_that_the_server_reads_otherwise_is_in_doubt(router):
    query = "model=a&model=b&model=a"
    assert asked_for_props(router, query) == "b"
    assert hints_of_query(query).doubt


def test_the_query_of_a_get_counts_and_its_body_only_as_one_more_query(router):
    assert asked_for_props(router, "model=b", json={"model": "a"}) == "b"
    assert asked_for_props(router, "model=b", data={"model": "a"}) == "a"


@pytest.mark.parametrize("body", [b"{}", b'{"model":"a"}'])
def test_only_the_body_of_a_post_counts(router, body):
    assert model_that_was_meant(*post(router, f"{CHAT}?model=b", body)) == hints_of(body).model


def test_the_server_reads_more_levels_of_a_body_than_we_do(router):
    body = b'{"model":"a","x":%b}' % (b"[" * 2000 + b"]" * 2000)
    assert model_that_was_meant(*post(router, CHAT, body)) == "a"
    assert hints_of(body).model is None
