"""From the command to a server that is ready, or to words that say why not."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from pathlib import Path

import psutil
import pytest

from supervisor_app.engine.resolve import LAUNCHER
from tests.acceptance.conftest import ENGINE_ARGS

HOW_TO_GET_ONE = "https://github.com/ggml-org/llama.cpp"


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


def test_the_page_shows_it_ready(serving):
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


def test_a_relative_model_path_counts_from_where_it_was_started(plain):
    assert plain.status()["models"][0]["name"] == "mine.gguf"


def test_the_demo_runs_from_nothing(make_proxy, engine):
    proxy = make_proxy()
    shutil.rmtree(proxy.data_dir)
    (model,) = proxy.start("--demo").wait_for_status("ready")["models"]
    assert model["name"] == "demo.gguf"


# --- One that runs already -----------------------------------------------------------------------------


def start_existing(proxy):
    """Somebody else's llama-server on our port."""
    command = shutil.which("llama-server") or f"{sys.executable} -I {LAUNCHER}"
    port = proxy.engine_port
    flags = ["-m", proxy.config["llama_model_path"], "--host", "127.0.0.1", "--port", str(port), *ENGINE_ARGS]
    return proxy.beside(*command.split(), *flags, port=port)


@pytest.fixture(scope="module")
def adopting(make_shared, engine, model):
    """A supervisor that found a llama-server on its port; `.existing` is that one."""
    proxy = make_shared(llama_model_path=str(model))
    proxy.existing = start_existing(proxy)
    proxy.start().wait_for_status("ready")
    return proxy


def test_a_running_llama_server_is_adopted(adopting):
    status = adopting.status()
    assert (status["adopted"], status["pid"]) == (True, adopting.existing.pid)


def test_no_second_one_is_spawned_beside_an_adopted_one(adopting):
    assert not adopting.engines()
    assert not adopting.said("Spawning")


def test_the_models_of_an_adopted_one_are_listed(adopting):
    assert len(adopting.status()["models"]) == 1


def test_an_adopted_one_is_left_running_at_the_end(proxy):
    existing = start_existing(proxy)
    proxy.start(web=False).wait_for_status("ready", adopted=True)
    proxy.stop()
    assert existing.alive


def test_when_an_adopted_one_dies_our_own_is_spawned(proxy):
    existing = start_existing(proxy)
    proxy.start(web=False).wait_for_status("ready", adopted=True)
    existing.kill()
    assert proxy.wait_for_status("ready", adopted=False)["pid"] in psutil.pids()


# --- What cannot work: error at once -------------------------------------------------------------------


def test_a_missing_model_is_an_error_without_a_retry_that_says_what_to_do(proxy):
    proxy.configure(llama_model_path="./nowhere.gguf")
    status = proxy.start(web=False).wait_for_status("error", retries=0)
    assert status["failure"]["kind"] == "model_missing"
    assert "nowhere.gguf" in status["failure"]["detail"]
    assert "llama_model_path" in status["failure"]["hint"]


def test_it_starts_by_itself_when_the_model_appears(proxy, model):
    proxy.configure(llama_model_path="./late.gguf")
    proxy.start(web=False).wait_for_status("error")
    shutil.copy(model, proxy.directory / "late.gguf")
    proxy.wait_for_status("ready")


def test_what_is_no_model_is_an_error_that_says_so(proxy):
    (proxy.directory / "broken.gguf").write_bytes(b"<!doctype html><title>404 Not Found</title>")
    proxy.configure(llama_model_path="./broken.gguf")
    assert proxy.start(web=False).wait_for_status("error", retries=0)["failure"]["kind"] == "model_corrupt"


def test_a_truncated_model_starts_by_itself_when_its_download_ends(proxy, model):
    partial = proxy.directory / "partial.gguf"
    partial.write_bytes(model.read_bytes()[:400_000])
    proxy.configure(llama_model_path="./partial.gguf")
    proxy.start(web=False).wait_for_status("error")
    partial.write_bytes(model.read_bytes())
    proxy.wait_for_status("ready")


def test_a_flag_that_llama_server_refuses_is_named(proxy):
    proxy.configure(llama_server_args=["--frobnicate"])
    failure = proxy.start(web=False).wait_for_status("error", retries=0)["failure"]
    assert failure["kind"] == "bad_argument"
    assert "--frobnicate" in failure["detail"]


def test_mending_the_config_file_starts_it_again(proxy):
    proxy.configure(llama_server_args=["--frobnicate"])
    proxy.start(web=False).wait_for_status("error")
    proxy.configure(llama_server_args=ENGINE_ARGS)
    proxy.wait_for_status("ready")


@pytest.fixture(scope="module")
def engineless(make_shared):
    """A supervisor whose configured binary does not exist."""
    proxy = make_shared(llama_server_binary="/nowhere/llama-server")
    proxy.start().wait_for_status("error")
    return proxy


def test_without_its_binary_the_console_says_how_to_get_one(engineless):
    (line,) = engineless.said("[ENGINE]")
    assert "'/nowhere/llama-server' does not exist" in line
    assert HOW_TO_GET_ONE in line


def test_without_its_binary_the_status_says_how_to_get_one(engineless):
    failure = engineless.status()["failure"]
    assert failure["kind"] == "binary_missing"
    assert HOW_TO_GET_ONE in failure["hint"]


def test_without_its_binary_the_page_says_how_to_get_one(engineless):
    assert HOW_TO_GET_ONE in engineless.get("/").text


def test_it_starts_by_itself_when_the_binary_appears(fake):
    binary = Path(fake.config["llama_server_binary"])
    hidden = binary.rename(binary.with_name("not-yet"))
    fake.start(web=False).wait_for_status("error")
    hidden.rename(binary)
    fake.wait_for_status("ready")


# --- The port belongs to something else ----------------------------------------------------------------


def start_stranger(proxy):
    """A program that is no llama-server on our port."""
    port = proxy.engine_port
    return proxy.beside(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", port=port)


@pytest.fixture(scope="module")
def refused(make_shared):
    """A supervisor that came to an end without getting its port; `.failure` is what it said."""
    proxy = make_shared(max_retries=5)
    proxy.stranger = start_stranger(proxy)
    proxy.failure = proxy.start(web=False).wait_for_status("error", retries=0)["failure"]
    proxy.stop()
    return proxy


def test_a_port_that_a_stranger_holds_is_an_error_naming_it(refused):
    assert refused.failure["kind"] == "port_taken"
    assert str(refused.stranger.pid) in refused.failure["detail"]
    assert "http.server" in refused.failure["detail"]


def test_a_stranger_on_the_port_is_left_alone(refused):
    assert refused.stranger.alive


def test_it_starts_by_itself_when_the_port_is_free(proxy):
    stranger = start_stranger(proxy)
    proxy.start(web=False).wait_for_status("error")
    stranger.kill()
    proxy.wait_for_status("ready")


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


def test_a_second_supervisor_of_the_node_is_exit_4_naming_the_first(proxy):
    proxy.start(web=False).wait_for_status("ready")
    assert proxy.run("runsupervisor", "--no-web").wait() == 4
    (line,) = proxy.said("Another supervisor holds node 'local'")
    assert f"pid {proxy.supervisor.pid}." in line
    assert proxy.status()["status"] == "ready"
