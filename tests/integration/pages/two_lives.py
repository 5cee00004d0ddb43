"""The log of a server that has lived twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.integration.building import at, make_run, make_server, make_state

LINES = "/api/servers/default/log/lines"
BEGAN = 1_700_000_000
ARGV = ["llama-server", "-m", "a.gguf"]


def started(seconds):
    when = datetime.fromtimestamp(BEGAN + seconds, UTC).isoformat()
    return f"--- {when} starting: llama-server -m a.gguf\n"


def stamped(second, text, level="I"):
    return f"{second // 60}.{second % 60:02}.000.000 {level} srv  main: {text}\n"


@pytest.fixture
def log(settings, tmp_path):
    """Two lives of the server `default`, of which the first one died."""
    settings.DATA_DIR = tmp_path
    server = make_server(api_key="swordfish")
    make_state(server, "ready", version=1)
    dead = {"ended_at": at(BEGAN + 900), "failure_kind": "out-of-memory", "failure_title": "Out of memory"}
    evidence = {"decisive": "line 350"}
    make_run(server, started_at=at(BEGAN), argv=ARGV, evidence=evidence, **dead)
    make_run(server, started_at=at(BEGAN + 1000), argv=ARGV, ended_at=None, build="b11669")
    path = tmp_path / "logs" / "default.log"
    path.parent.mkdir()
    path.with_name("default.log.1").write_text(
        started(0) + "".join(stamped(second, f"line {second}") for second in range(600))
    )
    path.write_text(
        "".join(stamped(second, f"line {second}") for second in range(600, 700))
        + stamped(700, "failed", "E")
        + started(1000)
        + stamped(5, "the key is swordfish")
        + stamped(6, "listening")
    )
    return path


def get(client, **query):
    answer = client.get(LINES, query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def texts(page):
    return [item["s"].rpartition(": ")[2] for item in page["items"] if "s" in item]
