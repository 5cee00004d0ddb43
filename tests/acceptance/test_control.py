"""Start, stop, restart: by API, by command line, by a changed configuration; and who may."""

from __future__ import annotations

import json

import psutil
import pytest
import requests

from tests.acceptance.browsing import badge, chromium, expect, server, tabs
from tests.deadline import DEADLINE

__all__ = ["chromium", "tabs"]  # fixtures


def post(proxy, command, client=None, server="default", **headers):
    send = client.post if client else requests.post
    return send(f"{proxy.url}/api/servers/{server}/{command}", timeout=DEADLINE, headers=headers)


# --- The API -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def staff(serving):
    return serving.login("staff")


@pytest.mark.parametrize("command", ["start", "stop", "restart"])
def test_a_stranger_is_refused_in_json(serving, command):
    answer = post(serving, command)
    assert answer.status_code in (401, 403)
    assert answer.json()["error"].keys() == {"code", "message", "hint"}


def test_a_stranger_with_a_csrf_token_is_asked_to_log_in(serving):
    token = "a" * 32
    answer = post(serving, "stop", **{"X-CSRFToken": token, "Cookie": f"csrftoken={token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login_required")


def test_a_user_without_a_role_is_refused_in_json(serving):
    answer = post(serving, "stop", serving.login("visitor", staff=False))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_staff_without_the_csrf_token_are_refused_in_json(serving, staff):
    answer = post(serving, "stop", staff, **{"X-CSRFToken": ""})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_failed")


def test_staff_are_answered_202(live, staff):
    answer = post(live, "start", staff)
    assert (answer.status_code, answer.json()) == (202, {"server": "default", "asked": "start"})


def test_start_leaves_a_server_that_runs_alone(live, staff):
    runs = len(live.runs())
    post(live, "start", staff)
    live.llama("restart")
    live.wait_for(
        "one run more, by the restart", lambda: len(live.runs()) == runs + 1 and live.runs()[-1]["ready_at"]
    )


def test_restart_replaces_the_process(live, staff):
    pid = live.status()["pid"]
    post(live, "restart", staff)
    live.wait_for_new_pid(pid)
    assert not psutil.pid_exists(pid)


def test_stop_by_the_api_ends_a_server_and_start_brings_it_back(live, staff):
    pid = live.status()["pid"]
    post(live, "stop", staff)
    live.wait_for_status("initial")
    assert not psutil.pid_exists(pid)
    post(live, "start", staff)
    live.wait_for_status("ready")


def test_a_server_that_does_not_exist_is_404_in_json_naming_those_that_do(serving, staff):
    answer = post(serving, "stop", staff, server="nowhere")
    assert answer.status_code == 404
    assert "default" in answer.json()["error"]["hint"]


def test_an_unknown_command_is_404_in_json(serving, staff):
    answer = post(serving, "explode", staff)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_looking_does_not_act(live, staff):
    assert staff.get(f"{live.url}/api/servers/default/stop", timeout=DEADLINE).status_code == 405
    assert live.status()["status"] == "ready"


# --- People side by side -------------------------------------------------------------------------------

MAKE_PEOPLE = """
from django.contrib.auth.models import Group, User
from django.test import Client

for role in ("viewer", "operator", "admin"):
    user, client = User.objects.create_user("the-" + role), Client()
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    print(client.cookies["sessionid"].value)
"""
OWN_PLACES = ("Keys", "Users", "Audit")


@pytest.fixture(scope="module")
def sessions(serving):
    names = ("viewer", "operator", "admin")
    return dict(zip(names, serving.python(MAKE_PEOPLE).splitlines(), strict=True))


@pytest.fixture
def visit(live, sessions, tabs):
    """Open a page as somebody of a role, or as a stranger."""

    def open_page(who, path):
        context = tabs.context()
        if who != "stranger":
            context.add_cookies([{"name": "sessionid", "value": sessions[who], "url": live.url}])
        return tabs.open(live.url + path, context)

    return open_page


def offered(page):
    """Buttons that act on the server, and places for admins, as far as a page has them."""
    acts = {name for name in ("Restart", "Stop") if page.get_by_role("button", name=name, exact=True).count()}
    main = page.get_by_role("navigation", name="Main")
    return acts, [name for name in OWN_PLACES if main.get_by_role("link", name=name).count()]


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/", "/servers/default/"])
def test_people_see_what_they_may_do_and_follow_what_the_others_do(live, visit, path):
    pages = {who: visit(who, path) for who in ("stranger", "viewer", "operator", "admin")}
    for page in pages.values():
        expect(badge(page)).to_have_text("live")
    acts = {"Restart", "Stop"}
    assert {who: offered(page) for who, page in pages.items()} == {
        "stranger": (set(), []),
        "viewer": (set(), []),
        "operator": (acts, []),
        "admin": (acts, [*OWN_PLACES]),
    }
    before = live.status()["pid"]
    pages["operator"].get_by_role("button", name="Restart", exact=True).click()
    pages["operator"].get_by_role("dialog").get_by_role("button", name="Restart").click()
    after = live.wait_for_new_pid(before)["pid"]
    for page in pages.values():
        expect(server(page, "ready")).to_contain_text(str(after))


@pytest.mark.browser
def test_a_stranger_gets_the_login_and_an_operator_a_sentence(visit, tabs):
    tabs.forgiven = "status of 403"
    page = visit("stranger", "/servers/default/log/")
    expect(page.get_by_label("Password")).to_be_visible()
    page = visit("operator", "/keys/")
    expect(page.locator("main")).to_contain_text("Your role operator may not change what is set up.")


@pytest.mark.browser
def test_a_role_that_is_taken_away_ends_sockets_and_acts_of_open_pages(live, visit, tabs):
    tabs.forgiven = "status of 403|Error Code 403"
    pages = visit("operator", "/servers/default/"), visit("operator", "/servers/default/log/")
    expect(pages[1].locator("#log-connection")).to_have_text("live")
    of_operator = "user_id = (SELECT id FROM auth_user WHERE username = 'the-operator')"
    (row,) = live.query(f"SELECT * FROM auth_user_groups WHERE {of_operator}")
    live.write(f"DELETE FROM auth_user_groups WHERE {of_operator}")
    pages[0].get_by_role("button", name="Stop", exact=True).click()
    pages[0].get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(pages[0].locator("#problem")).to_contain_text("its role may not do this")
    expect(pages[1].locator("#log-connection")).to_contain_text("log in")
    assert live.status()["status"] == "ready"
    live.write(
        f"INSERT INTO auth_user_groups (user_id, group_id) VALUES ({row['user_id']}, {row['group_id']})"
    )


# --- The command line ----------------------------------------------------------------------------------


def runs_after_the_next_supervisor(proxy):
    """How many there are once it has looked at what it should run, and was then asked to restart it."""
    seen = proxy.status()["seen_at"]
    proxy.start(web=False)
    proxy.wait_for("the next supervisor", lambda: proxy.status()["seen_at"] != seen)
    proxy.llama("restart")
    (asked,) = proxy.query("SELECT generation FROM supervisor_app_llamaserver")
    proxy.wait_for_status("ready", **asked)
    return len(proxy.runs())


def test_llama_stop_lasts_beyond_the_supervisor(proxy):
    proxy.start(web=False).wait_for_status("ready")
    proxy.llama("stop")
    proxy.wait_for_status("initial")
    proxy.stop()
    assert runs_after_the_next_supervisor(proxy) == 2


def test_llama_restart_replaces_the_process(live):
    pid = live.status()["pid"]
    assert live.llama("restart", "default").strip() == "default: asked to restart"
    live.wait_for_new_pid(pid)


def test_llama_status_describes_a_server_in_a_line(live):
    assert live.llama("status").startswith("default: ready, up ")


def test_llama_status_json_is_what_the_api_answers(live):
    (said,) = json.loads(live.llama("status", "--json"))
    assert {**said, "uptime": 0} == {**live.status(), "uptime": 0}


def test_llama_with_an_unknown_name_is_exit_2_naming_those_that_exist(live):
    done = live.manage("llama", "stop", "nowhere")
    assert done.returncode == 2
    assert "Servers: default." in done.stderr


def test_a_command_given_without_a_supervisor_is_obeyed_by_the_next(proxy):
    proxy.start(web=False).wait_for_status("ready")
    proxy.stop()
    proxy.llama("stop")
    assert runs_after_the_next_supervisor(proxy) == 2


# --- The configuration ---------------------------------------------------------------------------------


@pytest.fixture
def changing(make_proxy, engine, model):
    """Ready. `restarted_once` asks for one restart more, after which two would show."""
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=["-t", "1", "-c", "512"])
    proxy.start(web=False).wait_for_status("ready")

    def runs_after_a_restart():
        before = proxy.status()["pid"]
        proxy.llama("restart")
        proxy.wait_for_new_pid(before)
        return len(proxy.runs())

    proxy.runs_after_a_restart = runs_after_a_restart
    return proxy


