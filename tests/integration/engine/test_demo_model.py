from __future__ import annotations

import importlib.util
import json
import os
import re

import pytest

from supervisor_app.engine.demo_model import CONTEXT, EngineExtraMissingError, make_demo_model
from tests.integration.engine.running import Running, command_of

WORDS = re.compile(r"[ a-z.,]+")
QUESTION = [{"role": "user", "content": "Who are you, llama? 🦙"}]


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="pip install '.[engine]'")


@pytest.fixture(params=["llama-server", "bundled"])
def server(request, gguf, tmp_path):
    model = make_demo_model(tmp_path / "demo.gguf")
    running = Running(command_of(request.param), tmp_path / "engine.log", "-m", str(model), "-t", "1")
    try:
        running.until(200)
        yield running
    finally:
        running.process.kill()
        running.process.wait(10)


def test_remains_of_a_killed_process_that_wrote_the_demo_model_go(gguf, tmp_path):
    (tmp_path / f".demo.gguf.{2**22 + 1}.part").write_text("half")
    others = tmp_path / f".demo.gguf.{os.getppid()}.part"
    others.write_text("somebody is still at it")
    model = make_demo_model(tmp_path / "demo.gguf")
    assert set(tmp_path.iterdir()) == {model, others}


@pytest.mark.engine
def test_the_demo_model_answers_in_words(server):
    body = {"messages": QUESTION, "max_tokens": 40}
    answer = json.loads(server.get("/v1/chat/completions", body)[1])
    assert WORDS.fullmatch(answer["choices"][0]["message"]["content"])
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.engine
@pytest.mark.parametrize("temperature", [0, 0.8, 2])
def test_an_answer_has_as_many_tokens_as_asked_for(server, temperature):
    body = {"messages": QUESTION, "max_tokens": 300, "temperature": temperature}
    answer = json.loads(server.get("/v1/chat/completions", body)[1])
    assert answer["usage"]["completion_tokens"] == 300
    assert WORDS.fullmatch(answer["choices"][0]["message"]["content"])


@pytest.mark.engine
def test_the_demo_model_without_a_limit_talks_until_the_context_is_full(server):
    answer = json.loads(server.get("/v1/chat/completions", {"messages": QUESTION})[1])
    assert answer["usage"]["total_tokens"] == CONTEXT


@pytest.mark.engine
def test_the_demo_model_streams(server):
    body = {"messages": QUESTION, "max_tokens": 10, "stream": True}
    events = re.findall(r"^data: (.*)$", server.get("/v1/chat/completions", body)[1], re.MULTILINE)
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert len([delta for delta in deltas if delta]) == 10


@pytest.mark.engine
def test_the_demo_model_tokenizes_any_text_and_back(server):
    text = "Hello llama, grüße 🦙"
    tokens = json.loads(server.get("/tokenize", {"content": text})[1])["tokens"]
    assert tokens
    assert json.loads(server.get("/detokenize", {"tokens": tokens})[1])["content"].strip() == text


def test_the_same_bytes_every_time(gguf, tmp_path):
    first, second = make_demo_model(tmp_path / "a.gguf"), make_demo_model(tmp_path / "b.gguf")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 2 * 2**20
    assert first.stat().st_mode & 0o777 == 0o600


def test_an_identical_file_is_kept_and_another_is_replaced(gguf, tmp_path):
    path = make_demo_model(tmp_path / "new" / "folder" / "demo.gguf")
    before = path.stat()
    assert make_demo_model(path) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    whole = path.read_bytes()
    path.write_bytes(b"half a mod")
    make_demo_model(path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_left_behind_when_the_demo_model_cannot_be_written(gguf, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space left"):
        make_demo_model(tmp_path / "demo.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
@pytest.mark.parametrize("name", ["llama-server", "bundled"])
def test_padding_makes_the_demo_model_larger_and_changes_no_answer(gguf, tmp_path, name):
    command = command_of(name)
    plain, padded = make_demo_model(tmp_path / "a.gguf"), make_demo_model(tmp_path / "b.gguf", padding_mb=20)
    assert 20 * 2**20 < padded.stat().st_size < 48 * 2**20
    answers = []
    for model in (plain, padded):
        running = Running(command, tmp_path / f"{model.name}.log", "-m", str(model), "-t", "1")
        try:
            running.until(200)
            body = {"messages": QUESTION, "max_tokens": 30, "temperature": 0}
            answer = json.loads(running.get("/v1/chat/completions", body)[1])
            answers.append(answer["choices"][0]["message"]["content"])
        finally:
            running.process.kill()
            running.process.wait(10)
    assert answers[0] == answers[1]


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineExtraMissingError, match=r"pip install '\.\[engine\]'"):
        make_demo_model(tmp_path / "demo.gguf")
    assert list(tmp_path.iterdir()) == []
