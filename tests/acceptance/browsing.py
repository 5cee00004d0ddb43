"""A browser for tests: its tabs, and the parts of a page that several files look at."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.deadline import DEADLINE

playwright_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = playwright_api.expect

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first that is there: the shell without a desktop's parts needs a third of Chromium's CPU for an empty page."""
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"


@pytest.fixture(scope="module")
def chromium():
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    expect.set_options(timeout=DEADLINE * 1000)
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=QUIET.split())
        yield browser
        browser.close()


class Tabs:
    """Opens pages; `complaints` is what the browser said about them, CSP violations included."""

    def __init__(self, browser):
        self._browser = browser
        self._contexts = []
        self.complaints = []
        self.forgiven = "(?!)"

    def context(self, **options):
        self._contexts.append(self._browser.new_context(**options))
        self._contexts[-1].set_default_timeout(DEADLINE * 1000)
        return self._contexts[-1]

    def open(self, url, context=None, **options):
        page = (context or self.context(**options)).new_page()
        page.on(
            "console", lambda message: self._note(message.type, f"{message.text} {message.location['url']}")
        )
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.goto(url)
        return page

    def _note(self, kind, text):
        if kind in ("error", "warning") and not re.search(self.forgiven, text):
            self.complaints.append(text)

    def close(self):
        for context in self._contexts:
            context.close()


@pytest.fixture
def tabs(chromium):
    tabs = Tabs(chromium)
    yield tabs
    tabs.close()
    assert not tabs.complaints, tabs.complaints


def server(page, status):
    return page.locator(f'article.server[data-status="{status}"]')


def badge(page):
    return page.locator("#connection")


def points_of(page):
    return int(page.locator("#live-charts").get_attribute("data-points") or 0)
