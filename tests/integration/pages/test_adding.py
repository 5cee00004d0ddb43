"""Add, duplicate and delete a server on pages, and fill its form with a command line."""

from __future__ import annotations

import pytest
from django.utils import timezone

from supervisor_app.fleet import file_servers
from supervisor_app.fleet.models import ConfigVersion, LlamaServer, NodeLease
from supervisor_app.traffic.models import RequestRecord
from tests.integration.building import make_run, make_server, make_state

pytestmark = pytest.mark.django_db
ADD = "/add-server/"
CREATE = f"{ADD}create"
DELETE = "/servers/chat/config/delete"
COMMAND = "llama-server -m /srv/m.gguf -c 8192 \\\n  -ngl 99 --jinja --port 9005"


@pytest.fixture(autouse=True)
def every_port_is_free(monkeypatch):
    monkeypatch.setattr(file_servers, "is_free", lambda port: True)


def typed(client, path=ADD, **changes):
    """Everything that the form holds, with some of it changed."""
    form = client.get(path).context["form"]
    said = {field.name: field.value() for field in form}
    return {
        name: value for name, value in said.items() if value not in (None, "") and value is not False
    } | changes


def test_servers_are_added_and_deleted_by_staff(client, person_client, make_chat):
    make_chat()
    assert client.get(ADD).status_code == 302
    assert person_client.get(ADD).status_code == 403
    for path in (CREATE, f"{ADD}preview", DELETE):
        assert person_client.post(path, {"name": "x"}).status_code == 403
    assert LlamaServer.objects.get().name == "chat"


@pytest.fixture
def make_chat():
    return lambda **fields: make_server("chat", **{"port": 9001, "args": ["-c", "4096"], **fields})


def test_a_server_is_added_with_a_port_of_its_own_and_its_first_version(staff, staff_client):
    make_server("other", port=8200)
    answer = staff_client.post(CREATE, typed(staff_client, name="new", model_path="/srv/m.gguf"))
    assert answer.url == "/servers/new/"
    server = LlamaServer.objects.get(name="new")
    assert (server.port, server.model_path, server.api_key) == (8201, "/srv/m.gguf", None)
    assert server.desired_running
    assert ConfigVersion.objects.get(server=server).author == staff.username


@pytest.mark.parametrize(
    ("changes", "is_open"), [({}, False), ({"context": "much"}, False), ({"priority": "much"}, True)]
)
def test_settings_behind_more_are_open_only_where_a_mistake_is_inside(staff_client, changes, is_open):
    answer = staff_client.post(CREATE, typed(staff_client, **changes))
    assert answer.status_code == 400
    assert ("<details open>" in answer.content.decode()) is is_open


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "chat"}, "A server with this name already exists."),
        ({"name": "a b"}, "Use letters, digits, - and _."),
        ({"model_path": ""}, "Set a model path"),
        ({"port": "9001"}, "9001 is the port of chat"),
        ({"args": "--log-file /etc/passwd"}, "not accepted from a form"),
    ],
)
def test_a_mistake_adds_nothing_and_loses_nothing(staff_client, make_chat, changes, complaint):
    make_chat()
    said = typed(staff_client, **{"name": "new", "model_path": "/srv/m.gguf", "priority": "7"} | changes)
    answer = staff_client.post(CREATE, said)
    assert answer.status_code == 400
    assert complaint in answer.content.decode()
    assert 'name="priority" value="7"' in answer.content.decode()
    assert LlamaServer.objects.count() == 1


def test_a_name_that_another_takes_at_the_same_moment_is_told(staff_client, make_chat, monkeypatch):
    make_chat()
    monkeypatch.setattr(LlamaServer, "validate_unique", lambda *_args, **_named: None)
    answer = staff_client.post(CREATE, typed(staff_client, name="chat", model_path="m.gguf"))
    assert answer.status_code == 409
    assert "has just got this name" in answer.content.decode()


def test_a_model_that_is_fetched_needs_no_path_where_staff_may_have_it_fetched(staff_client, settings):
    said = typed(staff_client, name="new", args="-hf ggml-org/gemma-3-4b-it-GGUF")
    assert b"not accepted from a form" in staff_client.post(CREATE, said).content
    settings.LLAMAPROXY_TRUST_ADMIN_FLAGS = True
    assert staff_client.post(CREATE, said).status_code == 302


def test_a_server_is_added_on_a_node_that_has_a_supervisor(staff_client):
    said = typed(staff_client, name="new", model_path="/srv/m.gguf")
    assert "node" not in said
    NodeLease.objects.create(node="gpu-2", holder="1 0 m h", token="t", renewed_at=timezone.now())
    assert b"nowhere is not one of" in staff_client.post(CREATE, {**said, "node": "nowhere"}).content
    staff_client.post(CREATE, {**said, "node": "gpu-2"})
    assert LlamaServer.objects.get().node == "gpu-2"


