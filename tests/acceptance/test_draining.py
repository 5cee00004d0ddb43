"""A planned end lets requests in flight finish; new ones wait, or are refused before a stop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.acceptance.test_fleet_file import Fleet
from tests.acceptance.test_seamless import BODY, CHAT, Talk, processes
from tests.deadline import DEADLINE


@pytest.fixture
def fleet(make_proxy):
    return Fleet(make_proxy())


class LongTalk(Talk):
    """A stream that ends when its server speaks fast."""

    body = {**BODY, "max_tokens": 2000}


def drains(fleet):
    """The LlamaStatus, once its supervisor has counted what is in flight."""

    def look():
        status = fleet.status(CHAT)
        return status if "in flight, at most" in status.get("detail", "") else {}

    return fleet.proxy.wait_for("it drains", look)


def test_requests_finish_before_a_restart_and_a_stop_unless_that_is_not_to_wait(fleet):
    slow = fleet.proxy.directory / "slow"
    slowly = f'args = ["--fake-token-seconds", "0.3", "--fake-while", "{slow}"]'
    fleet.writes(CHAT, chat=f"{slowly}\ndrain_seconds = 600")
    proxy = fleet.proxy.start()
    proxy.wait_for_line("[GATEWAY]")
    old = fleet.ready(CHAT)[CHAT]
    staff = proxy.login("staff")

    def asks(wish):
        url = f"{proxy.url}/api/servers/{CHAT}/{wish}"
        assert staff.post(url, timeout=DEADLINE).status_code == 202

    slow.touch()
    before = LongTalk(proxy.gateway_url)
    asks("restart")
    status = drains(fleet)
    assert (status["status"], status["draining"], status["pid"]) == ("stopping", True, old["pid"])
    assert status["detail"].startswith("Draining: 1 request in flight, at most ")
    assert status["detail"].endswith("It starts again after that.")
    with ThreadPoolExecutor() as pool:
        after = pool.submit(Talk, proxy.gateway_url)
        slow.unlink()
        assert before.finish()[1] == old["pid"]
        new = fleet.proxy.wait_for("the next one", lambda: is_ready(fleet, old))
        assert after.result().finish()[1] == new["pid"]

    # A stop refuses at the gateway, and can be taken back
    slow.touch()
    begun = LongTalk(proxy.gateway_url)
    asks("stop")
    drains(fleet)
    refused = requests.post(f"{proxy.gateway_url}/v1/chat/completions", json=BODY, timeout=DEADLINE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_unavailable")
    asks("start")
    assert fleet.ready(CHAT)[CHAT]["pid"] == new["pid"]

    # A second wish that does not wait
    asks("stop")
    drains(fleet)
    assert proxy.llama("stop", CHAT, "--now") == f"{CHAT}: asked to stop\n"
    proxy.wait_for("it rests", lambda: fleet.status(CHAT)["status"] == "initial")
    assert b"error" in b"".join(begun.lines)
    assert processes(fleet) == set()
    assert [run["failure_kind"] for run in proxy.runs()] == ["", ""]


def is_ready(fleet, old):
    status = fleet.status(CHAT)
    return status if status["status"] == "ready" and status["pid"] != old["pid"] else {}
