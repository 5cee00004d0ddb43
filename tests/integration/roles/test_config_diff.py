"""`manage.py llama config diff`: what the file would change of what runs."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from supervisor_app.fleet import file_servers
from supervisor_app.fleet.config_file import read_overlay
from supervisor_app.fleet.config_source import kept_at
from supervisor_app.fleet.file_servers import write_rows
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import make_server

pytestmark = pytest.mark.django_db
NODE = "local"
BEFORE = """
[engines.fast]
binary = "/opt/fast/llama-server"

[servers.chat]
model_path = "chat.gguf"
args = ["-c", "8192"]
api_key = "sk-old-swordfish"
environment = { TOKEN = "old-tuna", GONE = "old-trout" }

[servers.old]
model_path = "old.gguf"
"""


@pytest.fixture
def fleet(settings, tmp_path, monkeypatch):
    """Let the supervisor have read a file; return a function that writes another."""
    monkeypatch.setattr(file_servers, "is_free", lambda port: True)
    settings.LLAMAPROXY_NODE = NODE
    settings.DATA_DIR = tmp_path
    settings.LLAMAPROXY_CONFIG = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG_NAMED = False

    def runs(text):
        settings.LLAMAPROXY_CONFIG.write_text(text)
        write_rows(NODE, read_overlay(settings.LLAMAPROXY_CONFIG))
        kept_at().write_text(json.dumps({"path": str(settings.LLAMAPROXY_CONFIG), "text": text}))
        return settings.LLAMAPROXY_CONFIG

    return runs


def diff(capsys, *arguments):
    """Return the exit code and the lines."""
    code = 0
    try:
        call_command("llama", "config", "diff", *arguments)
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().out.splitlines()


def test_nothing_differs(fleet, capsys):
    fleet(BEFORE)
    assert diff(capsys) == (0, [])


def test_servers_that_come_and_go_and_each_key_that_changes(fleet, capsys):
    path = fleet(BEFORE)
    path.write_text("""
[engines.fast]
binary = "/opt/fast/llama-server"

[servers.chat]
engine = "fast"
model_path = "chat.gguf"
args = ["-c", "16384"]
api_key = "sk-new-swordfish"
hold_seconds = 60
environment = { TOKEN = "new-tuna" }

[servers.new]
model_path = "new.gguf"
port = 9001
""")
    code, lines = diff(capsys)
    assert code == 1
    assert lines == [
        "chat: binary default → /opt/fast/llama-server (restarts the server)",
        "chat: environment.GONE [redacted] → none (restarts the server)",
        "chat: environment.TOKEN [redacted] → [redacted] (restarts the server)",
        "chat: engine none → fast (restarts the server)",
        "chat: args -c 8192 → -c 16384 (restarts the server)",
        "chat: api_key [redacted] → [redacted] (restarts the server)",
        "chat: hold_seconds 120 → 60",
        "new: added, port 9001; it is started",
        "old: removed; it is stopped, and its history goes",
    ]


def test_rules_for_memory_change_without_a_restart(fleet, capsys):
    path = fleet(BEFORE + "[memory]\nmax_loaded = 3\n")
    path.write_text(BEFORE + "[memory]\nmax_loaded = 2\n[memory.groups]\nbig = 1\n")
    assert diff(capsys) == (1, ["memory.max_loaded: 3 → 2", "memory.groups.big: none → 1"])


def test_a_server_that_does_not_run_is_not_restarted(fleet, capsys):
    path = fleet(BEFORE)
    LlamaServer.objects.filter(name="chat").ask_to_stop()
    path.write_text(BEFORE.replace("8192", "16384"))
    assert diff(capsys) == (1, ["chat: args -c 8192 → -c 16384"])


def test_a_setting_that_left_the_file_gets_its_default(fleet, capsys):
    path = fleet(BEFORE.replace('model_path = "old.gguf"', 'model_path = "old.gguf"\nhold_seconds = 60'))
    path.write_text(BEFORE)
    assert diff(capsys) == (1, ["old: hold_seconds 60 → 120"])


def test_a_server_that_moves_keeps_its_history(fleet, capsys):
    path = fleet(BEFORE)
    path.write_text(BEFORE + 'node = "far"\n')
    assert diff(capsys) == (1, ["old: moved to node far; it is stopped here"])


def test_a_draft_can_be_compared_before_it_is_put_in_force(fleet, capsys, tmp_path):
    fleet(BEFORE)
    draft = tmp_path / "draft.toml"
    draft.write_text(BEFORE.replace("8192", "16384"))
    assert diff(capsys, str(draft)) == (1, ["chat: args -c 8192 → -c 16384 (restarts the server)"])
    assert diff(capsys) == (0, [])


def test_servers_of_the_admin_stay_as_they_are(fleet, capsys):
    fleet(BEFORE)
    make_server("mine", port=9100)
    assert diff(capsys) == (0, [])


def test_the_json_file_is_compared_with_what_it_said_before(fleet, capsys, settings, tmp_path):
    make_server("default", max_retries=3)
    settings.LLAMAPROXY_CONFIG = tmp_path / ".llama-proxy-config.json"
    before = {"llama_server_port": 8200, "hold_seconds": 60}
    kept_at().write_text(json.dumps({"path": str(settings.LLAMAPROXY_CONFIG), "text": json.dumps(before)}))
    settings.LLAMAPROXY_CONFIG.write_text(json.dumps({"llama_server_port": 8300, "max_retries": 4}))
    assert diff(capsys) == (
        1,
        [
            "default: port 8200 → 8300 (restarts the server)",
            "default: max_retries 3 → 4",
            "default: hold_seconds 60 → 120",
        ],
    )


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("[servers.a]", [], "line 1: servers.a: it has no model"),
        (BEFORE, ["none.toml"], "There is no file none.toml"),
        (None, [], "is not in use. Bring it back"),
    ],
)
def test_a_mistake_ends_with_code_2(text, arguments, said, fleet):
    path = fleet(BEFORE)
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(CommandError, match=said) as raised:
        call_command("llama", "config", "diff", *arguments)
    assert raised.value.returncode == 2


ENGINE = """
[engines.cuda]
binary = "/opt/cuda/llama-server"
"""


def test_another_engine_of_the_file_changes_servers_that_name_it(fleet, capsys):
    path = fleet(BEFORE + ENGINE)
    make_server("mine", node=NODE, port=9002, engine="cuda")
    path.write_text(BEFORE + ENGINE.replace("/opt/cuda", "/opt/new"))
    change = "binary /opt/cuda/llama-server → /opt/new/llama-server"
    assert diff(capsys) == (1, [f"mine: {change} (restarts the server)"])
    path.write_text(BEFORE)
    assert diff(capsys) == (1, ["mine: engine cuda is described no more: what runs goes on"])
