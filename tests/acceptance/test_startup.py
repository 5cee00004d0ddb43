"""From the command to a server that is ready, or to words that say why not."""

from __future__ import annotations

import re
import shutil
import socket

import pytest


@pytest.fixture(scope="session")
def template():
    """None: here each start is one from nothing, as its user has it."""


# --- A normal start ------------------------------------------------------------------------------------


def test_a_normal_start_spawns_one_llama_server(serving):
    assert [process.pid for process in serving.engines()] == [serving.status()["pid"]]


def test_the_model_is_listed_with_the_size_of_its_file(serving, model):
    (listed,) = serving.status()["models"]
    assert listed["size"] == model.stat().st_size


def test_the_model_is_listed_as_the_contract_says(serving, model):
    (listed,) = serving.status()["models"]
    assert listed.keys() == {"id", "name", "size", "type", "modified_at", "status"}


def test_the_status_counts_no_retries_and_no_error(serving):
    status = serving.status()
    assert (status["retries"], status["lastError"], status["failure"]) == (0, None, None)


@pytest.mark.parametrize(
    "line",
    [
        r"\[INFO\] 🚀 \[LLAMA\] Starting Llama service\.\.\.",
        r"\[INFO\] 🚀 Spawning llama-server with args: -m .*demo\.gguf --host 127\.0\.0\.1 --port \d+",
        r"\[INFO\] ✅ Server ready after \d+ checks?",
        r"\[INFO\] 📦 Loaded 1 model",
        r"\[INFO\] ✅ \[LLAMA\] Service ready with 1 model",
    ],
)
def test_the_console_says_each_step_once(serving, line):
    assert len(re.findall(rf"(?m)^\d\d:\d\d:\d\d {line}", serving.console)) == 1


def test_the_history_has_one_open_run_that_reached_ready(serving):
    (run,) = serving.runs()
    assert run["ready_at"]
    assert not run["ended_at"]


def test_the_page_shows_a_server_that_is_ready(serving):
    assert 'data-status="ready"' in serving.get("/").text


@pytest.fixture(scope="module")
def plain(make_shared, engine, model):
    """Little is configured: no host, and a model that lies where the supervisor is started."""
    proxy = make_shared(llama_model_path="./mine.gguf")
    proxy.configure(llama_server_host=None)
    shutil.copy(model, proxy.directory / "mine.gguf")
    proxy.start(web=False).wait_for_status("ready")
    return proxy


def test_the_default_host_is_localhost(plain):
    assert plain.status()["url"] == f"http://localhost:{plain.engine_port}"


def test_a_relative_model_path_counts_from_the_folder_of_the_command(plain):
    assert plain.status()["models"][0]["name"] == "mine.gguf"


def test_the_demo_runs_from_nothing(make_proxy, engine):
    proxy = make_proxy()
    shutil.rmtree(proxy.data_dir)
    (model,) = proxy.start("--demo").wait_for_status("ready")["models"]
    assert model["name"] == "demo.gguf"


# --- What stops the start ------------------------------------------------------------------------------

MISTAKES = {
    "unknown key": ('{"llama_server_prot": 8134}', "llama_server_prot"),
    "wrong type": ('{"llama_server_port": "8134"}', "it must be a whole number"),
    "port out of range": ('{"llama_server_port": 70000}', "70000"),
    "not JSON": ("{llama_server_port: 8134}", "is not JSON"),
    "not an object": ("[]", "one JSON object"),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_config_mistake_is_one_line_and_exit_2(make_proxy, text, said):
    proxy = make_proxy()
    proxy.config_file.write_text(text)
    assert proxy.start(web=False).supervisor.wait() == 2
    (line,) = proxy.console.splitlines()
    assert proxy.config_file.name in line
    assert said in line
    assert not proxy.family()


def test_a_web_address_in_use_is_exit_2(proxy):
    with socket.create_server(("127.0.0.1", proxy.web_port)):
        assert proxy.start().supervisor.wait() == 2
    assert len(proxy.said(f"http://127.0.0.1:{proxy.web_port} cannot be listened on")) == 1
    assert not proxy.said("Spawning")
