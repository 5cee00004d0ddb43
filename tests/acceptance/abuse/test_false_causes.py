"""Nothing is blamed that is not the cause, and what is permanent stays so: with the real engine, from outside."""

from __future__ import annotations

import os
import signal

import pytest
import requests

from tests.acceptance.abuse.test_shortage import two_heartbeats
from tests.deadline import DEADLINE

WORDS = "CUDA error: out of memory"
GRAMMAR = f"{WORDS}\nggml.c:1: GGML_ASSERT(x) failed\nroot ::= (\n0.09.000.000 E {WORDS}"


def without_a_file(proxy, *flags):
    """The failure of a start whose flags name what is not there, after some more looks at it."""
    proxy.configure(llama_server_args=[*proxy.config["llama_server_args"], *flags])
    proxy.start().wait_for_status("error")
    two_heartbeats(proxy)
    status = proxy.wait_for_status("error")
    assert status["retries"] == 0
    return status["failure"]


@pytest.mark.parametrize("flag", ["--mmproj", "--lora"])
def test_a_file_that_is_missing_beside_a_model_that_is_there_is_waited_for(proxy, flag):
    file = proxy.directory / "other.gguf"
    failure = without_a_file(proxy, flag, str(file))
    assert failure["kind"] == "model_missing"
    assert str(file) in failure["detail"]
    assert flag in failure["hint"]
    assert len(proxy.runs()) == 1, "no start that cannot help"
    file.write_text("no GGUF file")
    proxy.wait_for("a start because of it", lambda: len(proxy.runs()) == 2)
    proxy.wait_for("the next failure", lambda: proxy.status()["failure"]["kind"] == "model_corrupt")


def test_a_script_whose_interpreter_is_missing_is_not_said_to_be_missing(fake):
    interpreter = fake.directory / "no-such-shell"
    binary = fake.write_script()
    binary.write_text(binary.read_text().replace("#!/bin/sh", f"#!{interpreter}"))
    fake.start().wait_for_status("error")
    failure = fake.status()["failure"]
    assert "not found" not in failure["title"]
    assert f"is a script for {interpreter}, which does not exist" in failure["detail"]
    interpreter.symlink_to("/bin/sh")
    fake.wait_for_status("ready")


def test_text_that_a_client_has_the_server_write_is_not_told_to_strangers(proxy):
    proxy.configure(retry_backoff_ms=20_000)
    status = proxy.start().wait_for_status("ready")
    for path, body in (
        ("/completion", {"prompt": "x", "grammar": GRAMMAR}),
        ("/v1/chat/completions", {"messages": [], "tool_choice": GRAMMAR}),
    ):
        requests.post(proxy.engine_url + path, json=body, timeout=DEADLINE, headers=key_of(proxy))
    os.kill(status["pid"], signal.SIGSEGV)
    down = proxy.wait_for_status("crashed")
    assert down["failure"]["kind"] == "killed_by_signal"
    pages = [
        proxy.get(path).text
        for path in ("/", "/servers/default/", "/api/servers/", "/api/servers/default/runs/")
    ]
    assert not [page for page in pages if "GGML_ASSERT" in page or "CUDA" in page]


def key_of(proxy):
    """The server's own key, if it was given one."""
    with open(f"/proc/{proxy.status()['pid']}/environ", "rb") as environ:
        named = dict(pair.partition(b"=")[::2] for pair in environ.read().split(b"\0"))
    key = named.get(b"LLAMA_API_KEY", b"").decode()
    return {"Authorization": f"Bearer {key}"} if key else {}


def test_a_log_that_somebody_removes_is_missed(ready):
    log = ready.data_dir / "logs" / "default.log"
    log.unlink()
    status = ready.wait_for("a warning", lambda: found(ready))
    assert "Its log file was removed while it ran" in status["warnings"][0]
    shown = ready.manage("llama", "logs", "default")
    assert "Its log file was removed" in shown.stderr
    assert "listening on" in shown.stdout


def found(proxy):
    status = proxy.status()
    return status if status.get("warnings") else None
