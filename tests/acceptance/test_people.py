"""The pages for everybody: with a keyboard alone, at any width, in both themes, and healed after an outage."""

from __future__ import annotations

import re

import pytest
from msgspec.json import encode

from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts
from tests.acceptance.browsing import badge, chromium, expect, tabs
from tests.acceptance.drawn import RENEW, complaints_of_axe, drawn, visit
from tests.deadline import DEADLINE

__all__ = ["chromium", "drawn", "tabs", "visit"]  # fixtures
pytestmark = pytest.mark.browser


def chosen(page):
    """The item of the palette that Enter takes."""
    return page.locator("#palette-list").get_by_role("option", selected=True)


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


@pytest.mark.parametrize("path", ["/", "/audit/", "/styleguide/", "/servers/gemma-3-12b/runs/"])
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
    second = page.context.new_page()
    second.goto(page.url)
    expect(badge(second)).to_have_text("live")
    link = page.locator("#title-qwen3-30b-a3b")
    link.focus()
    state = "UPDATE supervisor_app_serverstate SET version = version + 1, status = '{}' WHERE detail LIKE '%:8136.'"
    drawn.write(state.format("error"))
    drawn.write(RENEW)
    expect(first).to_contain_text("gpt-oss-20b-mxfp4")
    expect(page.get_by_role("button", name="Start gpt-oss-20b-mxfp4")).to_be_visible()
    expect(link).to_be_focused()
    expect(second.locator(".rows > li").first).to_contain_text("gpt-oss-20b-mxfp4")
    told = [page.evaluate("window.told"), second.evaluate("window.told")]
    assert sorted(told) == [[], ["gpt-oss-20b-mxfp4: Error"]]
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


def test_notifications_that_the_browser_refuses_are_not_promised(visit):
    page = visit("/")
    button = page.get_by_role("button", name="Notify me of crashes")
    button.click()
    expect(page.get_by_text("This browser does not allow notifications")).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "false")


def test_alerts_are_filtered_with_the_keyboard_and_the_address_keeps_that(visit, drawn):
    page = visit("/alerts/")
    expect(page.locator(".incidents li")).to_have_count(3)
    kind = page.get_by_label("Kind")
    kind.focus()
    page.keyboard.type("Hung")
    expect(page.locator(".incidents li")).to_have_count(1)
    expect(kind).to_be_focused()
    assert page.url == f"{drawn.url}/alerts/?server=&kind=hung"
    page.go_back()
    expect(page.locator(".incidents li")).to_have_count(3)


# --- Parts that are pushed -----------------------------------------------------------------------------

PARTS = re.compile(r"/(now|in-flight|figures|bars|maintenance|devices)(\?|$)")
SIGHT = """INSERT OR REPLACE INTO traffic_gatewaysight (gateway, seen_at, total, counts, requests)
    VALUES ('test', strftime('%Y-%m-%d %H:%M:%f', 'now', '+14 seconds'), {total}, '{counts}', '{requests}')"""
QWEN = "qwen3-30b-a3b"


def fly(drawn, *names, tokens=812):
    """Let a gateway have these requests in flight, and no others."""
    requests = [
        InFlight(id=name, at=1.0 + number, phase=Phase.GENERATING, server=QWEN, model="m", tokens=tokens)
        for number, name in enumerate(names)
    ]
    counts = {QWEN: ServerCounts(len(names))}
    sight = {name: encode(value).decode() for name, value in (("counts", counts), ("requests", requests))}
    drawn.write(SIGHT.format(total=len(names), **sight))


