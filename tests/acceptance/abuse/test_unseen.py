"""A supervisor that is not almighty: it cannot see what other users' processes, or privileged ones, have open."""

from __future__ import annotations

import os
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.abuse.impostor import PYTHON, impostor, needs_root
from tests.acceptance.children import FAKE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_root
POWERLESS = ("setpriv", "--securebits=+noroot", "--inh-caps=-all", "--ambient-caps=-all")
"""Runs what it is given without root's rights, although with its uid."""
CAP_NET_BIND_SERVICE = 10


def with_capabilities(program: Path) -> None:
    """Give the file a right of its own: who runs it may not look into it."""
    granted = struct.pack("<5I", 0x02000001, 1 << CAP_NET_BIND_SERVICE, 0, 0, 0)
    try:
        os.setxattr(program, "security.capability", granted)
    except OSError:
        pytest.skip("this file system keeps no capabilities")


@pytest.fixture
def powerless(make_proxy):
    proxy = make_proxy(retry_backoff_ms=50, max_health_checks=20)
    proxy.before = POWERLESS
    return proxy


def test_an_executable_with_capabilities_gets_ready_with_a_warning(powerless, tmp_path):
    program = tmp_path / "llama-python"
    shutil.copy(os.path.realpath(PYTHON), program)
    with_capabilities(program)
    script = tmp_path / "llama-server"
    script.write_text(f'#!/bin/sh\nexec "{program}" -IS "{FAKE}" "$@"\n')
    script.chmod(0o755)
    powerless.configure(llama_server_binary=str(script))
    status = powerless.start().wait_for_status("ready")
    assert "cannot be seen" in " ".join(status["warnings"])
    assert not status["adopted"]


def test_a_port_for_root_alone_is_said_before_the_start(powerless):
    powerless.script()
    powerless.configure(llama_server_port=81)
    status = powerless.start().wait_for_status("error")
    assert "port 81 is for root alone" in status["failure"]["detail"]


def test_a_stranger_that_cannot_be_looked_into_is_one_all_the_same(powerless, tmp_path):
    powerless.script()
    powerless.configure(llama_api_key="sk-secret")
    with impostor("127.0.0.1", powerless.engine_port, tmp_path) as stranger:
        stranger.wait()
        status = powerless.start().wait_for_status("error")
        assert "a process of another user" in status["failure"]["detail"]
        assert (stranger.met, stranger.heard) == (0, [])
    powerless.wait_for_status("ready")
