"""A stream in a real browser: what its server does while it goes on, its cancellation, its record."""

from __future__ import annotations

import re
import threading

import pytest
import requests

from tests.acceptance.browsing import chromium, expect, points_of, tabs
from tests.acceptance.children import wait_for
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

__all__ = ["chromium", "tabs"]  # fixtures

pytestmark = pytest.mark.browser

TOKENS_PER_SECOND = 20


@pytest.fixture
def slow(fake):
    """A server whose streams go on for minutes."""
    fake.script("--fake-token-seconds", str(1 / TOKENS_PER_SECOND))
    fake.start().wait_for_status("ready")
    return fake


class Listener(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, proxy, key):
        super().__init__(daemon=True)
        self._url, self._key = f"{proxy.gateway_url}/v1/chat/completions", key
        self.heard = ""
        self.start()

    def run(self):
        body = {"messages": [{"role": "user", "content": "count"}], "stream": True, "max_tokens": 10_000}
        headers = {"Authorization": f"Bearer {self._key}"}
        with requests.post(self._url, json=body, headers=headers, stream=True, timeout=DEADLINE) as answer:
            for line in answer.iter_lines(decode_unicode=True):
                self.heard += f"{line}\n"


def tokens_of(slot):
    """Tokens that a row of the slots tells; 0: it tells none."""
    return int((re.findall(r"(\d+) token", slot.inner_text()) or [0])[0])


def sees_what_its_server_does(page):
    """The slot of a stream grows, the charts have points, and a phone shows both."""
    slot = page.locator(".slots tbody tr").first
    expect(slot).to_contain_text("chat ui")
    expect(slot).to_contain_text("Generating")
    tokens = tokens_of(slot)
    # Not `wait_for_function`: our policy forbids the page to evaluate what that asks again and again.
    wait_for("the slot grows", lambda: tokens_of(slot) > tokens)
    wait_for("the charts have points", lambda: points_of(page) > 3)
    plot = page.get_by_role("img", name="generated: now")
    expect(plot.locator("canvas")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(plot.locator("canvas")).to_be_visible()
    page.close()


def test_a_stream_is_seen_cancelled_and_found_among_past_requests(slow, tabs):
    keys = make_keys(slow, {"chat ui": {"capture": True}})
    slow.wait_for_line("An API key exists")  # before that nobody is asked for a key
    client = Listener(slow, keys["chat ui"])
    staff = slow.login("ada")
    cookies = [{"name": name, "value": value, "url": slow.url} for name, value in staff.cookies.items()]
    context = tabs.context(viewport={"width": 1280, "height": 900})
    context.add_cookies(cookies)
    page = tabs.open(f"{slow.url}/requests/", context)

    row = page.locator("#in-flight tbody tr")
    expect(row).to_contain_text("Generating")
    expect(row).to_contain_text("chat ui")
    expect(row).to_contain_text("/s")  # a second look tells the speed
    sees_what_its_server_does(tabs.open(f"{slow.url}/servers/default/", context))

    button = row.get_by_role("button", name="Cancel")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(row).to_contain_text("Generating")

    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel the request").click()
    client.join(DEADLINE)
    assert "cancelled_by_staff" in client.heard
    expect(page.locator("#in-flight")).to_contain_text("Nothing is in flight.")

    past = page.locator("#past tbody tr")
    expect(past).to_contain_text("Cancelled")
    page.get_by_label("Outcome").select_option("ok")
    expect(page.locator("#past")).to_contain_text("No request matches")
    page.get_by_label("Outcome").select_option("cancelled")
    expect(past).to_contain_text("by staff")
    page.wait_for_url("**/requests/?outcome=cancelled")
    page.go_back()
    expect(page.locator("#past")).to_contain_text("No request matches")
    page.go_forward()
    expect(past).to_contain_text("Cancelled")

    past.get_by_role("link", name="Cancelled").click()
    expect(page.locator(".turns")).to_contain_text("count")
    expect(page.locator(".turns [data-role=assistant]")).to_be_visible()
    page.goto(f"{slow.url}/requests/usage/")
    expect(page.locator("tbody tr")).to_contain_text("chat ui")
