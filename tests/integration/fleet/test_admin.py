"""The admin: servers to look at, to ask for something and to delete, and the pages around them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from supervisor_app.fleet.models import LlamaServer
from tests.integration.admin_pages import RUNS, page_at
from tests.integration.building import (
    SECRET,
    make_ready_server,
    make_run,
    make_server,
    make_state,
)
from tests.integration.fleet.server_form import ADD, FILLED, LIST, change_url

pytestmark = pytest.mark.django_db


# --- Servers: the list ---------------------------------------------------------------------------------


def test_the_list_tells_how_each_server_is(staff_client):
    make_ready_server("one")
    make_server("two", model_path="", models_dir="models")
    shown = page_at(staff_client, LIST)
    assert "Serving 1 model." in shown
    assert "ready" in shown
    assert "No supervisor looks after it." in shown
    assert "models" in shown


def test_the_list_costs_the_same_for_many_servers(staff_client, django_assert_max_num_queries):
    for number in range(20):
        make_ready_server(f"server-{number}")
        make_server(f"unseen-{number}")
    with django_assert_max_num_queries(8):
        page_at(staff_client, LIST)


@pytest.mark.parametrize("query", [{"q": "one"}, {"node": "here"}, {"o": "2"}])
def test_the_list_can_be_searched_filtered_and_sorted(query, staff_client):
    make_server("one", node="here", model_path="x.gguf")
    assert ">one<" in page_at(staff_client, LIST, **query)


@pytest.mark.parametrize("url", [LIST, ADD, RUNS])
def test_without_staff_rights_there_is_no_admin(url, person_client):
    assert person_client.get(url).status_code == 302


# --- Servers: wishes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "running", "restart_generation"),
    [("start", True, 0), ("stop", False, 0), ("restart", True, 2)],
)
def test_an_action_asks_the_chosen_servers(action, running, restart_generation, staff_client):
    chosen = [make_server("one"), make_server("two")]
    make_server("three")
    data = {"action": action, "_selected_action": [server.pk for server in chosen]}
    answer = staff_client.post(LIST, data, follow=True)
    assert f"Asked 2 servers to {action}." in answer.content.decode()
    for server in LlamaServer.objects.exclude(name="three"):
        assert (server.generation, server.desired_running) == (2, running)
        assert server.restart_generation == restart_generation
    assert LlamaServer.objects.get(name="three").generation == 1


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("stop", "The servers stay down until somebody starts them."),
        ("restart", "Each server answers again as soon as its model is loaded."),
    ],
)
def test_servers_that_are_ready_are_not_interrupted_before_a_question(action, told, staff_client):
    ready, idle = make_ready_server("one"), make_server("two")
    data = {"action": action, "_selected_action": [ready.pk, idle.pk]}
    asked = staff_client.post(LIST, data).content.decode()
    assert f"{action.capitalize()} 1 server?" in asked
    assert told in asked
    assert ("<li>one</li>" in asked, "<li>two</li>" in asked) == (True, False)
    assert set(LlamaServer.objects.values_list("generation", flat=True)) == {1}
    answer = staff_client.post(LIST, data | {"post": "yes"}, follow=True)
    assert f"Asked 2 servers to {action}." in answer.content.decode()
    assert set(LlamaServer.objects.values_list("generation", flat=True)) == {2}


@pytest.mark.parametrize("action", ["stop", "restart", "delete_selected"])
def test_a_question_about_many_servers_costs_no_more_queries_than_about_two(action, staff_client):
    def queries(chosen):
        data = {"action": action, "_selected_action": [server.pk for server in chosen]}
        with CaptureQueriesContext(connection) as asked:
            staff_client.post(LIST, data)
        return len(asked)

    first = [make_ready_server("one"), make_server("two")]
    queries(first)
    few = queries(first)
    more = [make_ready_server(f"ready-{number}") for number in range(4)]
    more += [make_server(f"idle-{number}") for number in range(4)]
    assert queries(first + more) == few


def test_the_message_for_one_server_is_in_the_singular(staff_client):
    data = {"action": "stop", "_selected_action": [make_server().pk]}
    assert "Asked 1 server to stop." in staff_client.post(LIST, data, follow=True).content.decode()


def test_a_person_who_may_only_look_has_no_actions_and_no_buttons(person):
    person.is_staff = True
    person.save()
    person.user_permissions.add(Permission.objects.get(codename="view_llamaserver"))
    client = Client()
    client.force_login(person)
    server = make_server(api_key=SECRET)
    shown = page_at(client, LIST)
    assert 'value="restart"' not in shown
    shown = page_at(client, change_url(server))
    assert "_save" not in shown
    assert client.post(change_url(server), FILLED | {"port": "9"}).status_code == 403


def test_a_person_who_may_only_look_does_not_see_the_api_key(person):
    person.is_staff = True
    person.save()
    person.user_permissions.add(Permission.objects.get(codename="view_llamaserver"))
    client = Client()
    client.force_login(person)
    assert SECRET not in page_at(client, change_url(make_server(api_key=SECRET)))


# --- Servers: deleting ---------------------------------------------------------------------------------


def test_a_server_is_deleted_with_its_history(staff_client):
    server = make_server()
    make_state(server)
    make_run(server)
    url = f"{LIST}{server.pk}/delete/"
    assert "Are you sure" in page_at(staff_client, url)
    assert staff_client.post(url, {"post": "yes"}).status_code == 302
    assert not LlamaServer.objects.exists()


def test_chosen_servers_are_deleted_with_their_history(staff_client):
    server = make_server()
    make_run(server)
    data = {"action": "delete_selected", "_selected_action": [server.pk], "post": "yes"}
    staff_client.post(LIST, data)
    assert not LlamaServer.objects.exists()


# --- Around it -----------------------------------------------------------------------------------------


def test_the_admin_is_named_after_the_product(staff_client):
    shown = page_at(staff_client, "/admin/")
    assert "llamaproxy" in shown
    assert "Servers and history" in shown


def test_login_links_and_states_are_not_in_the_admin(staff_client):
    for model in ("loginlink", "serverstate"):
        assert staff_client.get(f"/admin/supervisor_app/{model}/").status_code == 404


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("requestrecord/?server=default", "traffic/requestrecord/?server=default"),
        ("apikey/3/change/", "traffic/apikey/3/change/"),
        ("alertchannel/", "alerts/alertchannel/"),
    ],
)
def test_a_page_that_moved_in_the_admin_is_found_by_its_address_of_before(staff_client, old, new):
    answer = staff_client.post(f"/admin/supervisor_app/{old}")
    assert (answer.status_code, answer["Location"]) == (308, f"/admin/{new}")


def test_a_person_without_password_cannot_log_in_with_an_empty_one(client):
    User.objects.create_superuser("admin")
    answer = client.post("/admin/login/", {"username": "admin", "password": ""})
    assert answer.status_code == 200
