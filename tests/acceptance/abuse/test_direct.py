"""llama-server's own port is no way round the gateway's keys, turns and quarantine."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
import requests

from tests.acceptance.abuse.impostor import SOMEBODY, impostor, needs_root
from tests.acceptance.children import listens
from tests.acceptance.conftest import ENGINE_ARGS
from tests.deadline import DEADLINE
from tests.ports import free_port

BODY = {"prompt": "Hi", "n_predict": 2}


def post(url, **options):
    return requests.post(f"{url}/completion", json=BODY, timeout=DEADLINE, **options)


def key_of(proxy):
    return proxy.engine_headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def closed(make_proxy, engine, model):
    """A proxy with the real engine and no key said anywhere."""
    proxy = make_proxy(
        llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, "--metrics"], retry_backoff_ms=50
    )
    proxy.start().wait_for_status("ready")
    return proxy


def test_a_server_computes_nothing_without_its_key_and_the_gateway_goes_on(closed):
    assert post(closed.engine_url).status_code == 401
    assert requests.get(f"{closed.engine_url}/slots", timeout=DEADLINE).status_code == 401
    assert requests.get(f"{closed.engine_url}/health", timeout=DEADLINE).ok
    assert post(closed.engine_url, headers=closed.engine_headers).ok
    assert post(closed.gateway_url).ok
    assert "llamacpp:" in requests.get(f"{closed.gateway_url}/metrics", timeout=DEADLINE).text
    assert [model["id"] for model in closed.status()["models"]]
    key = key_of(closed)
    assert key not in closed.console
    assert key not in (closed.data_dir / "logs" / "default.log").read_text()
    assert key not in closed.get("/servers/default/").text
    assert key not in closed.get("/api/servers/default/").text
    assert key in closed.login("boss").get(f"{closed.url}/servers/default/", timeout=DEADLINE).text


PAGE = "https://evil.example"
HOME = "http://localhost:3000"


def test_a_foreign_page_reads_nothing_of_a_server_and_pages_of_the_gateway_go_on(closed):
    for path in ("/health", "/v1/models"):
        answer = requests.get(closed.engine_url + path, headers={"Origin": PAGE}, timeout=DEADLINE)
        assert answer.headers.get("Access-Control-Allow-Origin") not in (PAGE, "*")
    for stream in (False, True):
        body = {**BODY, "stream": stream}
        answer = requests.post(
            f"{closed.gateway_url}/completion", json=body, headers={"Origin": HOME}, timeout=DEADLINE
        )
        assert answer.headers["Access-Control-Allow-Origin"] == HOME
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_the_key_of_a_server_stays_over_crashes_and_over_the_supervisor(closed):
    key, old = key_of(closed), closed.status()["pid"]
    os.kill(old, signal.SIGKILL)
    closed.wait_for_new_pid(old)
    assert post(closed.engine_url, headers={"Authorization": f"Bearer {key}"}).ok
    closed.supervisor.kill()
    closed.start().wait_for_status("ready")
    assert key_of(closed) == key
    closed.wait_for("the gateway listens", lambda: listens(closed.gateway_port))
    assert post(closed.gateway_url).ok


def test_no_two_servers_have_the_same_key(closed):
    closed.server("other", port=free_port(), desired_running=False)
    keys = [row["own_key"] for row in closed.query("SELECT own_key FROM supervisor_app_llamaserver")]
    assert len(set(keys)) == len(keys) == 2
    assert all(len(key) > 40 for key in keys)


def test_a_server_with_an_empty_key_is_open_and_said_to_be(make_proxy, engine, model):
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, llama_api_key="")
    proxy.start().wait_for_status("ready")
    assert post(proxy.engine_url).ok
    assert (
        "is given no key" in proxy.login("boss").get(f"{proxy.url}/servers/default/", timeout=DEADLINE).text
    )


def test_a_server_that_somebody_else_started_stays_as_it_is(make_proxy, engine, model):
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
    where = ["--host", "127.0.0.1", "--port", str(proxy.engine_port)]
    with subprocess.Popen(
        ["llama-server", "-m", str(model), *where, *ENGINE_ARGS], stderr=subprocess.DEVNULL
    ):
        status = proxy.wait_for("it listens", lambda: _is_healthy(proxy.engine_url))
        status = proxy.start().wait_for_status("ready")
        assert status["adopted"]
        assert post(proxy.engine_url).ok
        assert post(proxy.gateway_url).ok
        os.kill(status["pid"], signal.SIGKILL)
    proxy.wait_for_new_pid(status["pid"])
    assert post(proxy.engine_url).status_code == 401, "ours has a key"
    assert post(proxy.gateway_url).ok


def test_an_adopted_server_with_another_model_tells_nothing_of_the_configured_file(
    make_proxy, engine, model, tmp_path
):
    configured = tmp_path / "configured.gguf"
    configured.write_bytes(model.read_bytes() + bytes(1000))
    proxy = make_proxy(llama_model_path=str(configured), llama_server_args=ENGINE_ARGS)
    where = ["--host", "127.0.0.1", "--port", str(proxy.engine_port)]
    with subprocess.Popen(
        ["llama-server", "-m", str(model), *where, *ENGINE_ARGS], stderr=subprocess.DEVNULL
    ):
        proxy.wait_for("it listens", lambda: _is_healthy(proxy.engine_url))
        status = proxy.start().wait_for_status("ready")
        (warning,) = [each for each in status["warnings"] if "Restart" in each]
        assert str(model) in warning
        assert str(configured) in warning
        (served,) = status["models"]
        assert served["size"] not in (None, configured.stat().st_size)
        assert served["modified_at"] is None
        proxy.llama("restart")
        status = proxy.wait_for_new_pid(status["pid"])
    assert not [each for each in status["warnings"] if "Restart" in each]
    assert status["models"][0]["size"] == configured.stat().st_size


def _is_healthy(url):
    try:
        return requests.get(f"{url}/health", timeout=DEADLINE).ok
    except requests.ConnectionError:
        return False


@needs_root
def test_a_server_that_was_found_is_not_told_the_random_key(fake, tmp_path):
    fake.configure(llama_server_users=[SOMEBODY])
    with impostor("127.0.0.1", fake.engine_port, tmp_path) as friend:
        friend.wait()
        fake.start().wait_for_status("ready")
        fake.wait_for("an answer", lambda: "stolen" in post(fake.gateway_url).text)
        assert [line for line in friend.heard if "POST /completion" in line]
        assert not [line for line in friend.heard if "uthorization" in line]
