"""Starts that find something in their way: a server that runs already, a configuration that cannot work, a taken node."""

from __future__ import annotations

import shutil
import sys

import psutil
import pytest

from supervisor_app.engine.resolve import LAUNCHER
from tests.acceptance.conftest import ENGINE_ARGS

HOW_TO_GET_ONE = "https://github.com/ggml-org/llama.cpp"

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
    proxy.configure(retry_backoff_ms=100)
    proxy.start(web=False).wait_for_status("ready", adopted=True)
    existing.kill()
    assert proxy.wait_for_status("ready", adopted=False)["pid"] in psutil.pids()


# --- What cannot work: error at once, ready as soon as it is mended ------------------------------------


def start_stranger(proxy):
    """A program that is no llama-server on our port."""
    port = proxy.engine_port
    return proxy.beside(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", port=port)


@pytest.fixture(scope="module")
def failing(make_shared, engine, model):
    """Several that cannot start, each for its own reason; `.told` is the status that it came to."""

    def make(**config):
        return make_shared(**{"llama_model_path": str(model), "llama_server_args": ENGINE_ARGS, **config})

    proxies = {
        "no model": make(llama_model_path="./late.gguf"),
        "a web page": make(llama_model_path="./broken.gguf"),
        "a bad flag": make(llama_server_args=["--frobnicate"]),
        "a stranger": make(),
        "no binary": make(llama_server_binary="./llama-server"),
    }
    (proxies["a web page"].directory / "broken.gguf").write_bytes(b"<!doctype html><title>Not Found</title>")
    proxies["a stranger"].stranger = start_stranger(proxies["a stranger"])
    for proxy in proxies.values():
        proxy.start(web=False)
    for proxy in proxies.values():
        proxy.told = proxy.wait_for_status("error")
    return proxies


@pytest.fixture(scope="module")
def mended(failing, model):
    """The same, after what was wrong was put right."""
    shutil.copy(model, failing["no model"].directory / "late.gguf")
    failing["a bad flag"].configure(llama_server_args=ENGINE_ARGS)
    failing["a stranger"].stranger.kill()
    failing["no binary"].write_script()
    return failing


@pytest.mark.parametrize(
    ("what", "kind", "named"),
    [
        ("no model", "model_missing", "late.gguf"),
        ("a web page", "model_corrupt", "broken.gguf"),
        ("a bad flag", "bad_argument", "--frobnicate"),
        ("a stranger", "port_taken", "(python"),
        ("no binary", "binary_missing", "llama-server"),
    ],
)
def test_a_configuration_that_cannot_work_is_named_and_costs_no_retry(failing, what, kind, named):
    told = failing[what].told
    assert (told["failure"]["kind"], told["retries"]) == (kind, 0)
    assert named in told["failure"]["detail"]
    assert told["failure"]["hint"]
    assert not failing[what].said("🔄 Retry")


def test_a_stranger_on_the_port_is_named_by_its_pid(failing):
    stranger = failing["a stranger"]
    assert f"pid {stranger.stranger.pid} " in stranger.told["failure"]["detail"]


@pytest.mark.parametrize("what", ["no model", "a bad flag", "a stranger", "no binary"])
def test_a_server_whose_configuration_was_mended_starts_by_itself(mended, what):
    mended[what].wait_for_status("ready")


def test_a_stranger_on_the_port_is_left_alone(make_proxy):
    proxy = make_proxy(max_retries=5)
    stranger = start_stranger(proxy)
    proxy.start(web=False).wait_for_status("error")
    proxy.stop()
    assert stranger.alive


@pytest.fixture(scope="module")
def engineless(make_shared):
    """Pages and all, with a configured binary that does not exist."""
    proxy = make_shared(llama_server_binary="/nowhere/llama-server")
    proxy.start().wait_for_status("error")
    return proxy


def test_the_console_says_how_to_get_a_missing_engine(engineless):
    (line,) = engineless.said("[ENGINE]")
    assert "'/nowhere/llama-server' does not exist" in line
    assert HOW_TO_GET_ONE in line


def test_the_status_says_how_to_get_a_missing_engine(engineless):
    assert HOW_TO_GET_ONE in engineless.status()["failure"]["hint"]


def test_the_page_says_how_to_get_a_missing_engine(engineless):
    assert HOW_TO_GET_ONE in engineless.get("/").text


# --- A node that is taken ------------------------------------------------------------------------------


@pytest.mark.parametrize("web", [True, False])
def test_a_supervisor_whose_node_is_taken_ends_with_exit_4_and_leaves_its_server(fake, web):
    pid = fake.start(web=web).wait_for_status("ready")["pid"]
    fake.write("UPDATE supervisor_app_nodelease SET token = 'theirs', holder = '77 5 another-boot gpu-2'")
    assert fake.supervisor.wait() == 4
    assert len(fake.said("[ERROR] ❌ [NODE] pid 77 on gpu-2 has node 'local' now")) == 1
    assert len(fake.said("CommandError: Another supervisor holds node 'local': pid 77 on gpu-2.")) == 1
    assert [process.pid for process in fake.engines()] == [pid]


def test_a_node_is_free_for_another_host_once_its_supervisor_has_ended(fake):
    fake.start(web=False).wait_for_status("ready")
    assert fake.stop() == 0
    assert fake.query("SELECT * FROM supervisor_app_nodelease") == []
