"""The form of a server in the admin: mistakes beside their fields, and the config file's part to read."""

from __future__ import annotations

import json

import pytest

from supervisor_app.fleet.models import ConfigVersion, LlamaServer
from tests.integration.admin_pages import errors, page_at
from tests.integration.building import SECRET, make_server
from tests.integration.fleet.server_form import ADD, FILLED, LIST, change_url

pytestmark = pytest.mark.django_db


@pytest.fixture
def overlay(config_file):
    def write(**values):
        config_file.write_text(json.dumps(values))

    return write


# --- Adding --------------------------------------------------------------------------------------------


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
        ("name", "a b", "Use letters, digits, - and _."),
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


# --- Changing ------------------------------------------------------------------------------------------


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


# --- The config file's part ----------------------------------------------------------------------------


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
