"""The pages for everybody: with a keyboard alone, read aloud, at any width, in both themes.

The rows are drawn into the database; no supervisor changes them while a test looks.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.browsing import Tabs, badge, chromium, expect, tabs
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


DRAW = """
from supervisor_app.alerts.models import Incident, IncidentNote
from supervisor_app.fleet.status_page import choose
from tests.scenes import draw

draw("three")
choose({"gemma-3-12b": "Chat", "qwen3-30b-a3b": "Coding"})
incident = Incident.objects.filter(server__name="gemma-3-12b").latest("opened_at")
IncidentNote.objects.create(incident=incident, text="A new card is on its way.", author="someone")
"""

SINGLE_SIGN_ON = {
    "LLAMAPROXY_SSO_ISSUER": "https://id.example.org",
    "LLAMAPROXY_SSO_CLIENT_ID": "llamaproxy",
    "LLAMAPROXY_SSO_CLIENT_SECRET": "secret",
    "LLAMAPROXY_SSO_OTHERS": "viewer",
}
"""A button on the login page. The provider is never asked."""


@pytest.fixture(scope="module")
def drawn(make_shared):
    """Pages of three servers, one of them crashed with a note, and the cookies of a member of the staff."""
    proxy = make_shared()
    proxy.env["DEBUG"] = "1"
    proxy.env |= SINGLE_SIGN_ON if find_spec("mozilla_django_oidc") else {}
    proxy.python(DRAW)
    proxy.start_web()
    session = proxy.login("someone")
    proxy.write("UPDATE auth_user SET is_superuser = 1")  # Django's admin asks for rights of its own
    proxy.cookies = [
        {"name": name, "value": value, "url": proxy.url} for name, value in session.cookies.items()
    ]
    return proxy


@pytest.fixture
def visit(drawn, tabs):
    """Open a page as staff, once it is live."""

    def open_page(path, script="", *, live=True, staff=True, **options):
        drawn.write(RENEW)  # no supervisor does
        context = tabs.context(**options)
        context.add_init_script(script)
        if staff:
            context.add_cookies(drawn.cookies)
        page = tabs.open(drawn.url + path, context)
        if live:
            expect(badge(page)).to_have_text("live")
        return page

    return open_page


def chosen(page):
    """The item of the palette that Enter takes."""
    return page.locator("#palette-list").get_by_role("option", selected=True)


SETTLED = """() => Promise.allSettled(
    document.getAnimations().filter(each => each instanceof CSSTransition).map(each => each.finished)
)"""
"""Links of Django's admin fade to their colour when the scheme changes: halfway it has too little contrast."""


def complaints_of_axe(page):
    page.evaluate(AXE)
    page.evaluate(SETTLED)
    return page.evaluate(CHECK, RULES)


STAFF = [
    "/",
    "/add-server/",
    "/add-server/?from=gemma-3-12b",
    "/admin/supervisor_app/llamaserver/",
    "/admin/supervisor_app/llamaserver/1/change/",
    "/admin/traffic/apikey/",
    "/admin/traffic/apikey/add/",
    "/alerts/",
    "/alerts/?server=nobody",
    "/alerts/channels/",
    "/alerts/channels/1/",
    "/audit/",
    "/audit/?who=nobody",
    "/keys/",
    "/keys/1/",
    "/keys/add/",
    "/models/",
    "/requests/",
    "/requests/?outcome=ok",
    "/requests/usage/",
    "/servers/gemma-3-12b/",
    "/servers/qwen3-30b-a3b/",
    "/servers/gemma-3-12b/availability",
    "/servers/gemma-3-12b/config/",
    "/servers/gemma-3-12b/log/",
    "/servers/gemma-3-12b/requests/",
    "/servers/gemma-3-12b/runs/",
    "/servers/gemma-3-12b/runs/8/",
    "/servers/gemma-3-12b/runs/compare?run=7&run=8",
    "/status/servers/",
    "/styleguide/",
    "/users/",
    "/users/1/",
]
STRANGERS = ["/", "/alerts/", "/status/", "/admin/login/", "/login/used/", "/nowhere"]


@pytest.mark.parametrize(
    ("path", "is_staff"), [(path, True) for path in STAFF] + [(path, False) for path in STRANGERS]
)
def test_a_page_breaks_no_rule_of_accessibility_in_light_or_dark(visit, tabs, path, is_staff):
    # axe itself tries an inline style, and cannot read the sheets that those of Django's admin import.
    tabs.forgiven = "status of 4(04|10)|inline style|preload assets"
    page = visit(path, live=False, staff=is_staff)
    if page.locator("#connection[data-live]").count() and "/log/" not in path:
        expect(badge(page)).to_have_text("live")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert complaints_of_axe(page) == [], scheme


ROLL_BACK = """() => {
    const form = Object.assign(document.createElement("form"), {method: "post", action: "/servers/gpt-oss-20b-mxfp4/rollback"});
    const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
    form.append(Object.assign(document.createElement("input"), {name: "csrfmiddlewaretoken", value: token}));
    document.body.append(form);
    form.submit();
}"""


def test_the_page_of_a_refusal_breaks_no_rule_either(visit, tabs):
    tabs.forgiven = "status of 409|inline style"
    page = visit("/")
    page.evaluate(ROLL_BACK)
    expect(page.get_by_role("heading", name="Not done")).to_be_visible()
    assert complaints_of_axe(page) == []


def test_a_server_is_not_deleted_before_a_question_that_names_it(visit):
    page = visit("/servers/gemma-3-12b/config/")
    page.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog", name="Delete gemma-3-12b?")
    expect(question).to_contain_text("The records and sums of its requests")
    assert complaints_of_axe(page) == []
    question.get_by_role("button", name="Keep it").click()
    expect(question).to_be_hidden()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()


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
    page.clock.fast_forward(30_000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
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


def test_a_page_whose_login_has_ended_says_so_and_offers_the_login(visit):
    page = visit("/alerts/")
    page.context.clear_cookies()
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
