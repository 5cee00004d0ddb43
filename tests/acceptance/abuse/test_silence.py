"""Silence of a server that computes is no hang, and silence of one that dies is not what it died of."""

from __future__ import annotations

import signal
import threading

import psutil
import pytest
import requests

from tests.deadline import DEADLINE

IMPATIENT = {"health_check_interval_ms": 200, "health_check_timeout_ms": 300, "stop_grace_ms": 500}


def asked(url: str, answers: list[int]) -> None:
    body = {"messages": [{"role": "user", "content": "a long prompt"}], "max_tokens": 2}
    answers.append(requests.post(f"{url}/v1/chat/completions", json=body, timeout=DEADLINE).status_code)


def test_a_prompt_during_which_nothing_is_answered_is_waited_for(fake):
    """As ik_llama.cpp and older builds do it: three checks are missed within two seconds."""
    fake.script("--fake-mute-seconds", "10", **IMPATIENT)
    old = fake.start().wait_for_status("ready")["pid"]
    answers: list[int] = []
    client = threading.Thread(target=asked, args=[fake.gateway_url, answers])
    client.start()
    fake.wait_for("it is told", lambda: "does not answer while it computes" in fake.status()["detail"])
    client.join()
    assert answers == [200]
    assert fake.wait_for_status("ready")["pid"] == old
    assert fake.query("SELECT * FROM supervisor_app_quarantinedrequest") == []


def test_a_silent_server_that_is_taken_over_meanwhile_is_waited_for_too(fake):
    fake.script("--fake-mute-seconds", "15", **IMPATIENT, max_health_checks=10, llama_api_key="")
    old = fake.start().wait_for_status("ready")["pid"]
    client = threading.Thread(target=asked, args=[fake.engine_url, []])
    client.start()
    fake.wait_for("it is told", lambda: "does not answer while it computes" in fake.status()["detail"])
    fake.supervisor.kill()
    fake.start()
    client.join()
    assert fake.wait_for_status("ready")["pid"] == old


@pytest.mark.parametrize("patience", [IMPATIENT])
def test_a_long_death_is_told_by_its_first_words(proxy, patience):
    """A failed assertion, then a debugger that takes its time: here it is stopped."""
    proxy.configure(**patience, retry_backoff_ms=5000)
    pid = proxy.start().wait_for_status("ready")["pid"]
    with (proxy.data_dir / "logs" / "default.log").open("a") as log:
        psutil.Process(pid).send_signal(signal.SIGSTOP)
        log.write("/src/ggml/src/ggml.c:1: GGML_ASSERT(a->ne[0] == b->ne[0]) failed\n[New LWP 77]\n")
    ended = f"SELECT * FROM supervisor_app_run WHERE pid = {pid} AND ended_at"
    (run,) = proxy.wait_for("the crash is in the history", lambda: proxy.query(ended))
    assert "GGML_ASSERT(a->ne[0] == b->ne[0]) failed" in run["failure_detail"]
