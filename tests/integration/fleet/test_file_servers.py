"""The servers of a file have rows, which the supervisor of their node writes."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from supervisor_app.fleet import file_servers
from supervisor_app.fleet.conf import ConfigError, Overlay, resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.file_servers import FileServers, prepare_rows
from supervisor_app.fleet.fleet_file import parse_fleet_file
from supervisor_app.fleet.models import ConfigVersion, LlamaServer
from tests.integration.building import make_run, make_server, make_state

pytestmark = pytest.mark.django_db
PATH = Path("/etc/llamaproxy.toml")
NODE = "local"


@pytest.fixture(autouse=True)
def every_port_is_free(monkeypatch):
    """Let every port be free but those of the set."""
    strangers = set()
    monkeypatch.setattr(file_servers, "is_free", lambda port: port not in strangers)
    return strangers


class Node:
    """The supervisor's view of a file that changes."""

    def __init__(self):
        self.said = Overlay()
        self.servers = FileServers(NODE, lambda: self.said)

    def reads(self, text):
        self.said = parse_fleet_file(PATH, text)
        return self.servers()


@pytest.fixture
def node(settings, caplog):
    settings.LLAMAPROXY_NODE = NODE
    caplog.set_level(logging.INFO, "supervisor_app.fleet.file_servers")
    return Node()


def table(name, *lines):
    return "\n".join([f"[servers.{name}]", f'model_path = "{name}.gguf"', *lines, ""])


def row(name):
    return LlamaServer.objects.get(name=name)


def test_a_server_of_the_file_needs_nobody_to_make_it(node, caplog):
    node.reads(table("chat", "port = 9001", "max_retries = 7") + table("embed"))
    chat = row("chat")
    assert (chat.node, chat.file, chat.model_path, chat.port, chat.max_retries) == (
        NODE,
        str(PATH),
        "chat.gguf",
        9001,
        7,
    )
    assert chat.file_fields == ["max_retries", "model_path", "port"]
    assert row("embed").port == 8200
    assert caplog.messages == [f"📝 [CONFIG] {PATH}: chat: added, port 9001; embed: added, port 8200"]


def test_a_changed_file_changes_only_what_it_says_and_tells_it_once(node, caplog):
    node.reads(table("chat", "max_retries = 7") + table("embed") + table("old"))
    LlamaServer.objects.filter(name="chat").update(stop_grace_ms=1234)
    caplog.clear()
    node.reads(table("chat", 'args = ["-c", "8192"]') + table("embed") + table("new"))
    node.servers()
    assert caplog.messages == [
        f"📝 [CONFIG] {PATH}: chat: max_retries 7 → 5, args none → -c 8192; "
        f"new: added, port {row('new').port}; old: removed"
    ]
    assert row("chat").stop_grace_ms == 1234, "what the file does not set is edited in the admin"
    assert not LlamaServer.objects.filter(name="old").exists()


def test_a_changed_file_is_kept_as_a_version_that_names_it(node):
    node.reads(table("qwen"))
    node.reads(table("qwen", 'args = ["-c", "512"]'))
    node.reads(table("qwen", 'args = ["-c", "512"]', "# nothing else"))
    newest, oldest = ConfigVersion.objects.filter(server=row("qwen"))
    assert (newest.author, newest.values["args"]) == (str(PATH), ["-c", "512"])
    assert (oldest.number, oldest.values["args"]) == (1, [])


def test_a_secret_is_not_told(node, caplog):
    node.reads(table("chat"))
    node.reads(table("chat", 'api_key = "sk-swordfish"'))
    assert row("chat").key == "sk-swordfish"
    assert "swordfish" not in caplog.text


def test_ports_may_be_swapped_and_a_fixed_one_displaces_a_chosen_one(node):
    node.reads(table("a", "port = 9001") + table("b", "port = 9002") + table("c"))
    assert row("c").port == 8200
    node.reads(table("a", "port = 9002") + table("b", "port = 9001") + table("c") + table("d", "port = 8200"))
    assert (row("a").port, row("b").port, row("d").port) == (9002, 9001, 8200)
    assert row("c").port == 8201


def test_a_chosen_port_is_kept_and_a_taken_one_is_passed_over(node, every_port_is_free):
    every_port_is_free.add(8200)
    node.reads(table("chat"))
    assert row("chat").port == 8201
    every_port_is_free.clear()
    node.reads(table("chat", "max_retries = 1"))
    assert row("chat").port == 8201


def test_another_port_is_taken_once_when_a_stranger_holds_it(node, every_port_is_free):
    node.reads(table("chat") + table("fixed", "port = 9001"))
    every_port_is_free.update({8200, 9001})
    for name in ("chat", "fixed"):
        url = f"http://127.0.0.1:{row(name).port}"
        make_state(row(name), "error", url=url, failure={"kind": "port_taken"})
    node.servers()
    node.servers()
    assert (row("chat").port, row("fixed").port) == (8201, 9001)


def test_no_free_port_is_said_and_nothing_is_changed(node, caplog):
    node.reads(table("chat"))
    node.reads('[defaults]\nports = "8200-8200"\n' + table("chat") + table("embed"))
    node.servers()
    assert [each.name for each in LlamaServer.objects.all()] == ["chat"]
    assert caplog.text.count("No port of 8200-8200 is free. Set a longer range") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (table("mine"), "line 1: servers.mine: there is a server mine that was made in the admin. Delete it"),
        (table("chat", "port = 9001"), "line 3: servers.chat.port: 9001 is the port of the server mine"),
    ],
)
def test_servers_that_people_made_are_not_touched(node, caplog, text, said):
    make_server("mine", port=9001)
    before = node.reads(table("other"))
    assert node.reads(text) is before, "what was in force goes on"
    assert said in caplog.text
    assert {each.name for each in LlamaServer.objects.all()} == {"mine", "other"}
    with pytest.raises(ConfigError, match=said.split(".")[-1][:20]):
        prepare_rows(NODE, parse_fleet_file(PATH, text))


