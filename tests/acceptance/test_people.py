"""The pages for everybody: with a keyboard alone, read aloud, at any width, in both themes.

The rows are drawn into the database; no supervisor changes them while a test looks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_browser import Tabs, badge, chromium, expect, tabs
from tests.deadline import DEADLINE

__all__ = ["Tabs", "chromium", "tabs"]
pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
"""axe-core 4.10.3 as its npm package has it, under the MPL 2.0."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CHECK = """async rules => (await axe.run(document, {runOnly: rules})).violations.map(
    broken => `${broken.id}: ${broken.nodes.map(node => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`)}`
)"""


RENEW = "UPDATE supervisor_app_nodelease SET renewed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')"


@pytest.fixture(scope="module")
def drawn(make_shared):
    """Pages of three servers, one of them crashed, and the cookies of a member of the staff."""
    proxy = make_shared()
    proxy.env["DEBUG"] = "1"
    proxy.python("from tests.scenes import draw; draw('three')")
    proxy.start_web()
    session = proxy.login("someone")
    proxy.cookies = [
        {"name": name, "value": value, "url": proxy.url} for name, value in session.cookies.items()
    ]
    return proxy


@pytest.fixture
def visit(drawn, tabs):
    """Open a page as staff, once it is live."""

    def open_page(path, script="", **options):
        drawn.write(RENEW)  # no supervisor does
        context = tabs.context(**options)
        context.add_init_script(script)
        context.add_cookies(drawn.cookies)
        page = tabs.open(drawn.url + path, context)
        expect(badge(page)).to_have_text("live")
        return page

    return open_page


def chosen(page):
    """The item of the palette that Enter takes."""
    return page.locator("#palette-list").get_by_role("option", selected=True)


def complaints_of_axe(page):
    page.evaluate(AXE)
    return page.evaluate(CHECK, RULES)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/styleguide/",
        "/servers/gemma-3-12b/",
        "/servers/gemma-3-12b/runs/",
        "/servers/gemma-3-12b/runs/8/",
        "/models/",
    ],
)
def test_a_page_breaks_no_rule_of_accessibility(visit, path, scheme):
    page = visit(path, color_scheme=scheme)
    assert complaints_of_axe(page) == []


def test_the_palette_and_the_keys_break_no_rule_either(visit):
    page = visit("/")
    page.keyboard.press("Control+k")
    expect(chosen(page)).to_be_visible()
    assert complaints_of_axe(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert complaints_of_axe(page) == []


def test_the_keyboard_alone_finds_a_server_and_goes_back_to_where_it_was(visit):
    page = visit("/")
    page.keyboard.press("/")
    expect(page.get_by_label("Filter by text")).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.type("qw")
    expect(chosen(page)).to_contain_text("qwen3-30b-a3b")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Filter by text")).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.type("gem his")
    expect(chosen(page)).to_contain_text("gemma-3-12b: History")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Runs of gemma-3-12b")).to_be_visible()


def test_an_action_of_the_palette_asks_first_and_tells_what_it_did(visit, drawn):
    page = visit("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("stop qwen")
    expect(chosen(page)).to_contain_text("Stop qwen3-30b-a3b")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Stop qwen3-30b-a3b?").get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stop of qwen3-30b-a3b: asked for.")).to_be_visible()
    (row,) = drawn.query("SELECT desired_running FROM supervisor_app_llamaserver WHERE name LIKE 'qwen%'")
    assert not row["desired_running"]


def test_keys_of_one_letter_can_be_switched_off(visit):
    page = visit("/")
    page.keyboard.press("?")
    page.get_by_label("Keys that are one letter").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog", name="Go to or do")).to_be_visible()
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_a_filter_is_kept_in_the_address(visit, drawn):
    page = visit("/")
    rows = page.locator(".rows > li:visible")
    expect(rows).to_have_count(3)
    page.get_by_label("Filter by text").fill("gpt")
    expect(rows).to_have_count(1)
    page.reload()
    expect(badge(page)).to_have_text("live")
    expect(rows).to_have_count(1)
    page.get_by_label("Filter by text").fill("nothing like it")
    page.get_by_role("button", name="Show all").click()
    expect(rows).to_have_count(3)
    assert page.url == f"{drawn.url}/"


def test_the_worst_state_is_in_the_title_of_every_page(visit):
    assert visit("/").title() == "▲ 2 of 3 ready – llamaproxy"
    expect(visit("/servers/gemma-3-12b/runs/")).to_have_title("▲ Runs of gemma-3-12b – llamaproxy")
    expect(visit("/styleguide/")).to_have_title("▲ Style guide – llamaproxy")


def test_a_theme_that_was_chosen_stays(visit):
    page = visit("/", color_scheme="light")
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 16, 19)"


def test_times_are_those_of_the_reader(visit):
    page = visit("/servers/gemma-3-12b/runs/", timezone_id="Asia/Tokyo")
    time = page.locator(".when time").first
    expect(time).not_to_contain_text("UTC")
    told = page.evaluate(
        "e => new Date(e.dateTime).toLocaleTimeString('en-GB', {timeZone: 'Asia/Tokyo'})",
        time.element_handle(),
    )
    expect(time).to_contain_text(told[:5], timeout=DEADLINE * 1000)


@pytest.mark.parametrize("path", ["/", "/styleguide/", "/servers/gemma-3-12b/runs/"])
def test_a_phone_shows_rows_without_scrolling_sideways(visit, path):
    page = visit(path, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


NOTIFICATIONS = """
    window.told = [];
    window.Notification = class {
        static permission = "granted";
        static requestPermission = async () => "granted";
        constructor(title) { window.told.push(title); }
    };
"""


def test_a_server_that_goes_down_comes_first_and_is_told_to_those_who_asked(visit, drawn):
    page = visit("/", script=NOTIFICATIONS)
    first = page.locator(".rows > li").first
    expect(first).to_contain_text("gemma-3-12b")
    page.get_by_role("button", name="Notify me of crashes").click()
    expect(page.get_by_text("This browser tells you of crashes")).to_be_visible()
    link = page.locator("#title-qwen3-30b-a3b")
    link.focus()
    state = "UPDATE supervisor_app_serverstate SET version = version + 1, status = '{}' WHERE detail LIKE '%:8136.'"
    drawn.write(state.format("error"))
    drawn.write(RENEW)
    expect(first).to_contain_text("gpt-oss-20b-mxfp4")
    expect(page.get_by_role("button", name="Start gpt-oss-20b-mxfp4")).to_be_visible()
    expect(link).to_be_focused()
    assert page.evaluate("window.told") == ["gpt-oss-20b-mxfp4: Error"]
    drawn.write(state.format("ready"))
    expect(first).to_contain_text("gemma-3-12b")


def test_the_end_of_all_trouble_is_told_as_a_moment_ago(visit, drawn):
    page = visit("/")
    expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()
    state = "UPDATE supervisor_app_serverstate SET version = version + 1, status = '{}' WHERE detail LIKE '%Retry 2%'"
    drawn.write(state.format("stopping"))
    drawn.write(RENEW)
    expect(page.get_by_text("All 3 servers are well. Last trouble just now.")).to_be_visible()
    drawn.write(state.format("crashed"))
    expect(page.locator("#attention-gemma-3-12b")).to_be_visible()
