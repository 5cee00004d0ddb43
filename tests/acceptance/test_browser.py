"""The pages in a real browser, without a reload. A message on its console fails the test that caused it."""

from __future__ import annotations

import re
import threading
from itertools import pairwise

import psutil
import pytest
import requests

from supervisor_app.common import words
from tests.acceptance.browsing import Tabs, badge, chromium, expect, points_of, server, tabs
from tests.acceptance.children import wait_for
from tests.acceptance.drawn import complaints_of_axe
from tests.acceptance.fronted import SUB_PATH, nginx_before
from tests.acceptance.long_request import LONG_REQUEST, asked
from tests.acceptance.seen import REMEMBER_STATUSES, TICKED, WIDER_THAN_THEIR_PLACE, brightness
from tests.deadline import DEADLINE

__all__ = ["asked", "chromium", "tabs"]  # fixtures

pytestmark = pytest.mark.browser
PASSWORD = "a-fine-long-password"


# --- Live ----------------------------------------------------------------------------------------------


def test_the_page_says_that_its_server_is_ready_and_live(serving, tabs):
    page = tabs.open(serving.url)
    expect(badge(page)).to_have_text("live")
    expect(server(page, "ready")).to_contain_text("Ready")
    expect(page).to_have_title(re.compile("ready"))


def test_the_uptime_ticks(serving, tabs):
    uptime = tabs.open(serving.url).locator(".facts [data-uptime-since]")
    before = uptime.inner_text()
    expect(uptime).not_to_have_text(before)


def test_durations_that_tick_have_the_words_of_the_page(serving, tabs):
    seconds = [0, 4, 5, 59, 60, 307, 3599, 3600, 7500, 86399, 86400, 273600]
    for told, each in zip(tabs.open(serving.url).evaluate(TICKED, seconds), seconds, strict=True):
        # The page takes its time from the last push, which may have been on its way for a while.
        assert told in [[words.duration(at), words.ago(at)] for at in (each, each - 1)]


def test_two_tabs_see_a_crash_and_the_recovery_without_a_reload(live, tabs):
    context = tabs.context()
    pages = [tabs.open(live.url, context) for _ in range(2)]
    for page in pages:
        expect(badge(page)).to_have_text("live")
        page.evaluate(REMEMBER_STATUSES)
    pid = live.status()["pid"]
    psutil.Process(pid).kill()
    after = live.wait_for_new_pid(pid)["pid"]
    for page in pages:
        expect(server(page, "ready")).to_contain_text(str(after))
        seen = page.evaluate("window.seen")
        assert seen[:2] == ["ready", "crashed"]
        assert seen[-1] == "ready"


def test_giving_up_is_shown_with_what_to_do(fake, tabs):
    fake.script("--fake-load-seconds", "3600", max_retries=1)
    fake.start().wait_for_status("starting")
    page = tabs.open(fake.url)
    expect(badge(page)).to_have_text("live")
    fake.script(
        "--fake-stderr-line", "failed to allocate CPU buffer of size 5476083302", "--fake-exit-after", "0"
    )
    expect(server(page, "error")).to_contain_text("Out of memory")
    expect(server(page, "error")).to_contain_text("5.1 GiB")
    expect(server(page, "error").locator(".hint")).to_contain_text("Try a smaller context")


def test_a_lost_supervisor_is_shown_as_not_live_and_its_return_as_live(proxy, tabs):
    tabs.forgiven = r"WebSocket connection to .* failed|\[object Event\]"
    proxy.start().wait_for_status("ready")
    page = tabs.open(proxy.url)
    expect(badge(page)).to_have_text("live")
    proxy.supervisor.kill()
    expect(badge(page)).to_contain_text("not live")
    page.evaluate("htmx.ajax('GET', '/devices', '#devices')")  # as it does every 10 s, else a complaint
    proxy.start()
    expect(badge(page)).to_have_text("live")
    expect(server(page, "ready")).to_be_visible()


def test_a_change_is_announced_to_screen_readers(live, tabs):
    page = tabs.open(live.url)
    expect(badge(page)).to_have_text("live")
    pid = live.status()["pid"]
    psutil.Process(pid).kill()
    live.wait_for_new_pid(pid)
    expect(page.locator("#live-default[role=status]")).to_contain_text("default: Ready")


