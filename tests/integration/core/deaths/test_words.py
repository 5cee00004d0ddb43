"""Words that clients have a real llama-server say: the cause of its death is told all the same."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
import requests

from supervisor_app.core.status import FailureKind
from tests.deadline import DEADLINE
from tests.integration.core.deaths.ward import ENGINE, assert_died

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits as Linux has them"),
]


# --- What clients have it say --------------------------------------------------------------------------

WORDS = "CUDA error: out of memory"
ECHOED = {
    "invalid JSON": ("/v1/chat/completions", '{"messages": %s\n%s\n0.00.001.000 E %s'),
    "a grammar": ("/completion", '{"prompt": "x", "grammar": "%s\\n%s\\nroot ::= (\\n0.09.000.000 E %s"}'),
    "a tool": (
        "/v1/chat/completions",
        '{"messages": [{"role": "user", "content": "x"}], "tool_choice": "%s\\n%s\\n%s"}',
    ),
}


@pytest.mark.parametrize("how", ["", "--verbose", "--log-jsonl", "--no-log-prefix"])
@pytest.mark.parametrize("what", ECHOED)
async def test_text_that_a_client_has_a_server_write_is_not_why_the_server_died(ward, demo, what, how):
    path, body = ECHOED[what]
    await ward.admit(demo, *filter(None, [how]))
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}{path}"
    data = body % (WORDS, WORDS, WORDS)
    answer = await asyncio.to_thread(requests.post, url, data=data, timeout=DEADLINE)
    assert answer.status_code in (400, 500)
    os.kill(pid, signal.SIGSEGV)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGSEGV)
    assert run.evidence["decisive"] == ""
    assert WORDS not in run.failure_detail


async def test_the_death_of_a_routers_child_is_not_what_killed_the_router(ward, demo, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "good.gguf").write_bytes(demo.read_bytes())
    (tmp_path / "models" / "broken.gguf").write_bytes(demo.read_bytes()[:-1000])
    await ward.admit("", models_dir=str(tmp_path / "models"))
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}/v1/completions"
    answer = await asyncio.to_thread(
        requests.post, url, json={"model": "broken", "prompt": "x"}, timeout=DEADLINE
    )
    assert answer.status_code == 500
    os.kill(pid, signal.SIGSEGV)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGSEGV)


async def test_a_port_that_was_taken_between_the_look_and_the_bind(ward, demo):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        held = holder.getsockname()[1]
        run = await ward.dies(demo, "--host", "127.0.0.1", "--port", str(held))
    assert_died(run, FailureKind.PORT_TAKEN, "Address not available", "couldn't bind HTTP server socket")
    assert run.failure_detail == f"could not listen on 127.0.0.1 port {held}"


async def test_an_address_that_is_not_of_this_machine(ward, demo):
    run = await ward.dies(demo, "--host", "203.0.113.1")
    assert_died(run, FailureKind.PORT_TAKEN, "Address not available", "couldn't bind HTTP server socket")


async def test_a_library_that_cannot_be_loaded(ward, demo, tmp_path):
    """A copy of the engine that asks for a library of another name."""
    binary = Path(ENGINE).read_bytes()
    needed = re.search(rb"\0lib(?:llama|ggml)[\w.-]*\.so[\w.]*\0", binary)
    if not needed:
        pytest.skip("this llama-server is linked statically, or a script")
    other = tmp_path / "llama-server"
    other.write_bytes(binary.replace(needed[0], needed[0].replace(b"\0lib", b"\0nil")))
    other.chmod(0o755)
    ward.command = (str(other),)
    run = await ward.dies(demo)
    title = "A library that llama-server needs is missing"
    decisive = "error while loading shared libraries:"
    assert_died(run, FailureKind.LIBRARY_MISSING, title, decisive, code=127)
