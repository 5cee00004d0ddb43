"""The log of a server in a real browser: followed over a crash, searched, and through a flood."""

from __future__ import annotations

import re

import psutil
import pytest

from tests.acceptance.browsing import Tabs, chromium, expect, tabs

__all__ = ["Tabs", "chromium", "tabs"]
pytestmark = pytest.mark.browser
MOST = 1201
"""Lines in the page, and the end of a life."""


@pytest.fixture(scope="module")
def cookies(serving):
    session = serving.login("reader")
    return [{"name": each.name, "value": each.value, "url": serving.url} for each in session.cookies]


@pytest.fixture
def open_log(live, cookies, tabs):
    """Opens the page of the log, which is live then."""

    def opened(query=""):
        context = tabs.context()
        context.add_cookies(cookies)
        page = tabs.open(f"{live.url}/servers/default/log/{query}", context)
        expect(page.locator("#log-connection")).to_have_text("live")
        return page

    return opened


def lines(page, text):
    return page.locator(".line", has_text=text)


def log_of(proxy):
    return next(proxy.directory.rglob("default.log"))


def test_a_crash_is_seen_in_the_log_without_a_reload_and_leads_to_its_card_and_back(live, open_log):
    page = open_log()
    listening = lines(page, "listening on")
    expect(listening.last).to_be_visible()
    before = listening.count()
    psutil.Process(live.status()["pid"]).kill()
    expect(listening).to_have_count(before + 1)
    end = page.locator(".mark", has_text="Ended by a signal").last
    expect(end).to_contain_text(re.compile(r"run \d+ ended .*Run \d+ started"))
    end.get_by_role("link", name=re.compile("^run ")).click()
    page.get_by_role("link", name="See them in the log").click()
    expect(page.locator(".current")).to_contain_text("listening on")


def test_a_search_by_keyboard_leads_to_a_line_and_its_neighbours(open_log):
    page = open_log()
    expect(lines(page, "listening on").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("model loaded")
    expect(page.locator("#searched")).to_contain_text("Searched all")
    expect(lines(page, "listening on")).to_have_count(0)
    page.locator("#lines").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("x")
    expect(lines(page, "listening on").first).to_be_visible()
    expect(page.locator(".current")).to_contain_text("model loaded")
    page.go_back()
    expect(page.locator("#q")).to_have_value("model loaded")
    expect(lines(page, "listening on")).to_have_count(0)


def test_a_flood_is_cut_to_what_a_page_can_show_and_its_end_is_reached(live, open_log):
    page = open_log()
    expect(lines(page, "listening on").last).to_be_visible()
    with log_of(live).open("a") as log:
        for part in range(20):
            log.write(f"flood {part}\n" * 30_000)
        log.write("after the flood\n")
    expect(lines(page, "after the flood")).to_be_visible()
    expect(page.locator(".gap").first).to_contain_text("skipped")
    assert page.locator("#lines > *").count() <= MOST


def test_a_reader_of_older_lines_is_told_how_many_are_new(live, open_log):
    page = open_log()
    with log_of(live).open("a") as log:
        log.write("filler\n" * 400)
    expect(lines(page, "filler").last).to_be_visible()
    page.locator("#lines").evaluate("box => box.scrollTop = box.scrollHeight / 2")
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    with log_of(live).open("a") as log:
        log.write("one more\n" * 3)
    expect(page.locator("#news")).to_have_text("3 new lines ↓")
    expect(lines(page, "one more")).to_have_count(0)
    page.locator("#news").click()
    expect(lines(page, "one more").last).to_be_in_viewport()
    expect(page.locator("#news")).to_be_hidden()


def test_a_line_cannot_make_the_page_do_anything(live, open_log):
    page = open_log()
    with log_of(live).open("a") as log:
        log.write("<img src=x onerror=document.title='harm'>\x1b[31mred\x1b[0m\n")
    line = lines(page, "<img src=x")
    expect(line).to_be_visible()
    expect(line.locator(".c1")).to_have_text("red")
    expect(page).to_have_title("● Log of default – llamaproxy")


def test_a_chosen_line_is_watched_for_with_the_keyboard_alone_and_deleted_after_a_question(live, open_log):
    page = open_log()
    line = "0.00.004.120 W srv  a line to be told of"
    with log_of(live).open("a") as log:
        log.write(f"{line}\n")
    expect(lines(page, "a line to be told of")).to_be_visible()
    page.locator("#lines").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator(".current")).to_contain_text("a line to be told of")
    page.keyboard.press("a")
    asked = page.get_by_role("dialog", name="Alert me when this comes again")
    expect(asked.get_by_label("Text of the line")).to_have_value("srv  a line to be told of")
    expect(asked.get_by_label("Name of the alert")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("told of")
    page.keyboard.press("Enter")
    watched = page.get_by_role("region", name="Lines that are watched for")
    expect(watched.get_by_role("listitem")).to_contain_text("told of srv a line to be told of")
    watched.get_by_role("button", name="Delete told of").click()
    question = page.get_by_role("dialog", name="Delete the alert “told of”?")
    question.get_by_role("button", name="Keep it").click()
    expect(watched.get_by_role("listitem")).to_have_count(1)
    watched.get_by_role("button", name="Delete told of").click()
    question.get_by_role("button", name="Delete the alert").click()
    expect(page.get_by_text("None. Choose a line")).to_be_visible()
    expect(page.get_by_role("button", name="Watch for a line")).to_be_focused()


def test_the_palette_and_the_list_of_keys_open_over_a_log_and_leave_it_as_it_was(open_log):
    page = open_log("?q=listening")
    expect(lines(page, "listening on").last).to_be_visible()
    page.locator("#lines").focus()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    for does in (
        "Copy the chosen line",
        "Be alerted when the chosen line comes again",
        "Go to a server or page",
    ):
        expect(keys).to_contain_text(does)
    page.keyboard.press("c")  # keys of the log wait while something lies over it
    expect(page.locator("#told")).to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator("#lines")).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.type("def his")
    palette = page.get_by_role("dialog", name="Go to or do")
    expect(palette.get_by_role("option", selected=True)).to_contain_text("default: History")
    page.keyboard.press("Escape")
    expect(page.locator("#lines")).to_be_focused()
    expect(page.locator("#q")).to_have_value("listening")
    page.keyboard.press("Control+k")
    page.keyboard.type("def his")
    expect(palette.get_by_role("option", selected=True)).to_contain_text("default: History")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Runs of default")).to_be_visible()