def test_a_push_changes_the_page_and_leaves_what_is_in_use(live, tabs):
    page = tabs.open(live.url, viewport={"width": 900, "height": 400})
    expect(badge(page)).to_have_text("live")
    page.evaluate("scrollTo(0, 150)")
    page.evaluate("(window.kept = document.getElementById('title-default')).focus({preventScroll: true})")
    pid = live.status()["pid"]
    psutil.Process(pid).kill()
    after = live.wait_for_new_pid(pid)["pid"]
    expect(server(page, "ready")).to_contain_text(str(after))
    assert page.evaluate("document.activeElement === window.kept && window.kept.isConnected")
    assert page.evaluate("scrollY") == 150


def test_a_list_of_many_servers_stays_live_and_leaves_what_is_in_use(live, tabs):
    add = "LlamaServer.objects.bulk_create(LlamaServer(name=f's{n}', node='far', port=n) for n in range(%s))"
    imports = "from supervisor_app.fleet.models import LlamaServer"
    live.python(imports, add % "100, 160")
    try:
        page = tabs.open(live.url)
        expect(badge(page)).to_have_text("live")
        page.evaluate("(window.kept = document.getElementById('title-s130')).focus()")
        live.python(imports, add % "90, 95", "LlamaServer.objects.filter(name='s120').delete()")
        expect(page.locator("#state-s94")).to_contain_text("No supervisor looks after it")
        expect(page.locator("#row-s120")).to_have_count(0)
        expect(page.locator(".rows > li")).to_have_count(65)
        assert page.evaluate("document.activeElement === window.kept && window.kept.isConnected")
        assert page.evaluate("document.querySelectorAll('.rows > li:empty').length") == 0
        shown = page.locator("#state-default").get_attribute("data-version")
        pid = live.status()["pid"]
        psutil.Process(pid).kill()
        live.wait_for_new_pid(pid)
        changed = page.locator(f'#state-default[data-status="ready"]:not([data-version="{shown}"])')
        expect(changed).to_be_visible()
    finally:
        live.python(imports, "LlamaServer.objects.filter(node='far').delete()")


def test_without_javascript_the_page_still_tells_the_status(serving, tabs):
    page = tabs.open(serving.url, java_script_enabled=False)
    expect(server(page, "ready")).to_be_visible()


# --- Staff ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cookies(serving, chromium):
    """Of the first user, who came by the link on the console and chose a password."""
    tabs = Tabs(chromium)
    serving.link = re.search(r"http\S+/login/\S+", serving.console).group()
    page = tabs.open(serving.link)
    page.get_by_role("button", name="Log in").click()
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.get_by_role("button", name="Save password").click()
    expect(page.get_by_text("The password is set")).to_be_visible()
    state = page.context.storage_state()
    tabs.close()
    assert tabs.complaints == []
    return state


@pytest.fixture
def staff(live, cookies, tabs):
    page = tabs.open(live.url, storage_state=cookies)
    expect(badge(page)).to_have_text("live")
    return page


def test_a_visitor_has_no_buttons(serving, tabs):
    page = tabs.open(serving.url)
    expect(server(page, "ready")).to_be_visible()
    expect(page.get_by_role("button", name="Restart")).to_have_count(0)


def test_the_login_link_works_once(serving, cookies, tabs):
    tabs.forgiven = "status of 410"
    page = tabs.open(serving.link)
    expect(page.get_by_role("heading", name="This link does not work any more")).to_be_visible()


def test_the_chosen_password_logs_in(serving, cookies, tabs):
    page = tabs.open(f"{serving.url}/admin/login/?next=/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Restart")).to_be_visible()


def test_restart_asks_first_and_then_replaces_the_process(staff, live):
    pid = live.status()["pid"]
    staff.get_by_role("button", name="Restart").click()
    dialog = staff.get_by_role("dialog", name="Restart default?")
    dialog.get_by_role("button", name="Restart").click()
    after = live.wait_for_new_pid(pid)["pid"]
    expect(server(staff, "ready")).to_contain_text(str(after))


