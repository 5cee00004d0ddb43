"""Models of a node, from outside: downloads survive the death of their supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.browsing import Tabs, badge, chromium, expect, tabs
from tests.acceptance.children import wait_for
from tests.acceptance.drawn import complaints_of_axe
from tests.hub import REPOSITORY, stand_in

__all__ = ["Tabs", "chromium", "tabs"]
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
    command = proxy.run("llama", "pull", REPOSITORY)
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


@pytest.mark.browser
def test_a_download_is_steered_from_the_page_with_a_keyboard_alone(proxy, hub, tabs):
    hub.bytes_per_second = 200_000
    proxy.start()
    proxy.wait_for_status("ready")
    session = proxy.login("someone")
    context = tabs.context()
    context.add_cookies(
        [{"name": name, "value": value, "url": proxy.url} for name, value in session.cookies.items()]
    )
    page = tabs.open(f"{proxy.url}/models/", context)
    expect(badge(page)).to_have_text("live")
    page.get_by_label("Repository").focus()
    page.keyboard.type(REPOSITORY)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Download Q4_K_M").focus()
    assert complaints_of_axe(page) == []
    page.keyboard.press("Enter")
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    first = bar.evaluate("bar => bar.value")
    wait_for("the download goes on", lambda: bar.evaluate("bar => bar.value") > first)
    assert complaints_of_axe(page) == []
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    asked = page.get_by_role("dialog", name=f"Cancel the download of {REPOSITORY} Q4_K_M?")
    asked.get_by_role("button", name="Cancel the download").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#downloads").get_by_text("cancelled")).to_be_visible()
    assert not (proxy.data_dir / "models" / "someone").exists()