def test_the_work_of_a_server_is_pushed_and_not_asked_for(visit, drawn):
    fly(drawn, "req_1")
    page = visit(f"/servers/{QWEN}/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.locator("#now")).to_contain_text("812 tokens")
    fly(drawn, "req_1", tokens=813)
    expect(page.locator("#now")).to_contain_text("813 tokens")
    assert not list(filter(PARTS.search, asked))


def test_buttons_of_what_is_pushed_work(visit, drawn):
    page = visit("/requests/")
    fly(drawn, "req_2")
    page.get_by_role("button", name="Cancel req_2").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the request").click()
    expect(page.locator("#flight-req_2")).to_contain_text("is about to end")
    alerts = visit("/alerts/")
    alerts.get_by_text("Begin maintenance").click()
    alerts.locator("#maintained").select_option(QWEN)
    alerts.get_by_role("button", name="Begin", exact=True).click()
    page = visit(f"/servers/{QWEN}/")
    page.get_by_role("button", name="End maintenance").click()
    expect(page.get_by_role("button", name="End maintenance")).to_be_hidden()


NO_SOCKET = """window.WebSocket = class extends EventTarget {
    static CONNECTING = 0;
    static OPEN = 1;
    readyState = 0;
    close() {}
};"""


def test_a_page_whose_proxy_lets_no_socket_through_asks_now_and_then(visit, drawn, tabs):
    tabs.forgiven = "WebSocket"
    page = visit("/requests/", NO_SOCKET, live=False)
    page.clock.install()
    fly(drawn, "req_3")
    page.clock.fast_forward(20_000)
    expect(page.locator("#flight-req_3")).to_be_visible()


# --- Focus ---------------------------------------------------------------------------------------------


def test_the_focus_stays_near_when_what_had_it_is_gone(visit, drawn):
    fly(drawn, "req_4", "req_5")
    page = visit(f"/servers/{QWEN}/requests/")
    for name in ("req_4", "req_5"):
        page.get_by_role("button", name=f"Cancel {name}").focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Cancel the request").click()
        expect(page.locator(f"#flight-{name}")).to_contain_text("is about to end")
        if name == "req_4":
            expect(page.get_by_role("button", name="Cancel req_5")).to_be_focused()
    expect(page.get_by_role("heading", name="In flight")).to_be_focused()


def test_the_focus_stays_near_when_a_push_takes_away_what_had_it(visit, drawn):
    fly(drawn, "req_6", "req_7")
    page = visit(f"/servers/{QWEN}/requests/")
    page.get_by_role("button", name="Cancel req_6").focus()
    fly(drawn, "req_7")
    expect(page.get_by_role("button", name="Cancel req_7")).to_be_focused()
    fly(drawn)
    expect(page.get_by_role("heading", name="In flight")).to_be_focused()


# --- Healing -------------------------------------------------------------------------------------------

SEEN = """() => {
    const badge = document.getElementById("connection"), seen = window.seen = [badge.dataset.state];
    new MutationObserver(() => seen.push(badge.dataset.state)).observe(badge, {attributeFilter: ["data-state"]});
}"""
LOOK_AWAY = """() => {
    Object.defineProperty(document, "hidden", {value: true, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
OF_OLD = """document.addEventListener("DOMContentLoaded", () => {
    const main = document.getElementById("main"), address = main.getAttribute("ws-connect");
    if (!sessionStorage.aged) main.setAttribute("ws-connect", address.replace(/build=\\w+/, "build=old"));
    sessionStorage.aged = true;
});"""
LOOK_BACK = LOOK_AWAY.replace("true, c", "false, c")


def change(drawn, detail):
    """Change a server as its supervisor would, with nobody to push it."""
    drawn.write(
        f"UPDATE supervisor_app_serverstate SET version = version + 1, detail = '{detail}' WHERE detail LIKE "
        "'%:8134.' OR detail LIKE 'Told %'"
    )
    drawn.write(RENEW)


def test_a_page_that_was_frozen_goes_on_with_what_has_happened(visit, drawn):
    page = visit("/")
    lifecycle = page.context.new_cdp_session(page)
    lifecycle.send("Page.setWebLifecycleState", {"state": "frozen"})
    change(drawn, "Told after the freeze.")
    lifecycle.send("Page.setWebLifecycleState", {"state": "active"})
    expect(page.locator("#servers")).to_contain_text("Told after the freeze.")


def test_a_page_that_slept_is_not_live_before_it_has_heard_anew(visit, drawn):
    page = visit("/")
    page.clock.install()
    page.evaluate(SEEN)
    # Within the leap, so that no push comes between the two.
    page.evaluate(
        "() => void setTimeout(() => document.dispatchEvent(new Event('visibilitychange')), 29_000)"
    )
    page.clock.fast_forward(30_000)
    expect(badge(page)).to_have_text("live")
    assert page.evaluate("window.seen") == ["live", "lost", "live"]


def test_a_page_without_a_network_says_so_and_catches_up(visit, drawn, tabs):
    tabs.forgiven = "ERR_INTERNET_DISCONNECTED|Event"
    page = visit("/")
    page.context.set_offline(True)
    expect(badge(page)).to_have_text("not live: reconnecting")
    change(drawn, "Told after the outage.")
    page.context.set_offline(False)
    expect(badge(page)).to_have_text("live")
    expect(page.locator("#servers")).to_contain_text("Told after the outage.")


def test_a_page_of_an_old_version_says_so_and_reloads_once_nobody_looks(visit):
    page = visit("/", script=OF_OLD)
    expect(page.get_by_text("A new version of llamaproxy is running")).to_be_visible()
    with page.expect_navigation():
        page.evaluate(LOOK_AWAY)
    expect(badge(page)).to_have_text("live")
    expect(page.locator("#outdated")).to_be_hidden()


def test_a_page_whose_login_has_ended_says_so_and_offers_the_login(visit, drawn):
    copied = (
        "INSERT INTO django_session SELECT 'copied-session', session_data, expire_date FROM django_session"
    )
    drawn.write(f"{copied} LIMIT 1")
    page = visit("/alerts/")
    page.context.add_cookies([{"name": "sessionid", "value": "copied-session", "url": drawn.url}])
    page.reload()
    expect(badge(page)).to_have_text("live")
    drawn.write("DELETE FROM django_session WHERE session_key = 'copied-session'")
    expect(page.get_by_role("alert")).to_contain_text("Your login has ended")
    assert complaints_of_axe(page) == []
    page.get_by_role("link", name="Log in again").click()
    page.wait_for_url("**/admin/login/?next=/alerts/")


def test_a_page_that_nobody_saw_shows_what_it_missed(visit, drawn):
    page = visit("/")
    page.evaluate(LOOK_AWAY)
    change(drawn, "Told to those who look.")
    page.evaluate(LOOK_BACK)
    expect(page.locator("#servers")).to_contain_text("Told to those who look.")


def test_a_report_is_copied_with_the_keyboard_alone(visit):
    page = visit("/servers/gemma-3-12b/runs/8/", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy report").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The report is copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("### Name and version")
    assert complaints_of_axe(page) == []


def test_a_report_is_shown_where_the_browser_lets_no_page_copy(visit):
    refuse = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
    page = visit("/servers/gemma-3-12b/runs/8/", refuse, viewport={"width": 390, "height": 844})
    page.get_by_role("button", name="Copy report").click()
    shown = page.get_by_role("dialog", name="Report")
    expect(shown.get_by_role("textbox", name="Report")).to_have_value(re.compile("^### Name and version"))
    assert page.evaluate("getSelection().toString()").startswith("### Name and version")
    assert complaints_of_axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    expect(shown).to_be_hidden()
