"""Where the bundled engine differs from llama-server on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import pytest

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind
from supervisor_app.engine.resolve import LAUNCHER
from tests.deadline import DEADLINE

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("port", ["-1", "65536", "70000"])
def test_bundled_refuses_a_port_that_is_none(start, port):
    server = start("bundled", "-m", "none.gguf", "--port", port)
    assert server.ended() == 1
    assert server.lines == [f'error while handling argument "--port": {port} is not a port (0 to 65535)']


def test_bundled_refuses_router_mode_in_words(start):
    server = start("bundled")
    assert server.ended() == 1
    assert "-m FILE" in server.lines[0]


def test_bundled_names_the_flags_that_exist(start):
    server = start("bundled", "--models-dir", "x")
    assert server.ended() == 1
    assert "--ctx-size" in server.lines[1]


def test_bundled_ends_at_once_with_a_stream_in_flight(start, large_model):
    server = start("bundled", "-m", large_model, "-t", "1")
    server.until(200)
    body = json.dumps({"messages": [], "stream": True}).encode()
    with urlopen(
        Request(f"http://127.0.0.1:{server.port}/v1/chat/completions", body), timeout=DEADLINE
    ) as answer:
        assert answer.readline().startswith(b"data: ")
        began = time.monotonic()
        server.process.terminate()
        assert server.ended() == 0
    assert time.monotonic() - began < 5


def test_bundled_says_what_to_install_when_the_package_is_missing():
    # Without site-packages there is no xllamacpp.
    command = [sys.executable, "-I", "-S", str(LAUNCHER), "-m", "none.gguf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert "pip install '.[engine]'" in ended.stderr
    failure = diagnose(Exit(code=1), ended.stderr.splitlines(), was_ready=False).failure
    assert failure.kind is FailureKind.LIBRARY_MISSING
