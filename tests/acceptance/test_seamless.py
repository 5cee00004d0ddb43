"""A restart without a gap: streams go on at the old process, new requests go to the new one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest
import requests

from tests.acceptance.gateway.askers import SCRIPTED
from tests.acceptance.test_fleet_file import Fleet
from tests.deadline import DEADLINE

CHAT = "chat"
STREAMS = 4
SLOWLY = 'args = ["--fake-token-seconds", "0.5", "-np", "16"]'
"""With slots for all that a test asks at once, also while some of it is over and not yet seen to be."""
BODY = {"model": CHAT, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


class Talk:
    """A stream through the gateway, and which process speaks."""

    body = BODY

    def __init__(self, url):
        self.answer = requests.post(
            f"{url}/v1/chat/completions", json=self.body, stream=True, timeout=DEADLINE
        )
        assert self.answer.status_code == 200, self.answer.text
        self.id = self.answer.headers["X-Request-Id"]
        self.lines = self.answer.iter_lines()
        self.events = []
        self.hear()

    def hear(self):
        """Listen until the next piece comes."""
        for line in self.lines:
            if line.startswith(b"data: {"):
                self.events.append(json.loads(line[6:]))
                return

    def finish(self):
        """Return the whole answer, and the pid that gave it."""
        rest = [line for line in self.lines if line.startswith(b"data: ")]
        assert rest[-1] == b"data: [DONE]", rest
        self.events += [json.loads(line[6:]) for line in rest[:-1]]
        said = "".join(event["choices"][0]["delta"].get("content") or "" for event in self.events)
        return said, self.speaker

    @property
    def speaker(self):
        """The process that all heard so far is from."""
        (name,) = {event["system_fingerprint"] for event in self.events}
        return int(name.removeprefix("pid-"))


@pytest.fixture
def fleet(make_proxy):
    return Fleet(make_proxy())


def talk_at_once(url):
    with ThreadPoolExecutor(STREAMS) as pool:
        return list(pool.map(Talk, [url] * STREAMS))


def asks(proxy, pid):
    """Wait until the gateway has read that this process serves, and how many it serves at once."""

    def look():
        talks = talk_at_once(proxy.gateway_url)
        for talk in talks:
            talk.answer.close()
        return {talk.speaker for talk in talks} == {pid}

    proxy.wait_for(f"the gateway asks process {pid}", look)


def replacement(fleet, stage):
    """The LlamaStatus, once its restart has come to this stage; None: it is over."""

    def look():
        status = fleet.status(CHAT)
        found = status.get("replacement")
        return status if status and (found and found["stage"]) == stage else {}

    return fleet.proxy.wait_for(f"stage {stage}", look)


def processes(fleet):
    return {process.pid for process in fleet.proxy.engines()}


def restart(fleet, *options, wanted=0):
    child = fleet.proxy.run("llama", "restart", CHAT, "--seamless", *options)
    assert child.wait() == wanted, fleet.proxy.evidence()


def test_no_stream_breaks_and_no_request_is_held_while_the_process_changes(fleet):
    fleet.writes(CHAT, chat=SLOWLY)
    proxy = fleet.proxy.start()
    proxy.wait_for_line("[GATEWAY]")
    old = fleet.ready(CHAT)[CHAT]
    staff = proxy.login("staff")
    asks(proxy, old["pid"])
    begun = talk_at_once(proxy.gateway_url)
    asked = staff.post(f"{proxy.url}/api/servers/{CHAT}/restart?seamless=1", timeout=DEADLINE)
    assert asked.status_code == 202, asked.text
    status = replacement(fleet, "leaving")
    assert status["status"] == "ready"
    assert status["replacement"]["pid"] == old["pid"]
    assert processes(fleet) == {old["pid"], status["pid"]}
    asks(proxy, status["pid"])
    later = talk_at_once(proxy.gateway_url)
    assert {talk.finish() for talk in begun} == {(SCRIPTED, old["pid"])}
    assert {talk.finish() for talk in later} == {(SCRIPTED, status["pid"])}
    replacement(fleet, None)
    assert processes(fleet) == {status["pid"]}
    for talk in begun + later:
        (record,) = proxy.wait_for("it is on record", partial(proxy.records, f"request_id = '{talk.id}'"))
        assert (record["outcome"], record["replays"], record["held_ms"]) == ("ok", 0, 0)
    runs = proxy.runs()
    assert [bool(run["ended_at"]) for run in runs] == [True, False]
    assert not runs[0]["failure_kind"]


def test_a_changed_configuration_takes_over_without_a_gap_or_is_rolled_back(fleet):
    fleet.writes(CHAT, chat="seamless = true")
    proxy = fleet.proxy.start()
    first = fleet.ready(CHAT)[CHAT]
    fleet.writes(CHAT, chat='seamless = true\nargs = ["-c", "512"]')
    proxy.wait_for("another process", lambda: fleet.status(CHAT)["pid"] != first["pid"])
    second = replacement(fleet, None)
    assert "512" in psutil.Process(second["pid"]).cmdline()

    fleet.writes(CHAT, chat='seamless = true\nargs = ["--fake-crash-file", "model.gguf"]')
    failed = replacement(fleet, "failed")
    assert (failed["status"], failed["pid"]) == ("ready", second["pid"])
    assert "rolled back" in failed["warnings"][-1]
    assert processes(fleet) == {second["pid"]}


def test_a_fixed_port_is_refused_with_what_to_do(fleet):
    fleet.writes(CHAT, chat=f"port = {fleet.first_port}")
    fleet.proxy.start()
    first = fleet.ready(CHAT)[CHAT]
    restart(fleet, wanted=1)
    assert "Its port is fixed" in fleet.proxy.console
    assert fleet.status(CHAT)["pid"] == first["pid"]


def test_a_supervisor_that_is_killed_while_the_new_process_loads_ends_with_the_new_one(fleet):
    slow = fleet.proxy.directory / "slow"
    fleet.writes(CHAT, chat=f'args = ["--fake-load-seconds", "3", "--fake-while", "{slow}"]')
    proxy = fleet.proxy.start()
    first = fleet.ready(CHAT)[CHAT]
    slow.touch()
    restart(fleet)
    new = replacement(fleet, "loading")["replacement"]["pid"]
    proxy.supervisor.kill()
    assert {first["pid"], new} <= processes(fleet)
    proxy.start()
    proxy.wait_for("the new one serves", lambda: fleet.status(CHAT).get("pid") == new)
    replacement(fleet, None)
    assert processes(fleet) == {new}
    assert [bool(run["ended_at"]) for run in proxy.runs()] == [True, False]


def test_a_supervisor_that_is_killed_while_the_old_process_drains_lets_it_finish(fleet):
    fleet.writes(CHAT, chat=SLOWLY)
    proxy = fleet.proxy
    proxy.start(web=False)
    proxy.has_web = False
    row = "SELECT status, pid, replacement FROM supervisor_app_serverstate"
    (old,) = proxy.wait_for("it is ready", lambda: [r for r in proxy.query(row) if r["status"] == "ready"])
    proxy.start_gateway()
    talk = Talk(proxy.gateway_url)
    restart(fleet)
    proxy.wait_for("it drains", lambda: "leaving" in (proxy.query(row)[0]["replacement"] or ""))
    proxy.supervisor.kill()
    new = proxy.query(row)[0]["pid"]
    assert {old["pid"], new} <= processes(fleet)
    proxy.start(web=False)
    assert talk.finish() == (SCRIPTED, old["pid"])
    proxy.wait_for("the old one has gone", lambda: processes(fleet) == {new})
    assert [bool(run["ended_at"]) for run in proxy.runs()] == [True, False]
