"""The pages on which servers are made, changed and deleted, with engines of a file: in a browser, live."""

from __future__ import annotations

import re

import psutil
import pytest

from tests.acceptance.browsing import Tabs, badge, chromium, expect, tabs
from tests.acceptance.test_fleet_file import Fleet
from tests.acceptance.test_people import complaints_of_axe
from tests.acceptance.test_seamless import BODY, Talk
from tests.ports import free_port

__all__ = ["Tabs", "chromium", "tabs"]
pytestmark = pytest.mark.browser

FIELDS, FAILING, SHARED, DELETED = "fields", "failing", "shared", "deleted"
"""A server for each test, as nobody has changed it yet."""
PROGRAM = """#!/bin/sh
case "$*" in
  --help) printf '%s\\n' '-c, --ctx-size N' '-np, --parallel N' '-ngl, --gpu-layers N' --jinja; exit ;;
  *"-c 13 "*) echo 'error: 13 is an unlucky context' >&2; exit 1 ;;
esac
while [ -e "$HOLD" ]; do sleep 0.05; done
exec "{fake}" "$@" --fake-token-seconds 0.2 --fake-while "{slow}"
"""
"""A program in front of the scripted llama-server. With one context it does not get ready, and a file holds it up."""


ROW = {
    "model_path": "model.gguf",
    "host": "127.0.0.1",
    "args": ["-c", "4096", "--jinja"],
    "max_retries": 0,
    "drain_seconds": 600,
}


class Engines(Fleet):
    """Servers that people make, and engines of a file."""

    def __init__(self, proxy):
        super().__init__(proxy)
        self.program = proxy.directory / "engine"
        self.slow = proxy.directory / "slow"
        self.program.write_text(PROGRAM.format(fake=self.binary, slow=self.slow))
        self.program.chmod(0o755)
        proxy.env["LLAMA_SERVER_BINARY"] = str(self.program)

    def describes(self, name):
        """Write a file with one engine."""
        environment = f'environment = {{ HOLD = "{self.hold(name)}" }}'
        self.file.write_text(f'[engines.{name}]\nbinary = "{self.program}"\n{environment}\n')

    def hold(self, name):
        """The file that holds up starts on an engine."""
        return self.proxy.directory / f"hold-{name}"

    def has(self, *names):
        """Add servers of the default engine."""
        ports = {name: free_port() for name in names}
        self.proxy.python(
            "from supervisor_app.fleet.models import LlamaServer",
            f"[LlamaServer.objects.create(name=name, port=port, **{ROW!r}) for name, port in {ports!r}.items()]",
        )

    def process(self, name):
        """The process of a server that is ready."""
        return psutil.Process(self.ready(name)[name]["pid"])


@pytest.fixture(scope="module")
def engines(make_shared):
    engines = Engines(make_shared())
    engines.describes("other")
    engines.has(FIELDS, FAILING, SHARED, DELETED)
    proxy = engines.proxy.start()
    proxy.wait_for_line("[GATEWAY]")
    engines.ready(FIELDS, FAILING, SHARED, DELETED)
    proxy.cookies = [
        {"name": name, "value": value, "url": proxy.url}
        for name, value in proxy.login("anna").cookies.items()
    ]
    return engines


@pytest.fixture
def visit(engines, tabs):
    """Open a page as an admin, once it is live."""

    def open_page(name, **options):
        context = tabs.context(**options)
        context.add_cookies(engines.proxy.cookies)
        page = tabs.open(f"{engines.proxy.url}/servers/{name}/config/", context)
        expect(badge(page)).to_have_text("live")
        return page

    return open_page


def apply(page):
    page.get_by_role("button", name="Apply").click()


def banner(page):
    return page.locator("#course")


