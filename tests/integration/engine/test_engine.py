"""Both engines side by side: what the bundled one must do as llama-server does it."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from supervisor_app.core.status import FailureKind
from supervisor_app.engine.demo_model import make_demo_model
from tests.deadline import DEADLINE
from tests.integration.engine.running import BAD_FLAGS, command_of

pytestmark = pytest.mark.engine


@pytest.fixture(params=["llama-server", "bundled"])
def engine(request):
    command_of(request.param)
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    return str(make_demo_model(tmp_path_factory.mktemp("demo") / "demo.gguf"))


def test_the_bundled_engine_serves_like_llama_server(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-a", "demo", "--metrics")
    server.until(200)
    chat = json.loads(server.get("/v1/chat/completions", {"messages": [], "max_tokens": 5})[1])
    assert chat["usage"]["completion_tokens"] == 5
    assert json.loads(server.get("/v1/models")[1])["data"][0]["id"] == "demo"
    props = json.loads(server.get("/props")[1])
    assert (props["total_slots"], props["model_path"]) == (4, model)
    assert props["default_generation_settings"]["n_ctx"] == 2048
    assert server.get("/slots")[0] == 200
    assert "llamacpp:n_decode_total" in server.get("/metrics")[1]
    assert server.get("/api/models")[0] == 404


def test_an_engine_says_503_while_it_loads(start, engine, large_model):
    server = start(engine, "-m", large_model, "-t", "1", "-lm", "none")
    assert 503 in server.until(200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_one_with_code_0(start, engine, model, number):
    server = start(engine, "-m", model, "-t", "1")
    server.until(200)
    server.until_it_catches(number)
    server.until_it_works()
    server.process.send_signal(number)
    assert server.ended() == 0
    assert any("cleaning up before exit..." in line for line in server.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_kills_a_loading_one(start, engine, large_model, number):
    server = start(engine, "-m", large_model, "-t", "1", "-lm", "none")
    server.until(503)
    server.process.send_signal(number)
    assert server.ended() == -number


def test_the_key_comes_from_the_environment(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", env={"LLAMA_API_KEY": "one,two"})
    server.until(200)
    assert server.get("/v1/models")[0] == 401
    assert server.get("/v1/models", Authorization="Bearer two")[0] == 200
    assert server.get("/v1/models", **{"X-Api-Key": "one"})[0] == 200


def test_flags_have_environment_variables(start, engine, model):
    env = {"LLAMA_ARG_MODEL": model, "LLAMA_ARG_N_PARALLEL": "2", "LLAMA_ARG_NO_JINJA": "1"}
    env |= {"LLAMA_ARG_CTX_SIZE": "512", "LLAMA_ARG_ENDPOINT_SLOTS": "off", "LLAMA_ARG_THREADS": "1"}
    server = start(engine, "-c", "1024", env=env)
    server.until(200)
    props = json.loads(server.get("/props")[1])
    assert props["total_slots"] == 2
    assert props["default_generation_settings"]["n_ctx"] == 512  # the flag wins: 1024 for two slots
    assert not props["endpoint_slots"]


def test_port_0_is_any_port_and_the_log_names_it(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "--port", "0")
    end = time.monotonic() + DEADLINE
    while not (found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", "\n".join(server.lines))):
        assert time.monotonic() < end, server.lines
        time.sleep(0.01)
    server.port = int(found[1])
    server.until(200)


@pytest.mark.parametrize(("flags", "line"), BAD_FLAGS)
def test_a_bad_flag_ends_both_engines_with_the_same_line(start, engine, flags, line):
    server = start(engine, "-m", "none.gguf", *flags)
    assert server.ended() == 1
    assert server.lines[0] == line
    failure = server.failure()
    assert (failure.kind, failure.detail) == (FailureKind.BAD_ARGUMENT, line)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "LLAMA_ARG_CTX_SIZE",
            "many",
            'error while handling environment variable "LLAMA_ARG_CTX_SIZE": stoi',
        ),
        (
            "LLAMA_ARG_JINJA",
            "maybe",
            'error while handling environment variable "LLAMA_ARG_JINJA": invalid boolean value',
        ),
    ],
)
def test_a_bad_environment_variable_ends_both_engines_with_the_same_line(start, engine, name, value, line):
    server = start(engine, "-m", "none.gguf", env={name: value})
    assert server.ended() == 1
    assert server.lines[0] == line


def without_tail(model, path):
    data = Path(model).read_bytes()
    path.write_bytes(data[:-1000])


def with_other_architecture(model, path):
    data = Path(model).read_bytes()
    name = b"general.architecture"
    start = data.index(name) + len(name)
    path.write_bytes(data[:start] + data[start:].replace(b"llama", b"llamq", 1))


BROKEN_MODELS = [
    ("missing", lambda model, path: None, FailureKind.MODEL_MISSING),
    ("folder", lambda model, path: path.mkdir(), FailureKind.MODEL_CORRUPT),
    ("empty", lambda model, path: path.touch(), FailureKind.MODEL_CORRUPT),
    ("garbage", lambda model, path: path.write_bytes(b")F\xff\xfe" * 999), FailureKind.MODEL_CORRUPT),
    ("header", lambda model, path: path.write_bytes(b"GGUF\3\0\0\0"), FailureKind.MODEL_CORRUPT),
    ("truncated", without_tail, FailureKind.MODEL_CORRUPT),
    ("architecture", with_other_architecture, FailureKind.MODEL_UNSUPPORTED),
]


@pytest.mark.parametrize(("name", "breaks", "kind"), BROKEN_MODELS, ids=[case[0] for case in BROKEN_MODELS])
def test_a_model_that_cannot_load_is_diagnosed(start, engine, model, tmp_path, name, breaks, kind):
    breaks(model, tmp_path / "x.gguf")
    server = start(engine, "-m", str(tmp_path / "x.gguf"), "-t", "1")
    assert server.ended() == 1
    assert server.failure().kind is kind
    assert server.failure().permanent
    assert any("exiting due to model loading error" in line for line in server.lines)


@pytest.mark.parametrize(
    ("flags", "limit_kib", "words"),
    [
        (["-lm", "none"], 600_000, "it needs 53"),
        (["-lm", "mmap"], 500_000, "mmap failed"),
        (["-c", "1000000000"], 4_000_000, "std::bad_alloc"),
    ],
    ids=["weights", "mmap", "context"],
)
def test_too_little_memory_is_diagnosed(start, engine, large_model, flags, limit_kib, words):
    server = start(engine, "-m", large_model, "-t", "1", *flags, limit_kib=limit_kib)
    failure = server.failure()
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert words in failure.detail


def test_a_setting_that_does_not_fit_the_model_is_diagnosed(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-ctv", "q4_0", "-fa", "off")
    assert server.failure().kind is FailureKind.BAD_ARGUMENT


def test_an_assertion_is_diagnosed_as_a_crash(start, engine, model):
    server = start(engine, "-m", model, "-t", "1", "-b", "0")
    failure = server.failure()
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert "GGML_ASSERT" in failure.detail


def test_a_taken_port_ends_an_engine_before_it_loads(start, engine, large_model):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = start(engine, "-m", large_model, "--port", str(port))
        failure = server.failure()
    assert server.ended() == 1
    assert failure.kind is FailureKind.PORT_TAKEN
    assert failure.detail == f"could not listen on 127.0.0.1 port {port}"
    assert not failure.permanent