def configure(page, live, change, seen):
    """Change a setting on the page of the configuration; most are set by the file."""
    page.goto(f"{live.url}/servers/default/config/")
    expect(page.get_by_role("heading", name="Set by a file")).to_be_visible()
    expect(page.locator("#id_args")).to_have_count(0)
    page.get_by_text("More", exact=True).click()
    change()
    expect(page.locator(".review")).to_contain_text(seen)
    assert complaints_of_axe(page) == []
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".versions > li").first).to_contain_text(seen)


def test_a_change_restarts_a_server_once_and_one_that_fails_is_taken_back_on_the_page(staff, live, tabs):
    tabs.forgiven = "status of 400|inline style"  # axe itself tries one
    pid, runs = live.status()["pid"], len(live.runs())
    configure(staff, live, lambda: staff.locator("#id_keep_context").check(), "keep_context")
    live.wait_for_new_pid(pid)
    live.wait_for_status("ready")
    assert len(live.runs()) == runs + 1
    configure(staff, live, lambda: staff.locator("#id_models_dir").fill("/nowhere"), "models_dir")
    live.wait_for_status("error")
    staff.reload()
    expect(staff.get_by_text("Version 3 did not get ready")).to_be_visible()
    staff.get_by_text("More", exact=True).click()
    staff.locator("#id_max_retries").fill("-1")
    expect(staff.locator(".review")).to_contain_text("cannot be applied yet")
    staff.get_by_role("button", name="Apply").click()
    expect(staff.locator("#id_max_retries")).to_have_attribute("aria-invalid", "true")
    assert complaints_of_axe(staff) == []
    staff.goto(f"{live.url}/servers/default/")
    expect(staff.get_by_text("Version 3 did not get ready")).to_be_visible()
    staff.get_by_role("button", name="Go back to version 2").click()
    pid = live.wait_for_status("ready")["pid"]
    staff.get_by_role("button", name="Go back to version 1").click()  # as other tests know it
    live.wait_for_new_pid(pid)
    live.wait_for_status("ready")


def test_cancel_leaves_the_server_running(staff, live):
    runs = len(live.runs())
    staff.get_by_role("button", name="Restart").click()
    staff.get_by_role("button", name="Cancel").click()
    expect(staff.get_by_role("dialog")).to_be_hidden()
    live.llama("restart")
    live.wait_for("one run more, by the second restart", lambda: len(live.runs()) > runs)
    live.wait_for_status("ready")
    assert len(live.runs()) == runs + 1


def test_stop_and_start(staff):
    staff.get_by_role("button", name="Stop").click()
    staff.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(server(staff, "initial")).to_contain_text("Not running")
    staff.get_by_role("button", name="Start", exact=True).click()
    expect(server(staff, "ready")).to_be_visible()


def test_slots_of_a_server_that_works_are_shown_with_their_context(live, tabs):
    page = tabs.open(f"{live.url}/servers/default/")
    slots, done = page.locator(".slots tbody tr"), threading.Event()

    def keep_asking():
        body = {"messages": [{"role": "user", "content": "count"}], "stream": True, "max_tokens": 400}
        while not done.is_set():
            requests.post(f"{live.gateway_url}/v1/chat/completions", json=body, timeout=DEADLINE)

    client = threading.Thread(target=keep_asking, daemon=True)
    client.start()
    try:
        expect(slots.first).to_contain_text(re.compile(r"0\s+(Generating|Prefill).*\d+ of 512", re.DOTALL))
        wait_for("the charts have points", lambda: points_of(page) > 1)
        expect(page.locator(".figures")).to_contain_text("Context in use")
    finally:
        done.set()
        client.join(DEADLINE)


def test_a_push_of_the_requests_leaves_what_is_in_use(serving, asked, cookies, tabs):
    page = tabs.open(f"{serving.url}/servers/default/requests/", storage_state=cookies)
    page.evaluate("(window.kept = document.querySelector('#past .how a')).focus()")
    expect(badge(page)).to_have_text("live")
    serving.write("UPDATE supervisor_app_requestrecord SET model = 'another' WHERE key = 'chat UI'")
    expect(page.locator("#past")).to_contain_text("another", timeout=DEADLINE * 1000)
    assert page.evaluate("document.activeElement === window.kept && window.kept.isConnected")
    serving.write(f"UPDATE supervisor_app_requestrecord SET model = '{LONG_REQUEST['model']}'")