def test_fields_and_flags_and_the_engine_are_one_command_line(engines, visit):
    page = visit(FIELDS)
    review = page.locator(".review")
    assert page.locator("#id_context").input_value() == "4096"
    assert page.locator("#id_args").input_value() == "--jinja"
    page.get_by_label("Context, in tokens").fill("8192")
    expect(review).to_contain_text(re.compile(r"-c 8192 --jinja$", re.MULTILINE))
    page.get_by_label("Requests at a time").fill("2")
    page.get_by_label("Layers on the GPU").fill("most")
    expect(review).to_contain_text("Write a number, auto or all.")
    page.get_by_label("Layers on the GPU").fill("all")
    expect(review).to_contain_text("-c 8192 -np 2 -ngl all --jinja")
    page.get_by_label("More flags").fill("--jinja --ctx-sise 5")
    expect(review).to_contain_text("knows no --ctx-sise. Did you mean --ctx-size?")
    page.get_by_label("More flags").fill("--jinja -c 5")
    expect(review).to_contain_text("-c 5 is among the flags below, 8192 in this field.")
    page.get_by_label("More flags").fill("--jinja")
    page.get_by_label("Engine").select_option("other")
    expect(review).to_contain_text("none → other")
    assert complaints_of_axe(page) == []
    engines.hold("other").touch()
    apply(page)
    expect(banner(page)).to_contain_text("Restarting with version 2…")
    assert complaints_of_axe(page) == []
    engines.hold("other").unlink()
    expect(banner(page)).to_contain_text("Ready with version 2 since")
    assert engines.process(FIELDS).environ()["HOLD"] == str(engines.hold("other"))
    assert page.get_by_label("Engine").input_value() == "other"


def test_a_banner_follows_a_change_that_fails_and_the_way_back(visit):
    page = visit(FAILING, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.get_by_label("Context, in tokens").fill("13")
    apply(page)
    expect(banner(page)).to_contain_text("Version 2 did not get ready: ")
    assert complaints_of_axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    typed = page.get_by_label("More flags")
    typed.fill("--jinja -np 1")
    banner(page).get_by_role("button", name="Go back to version 1").click()
    expect(banner(page)).to_contain_text("Ready with version 3 since")
    assert page.get_by_label("Context, in tokens").input_value() == "4096"


def test_the_change_of_another_is_told_and_nothing_typed_is_lost(visit, tabs):
    tabs.forgiven = "status of 409"
    page, other = visit(SHARED), visit(SHARED)
    page.get_by_label("More flags").fill("--jinja -np 3")
    other.get_by_text("More", exact=True).click()
    other.locator("#id_priority").fill("7")
    apply(other)
    expect(banner(other)).to_contain_text("Version 2 is in force. It needed no restart.")
    expect(banner(page)).to_contain_text("Changed by anna at")
    assert page.get_by_label("More flags").input_value() == "--jinja -np 3"
    assert complaints_of_axe(page) == []
    banner(page).get_by_role("button", name="Compare").click()
    expect(page.locator(".review")).to_contain_text("-np 3")
    expect(banner(page)).not_to_contain_text("Changed by")
    assert page.get_by_label("More flags").input_value() == "--jinja -np 3"


class LongTalk(Talk):
    """A stream that ends when its server speaks fast."""

    body = {**BODY, "model": DELETED, "max_tokens": 2000}


def test_a_server_that_works_is_deleted_after_its_answer(engines, visit):
    page, other = visit(DELETED), visit(DELETED)
    engines.slow.touch()
    pid = engines.process(DELETED).pid
    talk = LongTalk(engines.proxy.gateway_url)
    page.get_by_role("button", name="Delete").click()
    asked = page.get_by_role("dialog", name=f"Delete {DELETED}?")
    expect(asked).to_contain_text("with its history")
    asked.get_by_role("button", name="Keep it").click()
    expect(asked).to_be_hidden()
    page.get_by_role("button", name="Delete").click()
    asked.get_by_role("button", name="Stop and delete").click()
    page.wait_for_url(f"{engines.proxy.url}/")
    expect(page.get_by_text(f"{DELETED} is deleted.")).to_be_visible()
    assert psutil.pid_exists(pid), "its answer is not whole yet"
    engines.slow.unlink()
    assert talk.finish()[1] == pid
    engines.proxy.wait_for("its process is gone", lambda: not psutil.pid_exists(pid))
    assert engines.proxy.query(f"SELECT * FROM supervisor_app_llamaserver WHERE name = '{DELETED}'") == []
    (kept,) = engines.proxy.wait_for("it is noted", lambda: engines.proxy.records(f"server = '{DELETED}'"))
    assert kept["outcome"] == "ok"
    expect(banner(other)).to_contain_text(f"{DELETED} was deleted meanwhile.")
