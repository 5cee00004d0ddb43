"""Models of a node, from outside: downloads survive the death of their supervisor."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.children import MANAGE
from tests.hub import REPOSITORY, stand_in

NAME = "Tiny-Q4_K_M.gguf"
DATA = os.urandom(2_000_000)


@pytest.fixture
def hub():
    with stand_in({NAME: DATA}) as hub:
        yield hub


@pytest.fixture
def proxy(make_proxy, hub):
    proxy = make_proxy()
    proxy.script()
    proxy.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(proxy.directory / "hf")}
    return proxy


def test_a_download_survives_kill_9_and_sigterm_of_its_supervisor(proxy, hub):
    target = proxy.data_dir / "models" / REPOSITORY / NAME
    part = target.with_name(f"{NAME}.part")
    hub.bytes_per_second = 200_000
    proxy.start(web=False)
    proxy.wait_for_status("ready")
    command = proxy.beside(sys.executable, str(MANAGE), "llama", "pull", REPOSITORY)
    proxy.wait_for("a part is here", lambda: part.exists() and part.stat().st_size > 100_000)
    proxy.supervisor.signal(signal.SIGKILL)
    proxy.supervisor.wait()
    proxy.wait_for("its process has ended", lambda: not downloading(proxy))
    assert not target.exists()
    killed_at = part.stat().st_size
    assert 0 < killed_at < len(DATA)

    proxy.start(web=False)
    proxy.wait_for("the download goes on", lambda: part.stat().st_size > killed_at)
    assert proxy.stop() == 0
    assert not downloading(proxy)
    assert not target.exists()

    hub.bytes_per_second = 0
    proxy.start(web=False)
    proxy.wait_for("the command has ended", lambda: not command.alive)
    assert command.wait() == 0, command.output
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == [NAME]
    started_at = [int(said.removeprefix("bytes=").removesuffix("-") or 0) for _, said in hub.asked]
    assert started_at == sorted(started_at)
    assert started_at[1] >= killed_at > 0


def downloading(proxy) -> list[str]:
    lines = (Path(f"/proc/{process.pid}/cmdline").read_text() for process in proxy.engines())
    return [line for line in lines if "library.hub" in line]
