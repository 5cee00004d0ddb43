"""A server that nobody asks is stopped after a while; asking for it starts it."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from tests.acceptance.gateway.askers import MESSAGES, MODEL, SCRIPTED, openai_client


@pytest.fixture(scope="module")
def idled(make_shared):
    """A proxy that was left alone, and then asked."""
    proxy = make_shared(idle_stop_seconds=1)
    proxy.script("--fake-load-seconds", "0.5")
    seen = SimpleNamespace(proxy=proxy, pid=proxy.start().wait_for_status("ready")["pid"])
    seen.idle = proxy.wait_for_status("initial")
    seen.is_gone = not psutil.pid_exists(seen.pid)
    with proxy.recording() as seen.records, openai_client(proxy.gateway_url) as client:
        seen.answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return seen


def test_the_process_of_an_idle_server_is_gone_and_the_page_says_why(idled):
    assert idled.is_gone
    assert idled.idle["failure"] is None
    assert "1 s" in idled.idle["detail"]


def test_a_request_starts_the_idle_server_and_is_answered(idled):
    assert idled.answer.choices[0].message.content == SCRIPTED
    (record,) = idled.records
    assert (record["outcome"], record["status"]) == ("held", 200)


def test_an_idle_server_comes_back_as_a_new_process_and_nothing_went_wrong(idled):
    first, second = idled.proxy.runs()
    assert (first["pid"], first["failure_kind"]) == (idled.pid, "")
    assert second["pid"] != idled.pid


def test_the_console_tells_both(idled):
    assert idled.proxy.said("💤 [GATEWAY] Nobody asks for default: it is stopped until somebody does")
    assert idled.proxy.said("☀️ [GATEWAY] default is asked for: starting it")
