"""The admin: configuration to edit, and the config file's part of it to read."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from supervisor_app.fleet.models import ConfigVersion, LlamaServer
from tests.integration.admin_pages import RUNS, errors, page_at
from tests.integration.building import (
    make_ready_server,
    make_run,
    make_server,
    make_state,
)

pytestmark = pytest.mark.django_db

LIST = "/admin/supervisor_app/llamaserver/"
ADD = f"{LIST}add/"
SECRET = "sk-do-not-tell"
FILLED = {
    "name": "default",
    "node": "local",
    "host": "localhost",
    "port": "8134",
    "model_path": "m.gguf",
    "models_dir": "",
    "args": "",
    "api_key": "",
    "max_retries": "5",
    "retry_backoff_ms": "1000",
    "max_backoff_ms": "30000",
    "stable_after_ms": "60000",
    "drain_seconds": "30",
    "stop_grace_ms": "5000",
    "health_check_interval_ms": "1000",
    "health_check_timeout_ms": "5000",
    "max_health_checks": "60",
    "max_load_seconds": "600",
    "stall_seconds": "180",
    "max_memory_mb": "0",
    "canary_minutes": "0",
    "hold_seconds": "120",
    "idle_stop_seconds": "0",
    "max_concurrent": "0",
    "max_queue": "256",
    "aliases": "",
    "presets": "",
    "priority": "0",
}


def change_url(server):
    return f"{LIST}{server.pk}/change/"


@pytest.fixture
def overlay(config_file):
    def write(**values):
        config_file.write_text(json.dumps(values))

    return write


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


# --- Servers: adding -----------------------------------------------------------------------------------


def test_the_form_for_a_new_server_offers_the_defaults(staff_client):
    shown = page_at(staff_client, ADD)
    assert 'value="./models/model.gguf"' in shown
    assert 'value="8134"' in shown


def test_a_server_is_added_and_its_supervisor_nudged(
    staff_client, monkeypatch, django_capture_on_commit_callbacks
):
    nudged = []
    monkeypatch.setattr("supervisor_app.fleet.commands.nudge_now", nudged.append)
    with django_capture_on_commit_callbacks(execute=True):
        assert staff_client.post(ADD, FILLED).status_code == 302
        assert nudged == [], "its supervisor could not see it yet"
    assert nudged == ["local"]
    server = LlamaServer.objects.get()
    assert (server.name, server.port, server.generation, server.desired_running) == ("default", 8134, 1, True)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "a b", "slug"),
        ("name", "", "required"),
        ("port", "0", "0 is not a port. Use 1 to 65535."),
        ("port", "70000", "70000 is not a port."),
        ("port", "x", "Enter a whole number."),
        ("host", "no host", "'no host' is not a host."),
        ("args", "--port 9", "--port does not belong here: set the port instead."),
        ("args", "--api_key=x", "set the API key"),
        ("args", "--alias 'a", "The flags cannot be read: No closing quotation. Close every quote."),
        ("api_key", "two words", "without spaces"),
        ("model_path", "", "Set a model path or a models directory."),
        ("max_retries", "-1", "greater than or equal to 0"),
        ("health_check_interval_ms", "1", "greater than or equal to 50"),
        ("max_backoff_ms", "1", "The longest wait (1 ms) is less than the first (1000 ms)."),
        ("stop_grace_ms", "9999999999", "the largest that works is 2147483647"),
    ],
)
def test_a_mistake_is_named_beside_its_field_or_on_top(field, value, message, staff_client):
    found = errors(staff_client.post(ADD, FILLED | {field: value}))
    assert message in found.get(field, found.get("__all__", ""))
    assert not LlamaServer.objects.exists()


def test_a_port_that_another_server_has_is_refused(staff_client):
    make_server("first", port=8134)
    found = errors(staff_client.post(ADD, FILLED | {"name": "second"}))
    assert found["__all__"] == "Another server of this node has that port."


def test_the_port_that_the_config_file_gives_to_default_is_refused_to_others(staff_client, overlay):
    overlay(llama_server_port=9000)
    make_server()
    found = errors(staff_client.post(ADD, FILLED | {"name": "second", "port": "9000"}))
    assert found["port"] == "The config file gives 9000 to the server default."
    elsewhere = FILLED | {"name": "second", "port": "9000", "node": "elsewhere"}
    assert staff_client.post(ADD, elsewhere).status_code == 302


# --- Servers: changing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "args"),
    [
        ("", []),
        ("-c 8192 -ngl 99", ["-c", "8192", "-ngl", "99"]),
        ("--alias 'my model'", ["--alias", "my model"]),
        ('--chat-template "{{ x }}"', ["--chat-template", "{{ x }}"]),
        ('--alias "it\'s"', ["--alias", "it's"]),
        ("  -c   1  ", ["-c", "1"]),
        ("--alias ''", ["--alias", ""]),
        (r"--alias a\ b", ["--alias", "a b"]),
        ("--alias ü€😀", ["--alias", "ü€😀"]),
    ],
)
def test_flags_are_typed_as_on_a_command_line_and_come_back_the_same(typed, args, staff_client):
    server = make_server()
    assert staff_client.post(change_url(server), FILLED | {"args": typed}).status_code == 302
    server.refresh_from_db()
    assert server.args == args
    form = staff_client.get(change_url(server)).context["adminform"].form
    staff_client.post(change_url(server), FILLED | {"args": form["args"].value()})
    server.refresh_from_db()
    assert server.args == args


@pytest.mark.parametrize("typed", ["--path /", "-c 1 --mcp_servers_json {}", "--alias -ag", "--log-file=x"])
def test_a_flag_for_the_machine_is_refused_and_the_form_says_where_it_belongs(typed, staff_client):
    server = make_server(args=["-c", "512"])
    found = errors(staff_client.post(change_url(server), FILLED | {"args": typed}))
    assert "not accepted from a form" in found["args"]
    assert "llama_server_args of the config file" in found["args"]
    server.refresh_from_db()
    assert server.args == ["-c", "512"]


def test_a_change_is_kept_as_a_version_with_its_author(staff, staff_client):
    server = make_server(args=["-c", "512"])
    staff_client.post(change_url(server), FILLED | {"args": "-c 1024"})
    newest, oldest = ConfigVersion.objects.filter(server=server)
    assert (newest.author, newest.values["args"]) == (staff.username, ["-c", "1024"])
    assert oldest.values["args"] == ["-c", "512"]


def test_where_staff_is_trusted_with_the_machine_any_flag_is_taken(staff_client, settings):
    settings.LLAMAPROXY_TRUST_ADMIN_FLAGS = True
    server = make_server()
    assert staff_client.post(change_url(server), FILLED | {"args": "--path /srv/ui"}).status_code == 302
    server.refresh_from_db()
    assert server.args == ["--path", "/srv/ui"]


def test_flags_that_cannot_be_read_come_back_as_they_were_typed(staff_client):
    answer = staff_client.post(change_url(make_server()), FILLED | {"args": "--alias 'a"})
    assert answer.context["adminform"].form["args"].value() == "--alias 'a"


def test_a_stored_api_key_is_in_no_page(staff_client):
    server = make_server(api_key=SECRET)
    staff_client.post(change_url(server), FILLED | {"api_key": SECRET})
    for url in (LIST, change_url(server), f"{LIST}{server.pk}/history/", "/admin/"):
        assert SECRET not in page_at(staff_client, url)
    refused = staff_client.post(change_url(server), FILLED | {"port": "0"})
    assert SECRET not in refused.content.decode()


def test_a_star_is_a_new_random_key(staff_client):
    server = make_server(api_key=SECRET)
    before = server.own_key
    staff_client.post(change_url(server), FILLED | {"api_key": "*"})
    server.refresh_from_db()
    assert server.api_key is None
    assert server.own_key not in (before, "")
    assert server.key == server.own_key


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("", SECRET), ("-", ""), ("sk-new", "sk-new")],
)
def test_the_api_key_is_kept_removed_or_replaced(typed, stored, staff_client):
    server = make_server(api_key=SECRET)
    assert staff_client.post(change_url(server), FILLED | {"api_key": typed}).status_code == 302
    server.refresh_from_db()
    assert server.api_key == stored


def test_saving_without_a_change_changes_nothing_and_promises_nothing(staff_client):
    server = make_server(api_key=SECRET, args=["-c", "8192"], model_path="m.gguf")
    form = staff_client.get(change_url(server)).context["adminform"].form
    typed = {name: form[name].value() for name in form.fields} | {"api_key": "", "initial-node": "local"}
    answer = staff_client.post(change_url(server), typed, follow=True)
    assert "restarts now" not in answer.content.decode()
    assert "No fields changed." in page_at(staff_client, f"{LIST}{server.pk}/history/")


def test_saving_a_change_says_that_the_server_restarts(staff_client):
    server = make_server()
    answer = staff_client.post(change_url(server), FILLED | {"args": "-c 1"}, follow=True)
    assert "If what to launch has changed, the server restarts now, once." in answer.content.decode()
    server.refresh_from_db()
    assert server.generation == 1, "what to launch is compared, a change is no wish"


# --- Servers: the config file's part -------------------------------------------------------------------


def test_settings_of_the_config_file_are_shown_and_cannot_be_edited(staff_client, overlay, config_file):
    overlay(llama_server_port=9000, llama_server_args=["-c", "8192"])
    server = make_server(port=8134)
    shown = page_at(staff_client, change_url(server))
    assert f"args, port: set in {config_file}, change them there." in shown
    assert "9000" in shown
    assert 'name="port"' not in shown
    assert 'name="args"' not in shown
    assert 'name="host"' in shown


def test_saving_leaves_the_row_as_it_is_where_the_config_file_speaks(staff_client, overlay):
    overlay(llama_server_port=9000)
    server = make_server(port=8134)
    answer = staff_client.post(change_url(server), FILLED | {"port": "7777", "host": "0.0.0.0"})
    assert answer.status_code == 302
    server.refresh_from_db()
    assert (server.port, server.host) == (8134, "0.0.0.0")


def test_an_api_key_of_the_config_file_is_not_shown(staff_client, overlay):
    overlay(llama_api_key=SECRET)
    shown = page_at(staff_client, change_url(make_server()))
    assert SECRET not in shown
    assert "set, not shown" in shown


def test_a_form_that_comes_back_shows_the_same_and_no_key_either(staff_client, overlay):
    overlay(llama_server_port=9000, llama_api_key="sk-of-the-file")
    server = make_server(port=8134, api_key=SECRET)
    answer = staff_client.post(change_url(server), FILLED | {"host": "no host", "name": "other"})
    shown = answer.content.decode()
    assert errors(answer).keys() == {"host"}
    assert "9000" in shown
    assert SECRET not in shown
    assert "sk-of-the-file" not in shown
    server.refresh_from_db()
    assert (server.port, server.api_key) == (8134, SECRET)


def test_the_server_of_the_config_file_keeps_its_name(staff_client, overlay):
    overlay(llama_server_port=9000)
    server = make_server(port=8134)
    assert 'name="name"' not in page_at(staff_client, change_url(server))
    staff_client.post(change_url(server), FILLED | {"name": "other"})
    server.refresh_from_db()
    assert server.name == "default"


def test_another_server_is_edited_in_full(staff_client, overlay):
    overlay(llama_server_port=9000)
    shown = page_at(staff_client, change_url(make_server("other")))
    assert "Nothing: all is edited here." in shown
    assert 'name="port"' in shown


def test_a_config_file_with_a_mistake_does_not_break_the_admin(staff_client, config_file):
    config_file.write_text("{")
    assert 'name="port"' in page_at(staff_client, change_url(make_server()))


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
