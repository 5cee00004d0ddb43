"""No page and no state of one breaks a rule of accessibility, in light or dark."""

from __future__ import annotations

import pytest

from tests.acceptance.browsing import badge, chromium, expect, tabs
from tests.acceptance.drawn import complaints_of_axe, drawn, visit

__all__ = ["chromium", "drawn", "tabs", "visit"]  # fixtures
pytestmark = pytest.mark.browser

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


def breaks_no_rule(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert complaints_of_axe(page) == [], scheme


@pytest.mark.parametrize(
    ("path", "is_staff"), [(path, True) for path in STAFF] + [(path, False) for path in STRANGERS]
)
def test_a_page_breaks_no_rule_of_accessibility_in_light_or_dark(visit, tabs, path, is_staff):
    # axe itself tries an inline style, and cannot read the sheets that those of Django's admin import.
    tabs.forgiven = "status of 4(04|10)|inline style|preload assets"
    page = visit(path, live=False, staff=is_staff)
    if page.locator("#connection[data-live]").count() and "/log/" not in path:
        expect(badge(page)).to_have_text("live")
    breaks_no_rule(page)


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
    expect(page.locator("#palette-list").get_by_role("option", selected=True)).to_be_visible()
    assert complaints_of_axe(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert complaints_of_axe(page) == []


def test_maintenance_breaks_no_rule_before_it_is_begun_and_while_it_lasts(visit, tabs):
    tabs.forgiven = "status of 400|inline style"  # axe itself tries one
    page = visit("/servers/qwen3-30b-a3b/")
    page.get_by_text("Begin maintenance").click()
    page.get_by_label("Note").fill("a new card")
    page.get_by_label("Or until").fill("2020-01-01T00:00")
    breaks_no_rule(page)
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.get_by_text("That moment is over")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("a new card")
    breaks_no_rule(page)
    page.get_by_label("Or until").fill("")
    page.get_by_role("button", name="Begin", exact=True).click()
    end = page.get_by_role("button", name="End maintenance")
    expect(end).to_be_visible()
    breaks_no_rule(page)
    overview = visit("/")
    expect(overview.locator("#row-qwen3-30b-a3b")).to_contain_text("Maintenance")
    breaks_no_rule(overview)
    end.click()
    expect(end).to_be_hidden()


def test_the_form_of_a_note_breaks_no_rule(visit):
    page = visit("/servers/gemma-3-12b/availability")
    page.get_by_text("Change the note").first.click()
    expect(page.get_by_role("button", name="Save the note").first).to_be_visible()
    breaks_no_rule(page)


def test_the_question_before_an_action_of_the_admin_breaks_no_rule(visit, tabs):
    tabs.forgiven = "inline style|preload assets"
    page = visit("/admin/supervisor_app/llamaserver/", live=False)
    page.get_by_label("Select all objects on this page for an action").check()
    page.get_by_label("Action:").select_option("stop")
    page.get_by_title("Run the selected action").click()
    expect(page.get_by_role("heading", name="Stop 2 servers?")).to_be_visible()
    breaks_no_rule(page)
    page.get_by_role("link", name="No, take me back").click()
    expect(page.get_by_label("Action:")).to_be_visible()
