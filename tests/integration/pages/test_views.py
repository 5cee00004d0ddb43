"""Every address: who may see it, what it answers, what it looks like from outside."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, connection
from django.test import Client
from django.urls import NoReverseMatch, reverse

from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.models import LlamaServer, ServerState
from tests.integration.building import (
    make_ready_server,
    make_run,
    make_server,
)

pytestmark = pytest.mark.django_db

READING = [
    "/",
    "/devices",
    "/servers/default/",
    "/servers/default/availability",
    "/api/servers/default/availability",
    "/api/nodes/",
    "/api/servers/",
    "/api/servers/default/",
    "/metrics",
]
OPEN_TO_ALL = ["/livez", "/readyz"]
CONTROLS = [
    f"{prefix}/servers/default/{word}" for prefix in ("", "/api") for word in ("start", "stop", "restart")
]


@pytest.fixture
def private(settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False


# --- Who may read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READING + OPEN_TO_ALL)
def test_the_status_is_open_to_everybody(path, default, client, person_client, staff_client):
    for anybody in (client, person_client, staff_client):
        assert anybody.get(path).status_code == 200


@pytest.mark.parametrize("path", OPEN_TO_ALL)
def test_probes_of_orchestrators_need_no_login_anywhere(path, private, client):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/servers/default/"])
def test_where_the_status_is_private_people_are_sent_to_the_login_and_back(
    path, private, default, client, person_client, staff_client
):
    answer = client.get(f"{path}?a=b")
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}%3Fa%3Db")
    assert person_client.get(path).status_code == 403
    assert staff_client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/api/servers/", "/api/servers/default/", "/metrics"])
def test_where_the_status_is_private_programs_are_told_what_is_missing(
    path, private, default, client, person_client, staff_client
):
    answers = client.get(path), person_client.get(path)
    assert [answer.status_code for answer in answers] == [401, 403]
    assert [answer.json()["error"]["code"] for answer in answers] == ["login_required", "forbidden"]
    assert staff_client.get(path).status_code == 200


def test_a_person_without_a_role_is_told_so_where_the_status_is_private(private, default, person_client):
    assert "Your account has no role. Ask an admin for viewer." in person_client.get("/", follow=True).text


@pytest.mark.parametrize("path", READING + OPEN_TO_ALL)
def test_head_is_answered_like_get(path, default, client):
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", READING + OPEN_TO_ALL)
def test_an_answer_to_a_read_is_never_cached(path, default, client):
    assert "no-store" in client.get(path)["Cache-Control"]


@pytest.mark.parametrize("path", READING + OPEN_TO_ALL)
def test_an_address_to_read_cannot_be_written(path, default, client):
    assert client.post(path).status_code == 405


def test_a_secret_is_in_no_answer(staff_client):
    make_server(api_key="sk-do-not-tell")
    for path in [*READING, "/admin/supervisor_app/llamaserver/"]:
        assert b"sk-do-not-tell" not in staff_client.get(path).content


# --- Who may control -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONTROLS)
def test_a_stranger_may_not_control(path, default, client):
    answer = client.post(path)
    assert answer.status_code == (401 if path.startswith("/api") else 403)
    assert LlamaServer.objects.get().generation == 1


@pytest.mark.parametrize("path", CONTROLS)
def test_a_login_without_staff_rights_may_not_control(path, default, person_client):
    assert person_client.post(path).status_code == 403
    assert LlamaServer.objects.get().generation == 1


@pytest.mark.parametrize("path", CONTROLS)
def test_staff_control(path, default, staff_client):
    assert staff_client.post(path).status_code in (202, 302)
    server = LlamaServer.objects.get()
    assert (server.generation, server.desired_running) == (2, not path.endswith("stop"))
    assert server.restart_generation == (2 if path.endswith("restart") else 0)


def test_a_staff_member_who_was_locked_out_may_not_control(default, staff_client):
    User.objects.update(is_active=False)
    assert staff_client.post("/servers/default/stop").status_code == 403


@pytest.mark.parametrize("path", CONTROLS)
def test_looking_at_a_control_does_nothing(path, default, staff_client):
    answer = staff_client.get(path)
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert LlamaServer.objects.get().generation == 1


@pytest.mark.parametrize("path", CONTROLS)
def test_control_needs_the_csrf_token(path, default, staff):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(staff)
    assert strict.post(path).status_code == 403
    strict.get("/")
    token = strict.cookies["csrftoken"].value
    assert strict.post(path, headers={"X-CSRFToken": token}).status_code in (202, 302)


def test_a_program_is_told_that_its_wish_is_on_disk(default, staff_client):
    answer = staff_client.post("/api/servers/default/restart")
    assert (answer.status_code, answer.json()) == (202, {"server": "default", "asked": "restart"})


def test_htmx_gets_no_content_because_the_change_comes_as_a_push(default, staff_client):
    answer = staff_client.post("/servers/default/stop", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_browser_without_script_is_sent_back_to_the_server(default, staff_client):
    answer = staff_client.post("/servers/default/stop")
    assert (answer.status_code, answer["Location"]) == (302, "/servers/default/")


def test_the_address_of_a_command_can_be_made_from_its_name():
    assert reverse("control", args=["default", "stop"]) == "/servers/default/stop"
    assert reverse("api-control", args=["default", Wish.RESTART]) == "/api/servers/default/restart"
    with pytest.raises(NoReverseMatch):
        reverse("control", args=["default", "explode"])


@pytest.mark.parametrize("word", ["status", "delete", "START", ""])
def test_other_words_are_no_commands(word, default, staff_client):
    assert staff_client.post(f"/servers/default/{word}").status_code in (404, 405)


# --- What is not there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/servers/nobody/", "/nothing", "/servers/a%20b/"])
def test_people_get_a_page_for_what_is_not_there(path, client):
    answer = client.get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "Page not found" in answer.content.decode()


def test_people_get_a_page_for_a_command_to_nobody(staff_client):
    assert "Page not found" in staff_client.post("/servers/nobody/start").content.decode()


def test_programs_are_told_which_servers_there_are(default, client, staff_client):
    expected = {
        "code": "no_such_server",
        "message": "There is no server 'nobody'.",
        "hint": "Servers: default.",
    }
    for answer in (
        client.get("/api/servers/nobody/"),
        staff_client.post("/api/servers/nobody/start"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"error": expected})


def test_programs_are_told_when_there_is_no_server_at_all(client):
    assert client.get("/api/servers/nobody/").json()["error"]["hint"] == "Servers: none."


def strict_client(staff):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    return client


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda client: client.get("/api/nothing"), 404, "not_found"),
        (lambda client: client.get("/api/servers/a%20b/"), 404, "not_found"),
        (lambda client: client.get("/api/servers/default/start"), 405, "method_not_allowed"),
        (lambda client: client.post("/api/servers/default/start"), 403, "csrf_failed"),
        (lambda client: client.get("/api/servers/", headers={"Host": "evil.example"}), 400, "bad_request"),
        (lambda client: client.get("/api"), 404, "not_found"),
        (lambda client: client.get("/api/servers/default/rollback"), 405, "method_not_allowed"),
        (lambda client: client.put("/api/servers/default/log"), 403, "csrf_failed"),
        (lambda client: client.options("/api/servers/default/log"), 405, "method_not_allowed"),
        (lambda client: client.options("/api/servers/default/runs/1/"), 405, "method_not_allowed"),
        (
            lambda client: client.get("/api/servers/", headers={"Sec-Fetch-Site": "cross-site"}),
            403,
            "forbidden",
        ),
    ],
)
def test_programs_get_json_also_for_the_errors_that_django_answers(ask, status, code, default, staff):
    answer = ask(strict_client(staff))
    assert (answer.status_code, answer.json()["error"].keys()) == (status, {"code", "message", "hint"})
    assert answer.json()["error"]["code"] == code


def test_a_method_that_is_not_allowed_says_which_are(client):
    answer = client.options("/api/servers/default/log")
    assert answer["Allow"] == "GET, HEAD"
    assert answer.json()["error"]["hint"] == "Use GET, HEAD."


def test_an_error_inside_is_json_for_programs(default, client, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("supervisor_app.api.servers.planned_views", fails)
    client.raise_request_exception = False
    answer = client.get("/api/servers/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "a mistake" not in answer.content.decode()


def test_a_kind_of_failure_that_another_version_wrote_is_shown_in_its_words(default, client, staff_client):
    words = {"kind": "melted", "title": "It melted", "detail": "at 900 degrees", "hint": "Cool it."}
    ServerState.objects.filter(server=default).update(status="error", failure=words)
    run = make_run(default, failure_kind="melted", failure_title="It melted", failure_detail="at 900 degrees")
    for path in ("/", "/servers/default/", "/api/servers/", "/metrics"):
        assert client.get(path).status_code == 200, path
    assert client.get("/api/servers/default/").json()["failure"]["title"] == "It melted"
    for path in (
        "/servers/default/runs/",
        f"/servers/default/runs/{run.pk}/",
        f"/api/servers/default/runs/{run.pk}/",
    ):
        assert "It melted" in staff_client.get(path).content.decode(), path


# --- A database that fails -----------------------------------------------------------------------------


@pytest.fixture
def database_away(client):
    def fail(*args):
        raise DatabaseError("could not connect to server")

    client.get("/readyz")  # it was ready before: that it is not is news
    with connection.execute_wrapper(fail):
        yield


def test_alive_is_what_answers_also_without_a_database(database_away, client):
    assert client.get("/livez").content == b"ok\n"


def test_not_ready_without_a_database_and_why_is_for_the_console(database_away, client, caplog):
    """The driver's words name the database's host and user."""
    answers = [client.get("/readyz") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {503}
    assert b"could not connect" not in answers[0].content
    assert answers[0].content.startswith(b"database: DatabaseError")
    (complaint,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "could not connect to server" in complaint


def test_not_ready_with_a_connection_that_was_closed(client):
    def fail(*args):
        raise InterfaceError("connection already closed")

    with connection.execute_wrapper(fail):
        assert client.get("/readyz").status_code == 503


def test_ready_with_a_database_that_is_migrated(client):
    assert client.get("/readyz").content == b"ok\n"


def test_a_program_gets_json_and_people_a_page_when_llamaproxy_fails(database_away):
    client = Client(raise_request_exception=False)
    assert client.get("/api/servers/").json()["error"]["code"] == "internal"
    page = client.get("/")
    assert (page.status_code, page["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert "Something broke in llamaproxy" in page.content.decode()


# --- Pages ---------------------------------------------------------------------------------------------


def test_staff_see_the_buttons_and_others_where_to_log_in(default, client, staff_client):
    page = staff_client.get("/servers/default/").content.decode()
    assert 'action="/servers/default/restart"' in page
    page = client.get("/servers/default/").content.decode()
    assert 'action="/servers/default/restart"' not in page
    assert "/admin/login/?next=/servers/default/" in page


def test_while_there_is_no_user_people_are_told_where_the_login_link_is(default, client):
    assert "console" in client.get("/").content.decode()


def test_a_page_and_the_api_tell_the_same(client):
    make_ready_server(detail_shown := "default", url="http://localhost:8134")
    told = json.loads(client.get(f"/api/servers/{detail_shown}/").content)
    page = client.get(f"/servers/{detail_shown}/").content.decode()
    assert told["url"] in page


# --- A name that is no slug ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", "a/b", "..", "modèle", "", "50%", '"><script>', "x" * 50 + ".gguf"])
def test_a_server_of_any_name_is_listed_and_has_its_pages(name, client, staff_client):
    """Forms make slugs only; a row from elsewhere may hold anything that the database takes."""
    server = make_ready_server(name)
    run = make_run(server)
    assert client.get("/").status_code == 200
    assert staff_client.get("/").status_code == 200
    for page, *more in (
        ("server",),
        ("runs",),
        ("run", run.pk),
        ("api-server",),
        ("api-runs",),
        ("api-run", run.pk),
    ):
        assert staff_client.get(reverse(page, args=[name, *more])).status_code == 200, page
    assert staff_client.post(reverse("api-control", args=[name, "stop"])).json()["server"] == name
    LlamaServer.objects.all().delete()
    assert staff_client.get(reverse("server", args=[name])).status_code == 404
