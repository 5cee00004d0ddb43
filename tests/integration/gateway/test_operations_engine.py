"""The table of operations beside the routes of a real llama-server.

Each route that it serves is in the table, and the same spelling counts for both.
"""

from __future__ import annotations

import http.client
import json
import time

import pytest

from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.gateway.llama.operations import Scope, operation_of
from tests.deadline import DEADLINE
from tests.integration.engine.running import Running, command_of
from tests.integration.gateway.engines import engine
from tests.unit.gateway.test_operations import CHANGES, COMPUTES, COUNTS, READS

pytestmark = pytest.mark.engine

OPENED = ["--metrics", "--props", "--tools", "all", "--ui-mcp-proxy"]
OF_A_ROUTER = {"/models", "/models/load", "/models/unload", "/models/sse"}
NOT_FOUND = "File Not Found"
STEERING = [
    ("POST", "/v1/chat/completions/control"),
    ("POST", "/v1/streams/lookup"),
    ("DELETE", "/v1/stream"),
]
SERVED = [
    *[("POST", path) for path in [*COMPUTES, *COUNTS]],
    *[(method, path) for method, path in [*CHANGES, *READS] if path not in OF_A_ROUTER],
    *STEERING,
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/health"),
]


def answer_of(port, method, target, body=b"{}"):
    """Status of the answer, and whether the server knows no such route."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body if method == "POST" else None)
        answer = connection.getresponse()
        return answer.status, NOT_FOUND in answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """With all that has to be switched on."""
    directory = tmp_path_factory.mktemp("opened")
    with engine("llama-server", directory, *OPENED, "--slot-save-path", str(directory)) as running:
        yield running


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory):
    """All of it below `/behind/a`."""
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    directory = tmp_path_factory.mktemp("prefixed")
    model = str(make_demo_model(directory / "demo.gguf"))
    command = [*command_of("llama-server"), "-m", model, "-t", "1", "--api-prefix", "/behind/a", *OPENED]
    running = Running(command, directory / "engine.log")
    try:
        end = time.monotonic() + DEADLINE
        while not _is_ready(running.port, "/behind/a/health"):
            assert running.process.poll() is None, running.lines
            assert time.monotonic() < end, "never ready"
            time.sleep(0.05)
        yield running
    finally:
        running.process.kill()
        running.process.wait(10)


def _is_ready(port, path):
    try:
        return answer_of(port, "GET", path)[0] == 200
    except OSError:
        return False


def is_served(running, method, target):
    status, unknown = answer_of(running.port, method, target)
    return status != 404 if method == "HEAD" else not unknown


@pytest.mark.parametrize(("method", "path"), SERVED)
def test_operations_of_the_table_are_served(opened, method, path):
    assert is_served(opened, method, path)


@pytest.mark.parametrize(("method", "path"), SERVED)
def test_a_prefix_changes_neither_what_is_served_nor_what_it_is(prefixed, method, path):
    assert is_served(prefixed, method, f"/behind/a{path}")
    assert not is_served(prefixed, method, path)
    assert operation_of(method, f"/behind/a{path}") == operation_of(method, path)


@pytest.mark.parametrize("path", ["/tools", "/props", "/v1/chat/completions", "/tokenize", "/lora-adapters"])
def test_another_spelling_is_another_path_for_both(opened, path):
    for other in (f"{path}/", path.upper(), f"{path};x", f"{path}/."):
        assert not is_served(opened, "POST", other)
        assert operation_of("POST", other).scope is Scope.CHANGE, "not known"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/slots/0?action=erase", "/slots/0"),
        ("/slots/0/?action=erase", "/slots/0/"),
        ("/slots%2F0?action=er%61se", "/slots/0"),
        ("/slots/%30%2f?action=erase", "/slots/0/"),
    ],
)
def test_an_action_on_a_slot_in_any_spelling_that_is_served_is_a_change(opened, target, path):
    assert answer_of(opened.port, "POST", target)[0] == 200
    found = operation_of("POST", path)
    assert (found.scope, found.pure, found.counts_as_use) == (Scope.CHANGE, False, True)


def test_a_percent_is_decoded_before_the_path_is_looked_up(opened):
    tool = {"tool": "exec_shell_command", "params": {"command": "true"}}
    assert answer_of(opened.port, "POST", "/tool%73", json.dumps(tool).encode())[0] == 200