def test_a_page_whose_login_has_ended_loses_the_requests(serving, asked, cookies, tabs):
    (session,) = [each["value"] for each in cookies["cookies"] if each["name"] == "sessionid"]
    copied = (
        "INSERT INTO django_session SELECT 'copied-session', session_data, expire_date FROM django_session"
    )
    serving.write(f"{copied} WHERE session_key = '{session}'")
    context = tabs.context(storage_state=cookies)
    context.add_cookies([{"name": "sessionid", "value": "copied-session", "url": serving.url}])
    page = tabs.open(f"{serving.url}/servers/default/requests/", context)
    expect(page.locator("#past table")).to_be_visible()
    expect(badge(page)).to_have_text("live")
    serving.write("DELETE FROM django_session WHERE session_key = 'copied-session'")
    expect(page.locator("#past")).to_have_count(0)
    expect(page.locator("#in-flight")).to_have_count(0)


def test_the_keyboard_reaches_the_buttons_and_the_way_back(staff):
    restart = staff.get_by_role("button", name="Restart")
    for _ in range(30):
        staff.keyboard.press("Tab")
        if restart.evaluate("button => button === document.activeElement"):
            break
    expect(restart).to_be_focused()
    staff.keyboard.press("Enter")
    expect(staff.get_by_role("dialog")).to_be_visible()
    staff.keyboard.press("Escape")
    expect(staff.get_by_role("dialog")).to_be_hidden()
    expect(restart).to_be_focused()


def test_below_a_path_of_a_proxy_the_page_is_live_and_its_buttons_work(fake, tabs):
    fake.env["FORCE_SCRIPT_NAME"] = SUB_PATH
    fake.start().wait_for_status("ready")
    pages = nginx_before(fake, passes_on=True)
    page = tabs.open(pages + fake.wait_for_line("First login").partition(SUB_PATH)[2])
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{pages}/")
    expect(badge(page)).to_have_text("live")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(server(page, "initial")).to_contain_text("Not running")
    page.get_by_role("link", name="default").click()
    expect(badge(page)).to_have_text("live")
    page.get_by_role("navigation", name="Pages of default").get_by_role("link", name="Requests").click()
    expect(page.locator("#past")).to_contain_text("No request yet")


# --- Looks ---------------------------------------------------------------------------------------------


def test_the_page_is_dark_where_the_system_is(serving, tabs):
    page = tabs.open(serving.url, color_scheme="dark")
    assert brightness(page, "body", "backgroundColor") < 60
    assert brightness(page, "article.server", "backgroundColor") < 60
    assert brightness(page, "article.server .word", "color") > 150


def test_the_page_is_light_where_the_system_is(serving, tabs):
    page = tabs.open(serving.url, color_scheme="light")
    assert brightness(page, "body", "backgroundColor") > 200
    assert brightness(page, "article.server .word", "color") < 150


@pytest.mark.parametrize(
    "path", ["/", "/servers/default/", "/servers/default/log/", "/login/used/", "/nowhere"]
)
def test_a_phone_need_not_scroll_sideways(serving, cookies, tabs, path):
    tabs.forgiven = "status of 4(10|04)"
    page = tabs.open(serving.url + path, storage_state=cookies, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize(("width", "cells"), [(1280, "#past :is(th, td)"), (360, "#past td")])
def test_the_row_of_a_request_fits_its_columns(serving, asked, cookies, tabs, width, cells):
    viewport = {"width": width, "height": 740}
    page = tabs.open(f"{serving.url}/servers/default/requests/", storage_state=cookies, viewport=viewport)
    expect(page.locator("#past")).to_contain_text("131072 in, 65536 out")
    assert page.evaluate(WIDER_THAN_THEIR_PLACE, cells) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 360])
def test_the_kept_text_of_a_request_can_be_read_to_its_end(serving, asked, cookies, tabs, width):
    url = f"{serving.url}/requests/{asked}/"
    page = tabs.open(url, storage_state=cookies, viewport={"width": width, "height": 740})
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator("details pre").last).to_contain_text("answeredanswered")
    assert page.evaluate(WIDER_THAN_THEIR_PLACE, "details, pre, .words") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_headings_skip_no_level(serving, tabs):
    page = tabs.open(serving.url)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(heading => +heading.tagName[1])"
    )
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
