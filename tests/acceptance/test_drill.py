"""A user proves the promise on a server of their own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.acceptance.children import MANAGE
from tests.deadline import DEADLINE

QUICK = {"health_check_interval_ms": 100, "health_check_timeout_ms": 100, "retry_backoff_ms": 50}
"""A server that hangs is noticed soon. On a busy machine, one that is well may be thought to hang."""
SOON_BACK = {"retry_backoff_ms": 50}
SLOWLY_BACK = {"retry_backoff_ms": 1000}
"""A thief has the time to take the port."""


def drill(proxy, *arguments, stdin=subprocess.DEVNULL):
    command = [sys.executable, str(MANAGE), "drill", *arguments]
    return subprocess.run(
        command,
        cwd=proxy.directory,
        env=proxy.env,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )


@pytest.mark.parametrize(
    ("fault", "diagnosis"),
    [
        ("kill", "Ended by a signal"),
        ("segv", "Ended by a signal"),
        ("term", "Unexpected end"),
        ("stop", "It stopped answering"),
        ("port", "Ended by a signal"),
    ],
)
def test_a_fault_is_injected_and_its_recovery_measured(proxy, fault, diagnosis):
    proxy.configure(**{"stop": QUICK, "port": SLOWLY_BACK}.get(fault, SOON_BACK))
    old = proxy.start(web=False).wait_for_status("ready")["pid"]
    done = drill(proxy, "default", "--fault", fault, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"noticed after +\d+ ms", done.stdout)
    assert re.search(r"down for +\d+ ms", done.stdout)
    assert f"pid {old} -> {proxy.wait_for_status('ready')['pid']}" in done.stdout
    assert diagnosis in done.stdout
    assert re.search(r"requests lost +\d+ of \d+", done.stdout)


def test_a_drill_asks_first_and_refuses_where_nobody_can_answer(ready):
    done = drill(ready, "default")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(ready.runs()) == 1


def test_a_drill_needs_a_server_that_is_ready(proxy):
    proxy.start(web=False).wait_for_status("ready")
    proxy.run("llama", "stop").wait()
    proxy.wait_for_status("initial")
    done = drill(proxy, "default", "--yes")
    assert done.returncode == 1
    assert "a drill needs a server that is ready" in done.stderr


def test_an_unknown_server_is_named_with_the_known_ones(ready):
    done = drill(ready, "nope", "--yes")
    assert done.returncode == 2
    assert "Servers: default" in done.stderr