def test_the_preview_says_what_would_be_launched(staff_client):
    said = typed(staff_client, name="new", model_path="/srv/m.gguf")
    page = staff_client.post(f"{ADD}preview", said).content.decode()
    assert "-m /srv/m.gguf --host localhost --port 8200" in page
    assert (
        "cannot be applied yet" in staff_client.post(f"{ADD}preview", {**said, "port": "0"}).content.decode()
    )


def test_a_duplicate_begins_as_the_other_without_what_is_its_own(staff_client, make_chat):
    make_chat(
        api_key="quite-secret",
        presets={"brief": {"cap": {"max_tokens": 5}}},
        args=["-c", "4096", "--hf-token", "hf_secret", "-ngl", "9"],
    )
    form = staff_client.get(f"{ADD}?from=chat")
    assert "secret" not in form.content.decode().replace("secrets", "")
    said = typed(staff_client, f"{ADD}?from=chat", name="chat2")
    assert (said["context"], said["gpu_layers"], said.get("args")) == (4096, "9", None)
    assert staff_client.post(CREATE, said).status_code == 302
    twin = LlamaServer.objects.get(name="chat2")
    assert (twin.args, twin.port, twin.presets) == (["-c", "4096", "-ngl", "9"], 8200, {})
    assert staff_client.get(f"{ADD}?from=nobody").status_code == 404


def test_a_deleted_server_goes_with_its_history_and_its_requests_stay(staff_client, make_chat):
    make_run(make_chat())
    RequestRecord.objects.create(server="chat", at=timezone.now())
    page = staff_client.get("/servers/chat/config/").content.decode()
    assert f'hx-post="{DELETE}"' in page
    assert 'data-title="Delete chat?"' in page
    answer = staff_client.post(DELETE, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/")
    assert not LlamaServer.objects.exists()
    assert RequestRecord.objects.get().server == "chat"
    assert staff_client.post(DELETE).status_code == 404


def test_a_server_of_a_file_is_not_deleted_and_the_page_says_why(staff_client, make_chat):
    make_chat(file="/etc/llamaproxy.toml")
    page = staff_client.get("/servers/chat/config/").content.decode()
    assert "remove its table there" in page
    assert DELETE not in page
    assert staff_client.post(DELETE).status_code == 409
    assert LlamaServer.objects.exists()


def test_a_server_whose_process_nobody_would_end_is_not_deleted(staff_client, make_chat):
    make_state(make_chat(), "ready", pid=42)
    assert b"start the supervisor of" in staff_client.post(DELETE).content
    assert LlamaServer.objects.exists()


def test_a_command_line_fills_the_form_and_changes_nothing(staff_client, make_chat):
    make_chat()
    path = "/servers/chat/config/"
    said = typed(
        staff_client,
        path,
        act="paste",
        command=f"CUDA_VISIBLE_DEVICES=1 LLAMA_ARG_N_PARALLEL=2 {COMMAND}",
        priority="7",
    )
    answer = staff_client.post(f"{path}change", said)
    form, page = answer.context["form"], answer.content.decode()
    assert form.errors == {}
    filled = {"model_path": "/srv/m.gguf", "port": "9005", "priority": "7", "args": "--jinja"}
    filled |= {"context": "8192", "slots": "2", "gpu_layers": "99"}
    assert {name: form[name].value() for name in filled} == filled
    assert "Kept as flags, as they are: --jinja" in page
    assert "Left out: CUDA_VISIBLE_DEVICES." in page
    assert LlamaServer.objects.get().args == ["-c", "4096"]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("vllm serve x", "Begin with llama-server"),
        ("llama-server -m 'x", "Close every quote"),
        ("llama-server -c 1", "it names no model"),
        ("", "it names no model"),
    ],
)
def test_a_command_line_that_is_not_understood_is_told(staff_client, command, complaint):
    answer = staff_client.post(CREATE, typed(staff_client, act="paste", command=command, name="new"))
    assert answer.status_code == 400
    assert complaint in answer.content.decode().replace("&#x27;", "'")
    assert answer.context["form"]["name"].value() == "new"
    assert not LlamaServer.objects.exists()


def test_a_command_line_sets_no_flags_that_a_form_may_not(staff_client):
    command = f"{COMMAND} --log-file /etc/passwd --api-key quite-secret"
    said = typed(staff_client, act="paste", command=command, name="new")
    page = staff_client.post(CREATE, said).content.decode()
    assert "--log-file: not accepted from a form" in page
    assert "Type the key again" in page
    assert "quite-secret" not in page


def test_a_command_line_changes_nothing_that_a_file_sets(staff_client, make_chat):
    make_chat(file="/etc/llamaproxy.toml", file_fields=["args"])
    said = {"act": "paste", "command": COMMAND}
    answer = staff_client.post("/servers/chat/config/change", said)
    assert "Left out: args. A file sets that." in answer.content.decode()
