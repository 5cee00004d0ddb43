"""Back to the configuration that reached ready last: by button, API and command line."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from supervisor_app.fleet.commands import ROLLED_BACK, NothingToRollBackError, roll_back
from supervisor_app.fleet.conf import Overlay, launch_of, secrets_of_launch
from supervisor_app.fleet.models import ConfigVersion, LlamaServer
from tests.integration.building import STARTED, at, make_run, make_server

pytestmark = pytest.mark.django_db

GOOD = {"model_path": "good.gguf", "models_dir": "", "host": "localhost", "port": 8134, "args": ["-c", "512"]}


@pytest.fixture
def changed():
    """Ran well with GOOD; then somebody changed the model and the flags, and it never got ready again."""
    server = make_server(model_path="bad.gguf", args=["-c", "99999"], desired_running=False)
    make_run(server, ready_at=at(STARTED + 1), launch=GOOD)
    make_run(server, launch={**GOOD, "model_path": "bad.gguf"})
    return server


def llama(*arguments):
    out = StringIO()
    call_command("llama", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_the_configuration_that_ran_well_is_brought_back_and_started(changed):
    generation = changed.generation
    assert roll_back(changed, Overlay()) == ["model_path", "args"]
    changed.refresh_from_db()
    assert (changed.model_path, changed.args) == ("good.gguf", ["-c", "512"])
    assert changed.desired_running
    assert changed.generation == generation + 1


def test_a_rollback_is_kept_as_a_version_with_its_author(changed):
    roll_back(changed, Overlay(), "boss")
    newest, oldest = ConfigVersion.objects.filter(server=changed)
    assert (newest.author, newest.note, newest.values["args"]) == ("boss", ROLLED_BACK, ["-c", "512"])
    assert oldest.values["args"] == ["-c", "99999"]


def test_without_a_run_that_was_ready_there_is_nothing_to_go_back_to():
    server = make_server()
    make_run(server, launch=GOOD)
    with pytest.raises(NothingToRollBackError, match="has ever reached ready"):
        roll_back(server, Overlay())


def test_an_unchanged_configuration_is_not_rolled_back(changed):
    roll_back(changed, Overlay())
    changed.refresh_from_db()
    with pytest.raises(NothingToRollBackError, match="has the configuration that ran last"):
        roll_back(changed, Overlay())


def test_flags_that_only_a_file_may_set_are_not_brought_back_by_a_button():
    server = make_server(model_path="bad.gguf")
    make_run(server, ready_at=at(STARTED + 1), launch={**GOOD, "args": ["--path", "/"]})
    with pytest.raises(NothingToRollBackError, match="--path: not accepted from a form"):
        roll_back(server, Overlay())
    server.refresh_from_db()
    assert server.args == []


def test_a_secret_among_the_flags_is_not_kept_and_so_not_brought_back():
    server = make_server(args=["--hf-token", "hush"])
    assert launch_of(server)["args"] == ["--hf-token", "[redacted]"]
    make_run(server, ready_at=at(STARTED + 1), launch=launch_of(server))
    server.args = []
    server.save()
    with pytest.raises(NothingToRollBackError, match="held a secret"):
        roll_back(server, Overlay())


def test_a_digest_of_the_secrets_tells_that_one_has_changed():
    server = make_server(args=["--hf-token", "hush", "-c", "512"], api_key="sk-one")
    known = secrets_of_launch(server)
    server.args = ["--hf-token", "hush", "-c", "99999"]
    assert secrets_of_launch(server) == known
    server.args = ["--hf-token", "hush!"]
    assert secrets_of_launch(server) != known
    server.args, server.api_key = ["--hf-token", "hush"], "sk-two"
    assert secrets_of_launch(server) != known


def test_a_setting_of_the_config_file_is_not_rolled_back_but_changed_there(changed):
    overlay = Overlay(source="/etc/llama.json", values={"model_path": "bad.gguf", "args": []})
    with pytest.raises(NothingToRollBackError, match=r"set in /etc/llama\.json: change it there"):
        roll_back(changed, overlay)


def test_a_port_that_another_server_has_by_now_is_told(changed):
    LlamaServer.objects.filter(pk=changed.pk).update(port=9000)
    make_server("other", port=8134)
    changed.refresh_from_db()
    with pytest.raises(NothingToRollBackError, match="8134 is another server's now"):
        roll_back(changed, Overlay())


# By hand


def test_the_command_says_what_was_brought_back(changed):
    assert "back to the last model_path, args that reached ready" in llama("rollback", "default")
    with pytest.raises(CommandError, match="the configuration that ran last"):
        llama("rollback")


def test_the_button_is_for_staff(changed, person_client):
    assert person_client.post("/servers/default/rollback").status_code == 403
    assert Client().post("/servers/default/rollback").status_code == 403


def test_the_button_brings_the_good_configuration_back(changed, staff_client):
    assert staff_client.post("/servers/default/rollback", headers={"hx-request": "true"}).status_code == 204
    changed.refresh_from_db()
    assert changed.model_path == "good.gguf"


def test_without_script_the_button_leads_back_to_the_page_or_says_why_not(changed, staff_client):
    assert staff_client.post("/servers/default/rollback")["Location"] == "/servers/default/"
    refused = staff_client.post("/servers/default/rollback")
    assert refused.status_code == 409
    assert "the configuration that ran last" in refused.content.decode()


def test_the_api_answers_in_json(changed, staff_client):
    url = "/api/servers/default/rollback"
    assert Client().post(url).status_code == 401
    assert staff_client.get(url).status_code == 405
    done = staff_client.post(url)
    assert (done.status_code, done.json()["changed"]) == (202, ["model_path", "args"])
    again = staff_client.post(url)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "nothing_to_roll_back")
    assert staff_client.post("/api/servers/nope/rollback").status_code == 404


def test_the_api_says_whether_there_is_a_way_back(changed, staff_client):
    status = json.loads(staff_client.get("/api/servers/default/").content)
    assert status["canRollBack"] is False
