"""Six models and room for two: each answers when it is asked for."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import requests

from supervisor_app.engine.demo_model import make_demo_model
from tests.deadline import DEADLINE

NAMES = [f"model-{number}" for number in range(6)]
PADDING_MB = 60
"""Each needs some 130 MiB by its estimate, and 85 as it is measured."""
BUDGET_MB = 290
CLIENTS = 12
FILE = """
[memory]
budget_mb = {budget}
min_resident_seconds = 0

[defaults]
host = "127.0.0.1"
args = ["-c", "512", "-t", "1"]
"""


class Crowd:
    """A proxy with six servers in `llamaproxy.toml`."""

    def __init__(self, proxy, models):
        self.proxy = proxy
        tables = [f'[servers.{name}]\nmodel_path = "{models[name]}"\n' for name in NAMES]
        text = FILE.format(budget=BUDGET_MB) + "\n".join(tables)
        (proxy.directory / "llamaproxy.toml").write_text(text)

    def states(self):
        return {
            row["name"]: row
            for row in self.proxy.query(
                "SELECT name, status, detail, unloaded, pid FROM supervisor_app_llamaserver "
                "JOIN supervisor_app_serverstate ON server_id = supervisor_app_llamaserver.id"
            )
        }

    def loaded(self):
        return {name for name, row in self.states().items() if row["status"] == "ready"}

    def settled(self):
        """The servers that are loaded once each is loaded or rests."""

        def look():
            states = self.states()
            settled = len(states) == len(NAMES) and all(
                row["status"] == "ready" or row["unloaded"] for row in states.values()
            )
            return states if settled else {}

        self.proxy.wait_for("each is loaded or rests", look)
        return self.loaded()

    def ask(self, name, tokens=4, *, stream=False):
        body = {
            "model": name,
            "max_tokens": tokens,
            "stream": stream,
            "messages": [{"role": "user", "content": "hi"}],
        }
        url = f"{self.proxy.gateway_url}/v1/chat/completions"
        return requests.post(url, json=body, timeout=3 * DEADLINE)

    def ends(self):
        """Why each run ended that has."""
        return [run["note"] or run["failure_kind"] for run in self.proxy.runs() if run["ended_at"]]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("gguf", reason="the demo model needs: pip install '.[engine]'")
    folder = tmp_path_factory.mktemp("models")
    return {
        name: make_demo_model(folder / f"{name}.gguf", PADDING_MB + number)
        for number, name in enumerate(NAMES)
    }


@pytest.fixture
def crowd(make_proxy, engine, models):
    return Crowd(make_proxy(), models)


def test_every_model_answers_and_no_request_fails_or_meets_its_servers_end(crowd):
    proxy = crowd.proxy.start()
    assert 0 < len(crowd.settled()) < len(NAMES)
    proxy.wait_for("the gateway listens", lambda: not_refused(proxy.gateway_url))

    def client(number):
        order = NAMES[number % len(NAMES) :] + NAMES[: number % len(NAMES)]
        return [crowd.ask(name, tokens=4 + 8 * (number % 3), stream=number % 2 == 1) for name in order]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for answers in pool.map(client, range(CLIENTS)) for answer in answers]
    assert {answer.status_code for answer in answers} == {200}, [
        answer.text for answer in answers if answer.status_code != 200
    ]
    assert all(
        "[DONE]" in answer.text for answer in answers if "event-stream" in answer.headers["Content-Type"]
    )
    records = proxy.wait_for(
        "all are on record", lambda: found if len(found := proxy.records()) >= len(answers) else []
    )
    assert sum(record["replays"] for record in records) == 0, "a busy server was ended"
    assert {note[: len("Room is made")] for note in crowd.ends()} == {"Room is made"}
    listed = requests.get(f"{proxy.gateway_url}/v1/models", timeout=DEADLINE).json()["data"]
    assert {model["id"]: model["status"]["value"] == "loaded" for model in listed} == {
        name: name in crowd.loaded() for name in NAMES
    }


def test_a_supervisor_that_is_killed_in_the_middle_of_a_swap_costs_no_request(crowd):
    proxy = crowd.proxy
    proxy.start(web=False)
    proxy.has_web = True
    loaded = crowd.settled()
    proxy.start_gateway()
    wanted = next(name for name in NAMES if name not in loaded)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(crowd.ask, wanted)
        proxy.wait_for_line(f"Room is made for `{wanted}`")
        proxy.supervisor.kill()
        assert not asking.done()
        proxy.start(web=False)
        answer = asking.result(2 * DEADLINE)
    assert answer.status_code == 200, answer.text
    assert wanted in crowd.loaded()
    assert len(crowd.settled()) < len(NAMES)
    open_runs = [run for run in proxy.runs() if not run["ended_at"]]
    assert len(open_runs) == len(crowd.loaded())


def test_a_model_that_can_never_fit_is_refused_at_once_with_the_reason(crowd):
    file = crowd.proxy.directory / "llamaproxy.toml"
    file.write_text(file.read_text().replace(f"budget_mb = {BUDGET_MB}", "budget_mb = 20"))
    proxy = crowd.proxy.start()
    proxy.wait_for("all are refused", lambda: {row["status"] for row in crowd.states().values()} == {"error"})
    proxy.wait_for("the gateway listens", lambda: not_refused(proxy.gateway_url))
    refused = crowd.ask(NAMES[0])
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (503, "does_not_fit")
    assert refused.headers["X-Should-Retry"] == "false"
    assert f"`{NAMES[0]}` needs " in error["message"]
    assert "on the host" in error["message"]
    assert proxy.get(f"/api/servers/{NAMES[0]}/").json()["failure"]["kind"] == "does_not_fit"
    assert NAMES[0] in proxy.get(f"/servers/{NAMES[0]}/").text
    assert not proxy.runs(), "nothing was tried"
    proxy.stop(signal.SIGTERM)


def not_refused(url):
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/health", timeout=DEADLINE) is not None
    return False