def test_the_server_that_llamaproxy_made_itself_is_taken_over_with_its_history(node):
    made = make_server("default")
    make_run(made)
    node.reads(table("default"))
    assert row("default").file == str(PATH)
    assert row("default").runs.count() == 1
    assert row("default").port == 8134


def test_a_server_that_moves_to_another_node_keeps_its_history(node):
    node.reads(table("chat"))
    make_run(row("chat"))
    node.reads(table("chat", 'node = "other"'))
    assert (row("chat").node, row("chat").runs.count()) == ("other", 1)
    FileServers("other", lambda: node.said)()
    assert (row("chat").node, row("chat").file) == ("other", str(PATH))


def test_a_node_without_its_file_does_not_start_and_an_empty_one_removes_servers(node):
    node.reads(table("chat"))
    with pytest.raises(ConfigError, match=f"{PATH} describes servers of this node"):
        prepare_rows(NODE, Overlay())
    assert row("chat")
    prepare_rows(NODE, parse_fleet_file(PATH, ""))
    assert not LlamaServer.objects.exists()


def test_environment_is_part_of_what_is_launched_and_only_of_servers_of_the_file(node):
    overlay = node.reads(table("chat", 'environment = { CUDA_VISIBLE_DEVICES = "1" }'))
    spec = resolve(row("chat"), overlay, command=("llama-server",), cwd="/").spec
    assert spec.environment == (("CUDA_VISIBLE_DEVICES", "1"),)
    assert "CUDA" not in repr(spec)
    by_hand = make_server("hand", port=1)
    assert resolve(by_hand, overlay, command=("llama-server",), cwd="/").spec.environment == ()


def test_another_environment_is_told_without_its_values(node, caplog):
    node.reads(table("chat", 'environment = { TOKEN = "one" }'))
    caplog.clear()
    node.reads(table("chat", 'environment = { TOKEN = "two" }'))
    assert caplog.messages == [f"📝 [CONFIG] {PATH}: chat: another environment"]


def test_a_port_is_free_until_somebody_listens(monkeypatch):
    monkeypatch.undo()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        assert not file_servers.is_free(port)
    assert file_servers.is_free(port)


# --- The admin and the command line ----------------------------------------------------------------------


@pytest.fixture
def boss():
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("boss"))
    return client


def test_the_admin_shows_the_settings_of_the_file_but_changes_and_deletes_none(node, boss):
    node.reads(table("chat", "max_retries = 7"))
    address = reverse("admin:supervisor_app_llamaserver_change", args=[row("chat").pk])
    page = boss.get(address)
    text = page.content.decode()
    assert f"max_retries, model_path: set in {PATH}, change them there." in text
    fields = page.context["adminform"].form.fields
    assert not {"name", "node", "model_path", "max_retries"} & fields.keys()
    assert "stop_grace_ms" in fields
    boss.post(reverse("admin:supervisor_app_llamaserver_delete", args=[row("chat").pk]), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [row("chat").pk], "post": "yes"}
    boss.post(reverse("admin:supervisor_app_llamaserver_changelist"), chosen)
    assert row("chat")


@pytest.fixture
def written(settings, tmp_path, node):
    """Write the file that llamaproxy finds."""
    settings.LLAMAPROXY_CONFIG = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG_NAMED = False
    settings.DATA_DIR = tmp_path

    def write(text):
        settings.LLAMAPROXY_CONFIG.write_text(text)
        return settings.LLAMAPROXY_CONFIG

    return write


def test_config_check_counts_servers_or_lists_all_mistakes(written, capsys):
    path = written(table("a") + table("b"))
    call_command("llama", "config", "check")
    assert capsys.readouterr().out == f"{path}: 2 servers, no mistake\n"
    written(table("a", "x = 1", "y = 2"))
    with pytest.raises(CommandError) as raised:
        call_command("llama", "config", "check")
    assert raised.value.returncode == 2
    assert [line.split(", ")[1].split(":")[0] for line in str(raised.value).splitlines()] == [
        "line 3",
        "line 4",
    ]
    make_server("mine")
    written(table("mine"))
    with pytest.raises(CommandError, match="made in the admin"):
        call_command("llama", "config", "check")


def test_config_show_tells_each_value_and_where_it_comes_from(written, capsys, node):
    text = "[defaults]\nmax_retries = 7\n" + table(
        "a", 'api_key = "sk-swordfish"', 'environment = { T = "tuna" }'
    )
    written(text)
    FileServers(NODE, last_good)()
    LlamaServer.objects.update(stop_grace_ms=9)
    call_command("llama", "config", "show", "a")
    shown = capsys.readouterr().out
    for line in (
        "max_retries = 7  # llamaproxy.toml, line 2",
        "model_path = 'a.gguf'  # llamaproxy.toml, line 4",
        "api_key = [redacted]  # llamaproxy.toml, line 5",
        "port = 8200  # chosen",
        "stop_grace_ms = 9  # the admin",
        "hold_seconds = 120  # default",
    ):
        assert line in shown
    assert "swordfish" not in shown
    assert "tuna" not in shown
