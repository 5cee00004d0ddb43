"""The paths of a real llama-server through the gateway.

A tool runs once, keeps nobody from a slot, an icon wakes nobody, and all of it only with a key that says so.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.conftest import RECOVERS_FAST, make_keys
from tests.deadline import DEADLINE

TOOLS = ["--tools", "exec_shell_command", "--ui-mcp-proxy", "-np", "2"]
TINY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def tooled(make_shared, engine, model):
    if engine != "llama-server":
        pytest.skip("the bundled engine runs no tools")
    proxy = make_shared(
        llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, *TOOLS], **RECOVERS_FAST
    )
    proxy.start().wait_for_status("ready")
    return proxy


@pytest.fixture
def armed(tooled):
    tooled.wait_for_status("ready")
    return tooled


def post(proxy, path, body, key=""):
    headers = {"X-Api-Key": key} if key else {}
    return requests.post(f"{proxy.gateway_url}{path}", json=body, headers=headers, timeout=DEADLINE)


def shell(command):
    return {"tool": "exec_shell_command", "params": {"command": command}}


def test_a_command_that_kills_its_server_runs_once(armed, tmp_path):
    log, pid = tmp_path / "log", armed.status()["pid"]
    with armed.recording() as records:
        answer = post(armed, "/tools", shell(f"echo done >> {log}; kill -9 $PPID"))
    armed.wait_for_new_pid(pid)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_crashed")
    assert answer.json()["error"]["retryable"] is False
    assert log.read_text() == "done\n"
    assert records[0]["replays"] == 0


def test_tools_that_run_keep_nobody_from_a_slot(armed, tmp_path):
    goes_on = tmp_path / "goes on"
    wait = shell(f"until [ -e '{goes_on}' ]; do sleep 0.05; done; echo over")
    with ThreadPoolExecutor(3) as pool:
        tools = [pool.submit(post, armed, "/tools", wait) for _ in range(3)]
        assert post(armed, "/v1/chat/completions", TINY).status_code == 200
        assert not any(tool.done() for tool in tools)
        goes_on.touch()
        assert all("over" in tool.result().text for tool in tools)


def test_an_address_that_refuses_is_asked_once_and_nobody_has_crashed(armed):
    with armed.recording() as records:
        answer = requests.get(f"{armed.gateway_url}/cors-proxy?url=http://127.0.0.1:1/", timeout=DEADLINE)
    assert (answer.status_code, answer.text) == (500, "proxy error: Could not establish connection")
    assert (records[0]["outcome"], records[0]["replays"]) == ("upstream_error", 0)
    assert records[0]["incident"] == ""


def test_a_client_that_only_looks_neither_keeps_a_server_up_nor_wakes_it(make_proxy, engine, model):
    proxy = make_proxy(
        llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, *TOOLS], idle_stop_seconds=1
    )
    proxy.start().wait_for_status("ready")
    over = threading.Event()
    seen = []

    def look():
        while not over.is_set():
            for path in ("/props", "/slots", "/favicon.ico", "/"):
                seen.append(requests.get(f"{proxy.gateway_url}{path}", timeout=DEADLINE).status_code)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            proxy.wait_for_status("initial")
            number = len(seen)
            proxy.wait_for("looks at one that sleeps", lambda: len(seen) > number + 20)
            assert proxy.status()["status"] == "initial"
        finally:
            over.set()
        looking.result()
    assert set(seen[number + 4 :]) == {503}
    assert post(proxy, "/v1/chat/completions", TINY).status_code == 200


def test_a_key_runs_commands_and_looks_only_if_it_says_so(armed, tmp_path):
    ran = tmp_path / "ran"
    rights = {"asks": {}, "reads": {"may_read": True}, "changes": {"may_change": True}}
    secrets = make_keys(armed, rights)

    def closed():
        return requests.get(f"{armed.gateway_url}/v1/models", timeout=DEADLINE).status_code == 401

    armed.wait_for("keys are known", closed)
    try:
        for name, key in secrets.items():
            headers = {"X-Api-Key": key}
            told = [
                requests.get(f"{armed.gateway_url}{path}", headers=headers, timeout=DEADLINE).status_code
                for path in ("/v1/models", "/slots", "/props")
            ]
            assert told == ([200, 403, 403] if name == "asks" else [200, 200, 200])
            assert post(armed, "/v1/chat/completions", TINY, key).status_code == 200
            for path in ("/tools", "/tool%73"):
                answer = post(armed, path, shell(f"echo {name} >> {ran}"), key)
                assert answer.status_code == (200 if name == "changes" else 403)
            erased = post(armed, "/slots/0/?action=erase", {}, key).status_code
            assert (erased == 403) == (name != "changes")
    finally:
        armed.python("from supervisor_app.traffic.models import ApiKey", "ApiKey.objects.all().delete()")
    assert ran.read_text() == "changes\nchanges\n"