def test_a_changed_config_file_restarts_its_server_exactly_once_with_its_settings(changing):
    pid = changing.status()["pid"]
    changing.configure(llama_server_args=["-t", "1", "-c", "256"])
    process = psutil.Process(changing.wait_for_new_pid(pid)["pid"])
    assert process.cmdline()[-1] == "256"
    assert changing.runs_after_a_restart() == 3


def test_a_changed_row_restarts_its_server_exactly_once(changing):
    changing.configure(llama_server_args=None)
    pid = changing.wait_for_new_pid(changing.status()["pid"])["pid"]
    changing.server(args=["-t", "1", "-c", "128"])
    process = psutil.Process(changing.wait_for_new_pid(pid)["pid"])
    assert process.cmdline()[-1] == "128"
    assert changing.runs_after_a_restart() == 4


def test_changed_rules_do_not_restart_the_server(changing):
    changing.configure(max_retries=9)
    changing.wait_for_line("[CONFIG]")
    changing.wait_for_status("ready", max_retries=9)
    assert changing.runs_after_a_restart() == 2


def test_a_mistake_in_the_config_file_is_told_once_and_changes_nothing(changing):
    changing.configure(llama_server_prot=1)
    changing.wait_for_line("Going on with what it said before.")
    assert changing.runs_after_a_restart() == 2
    assert len(changing.said("llama_server_prot")) == 1
