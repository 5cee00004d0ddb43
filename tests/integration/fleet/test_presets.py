"""Presets of servers as people describe them: in the file, in the admin, in the words of the console."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from supervisor_app.fleet import file_servers
from supervisor_app.fleet.conf import ConfigError, Overlay, resolve
from supervisor_app.fleet.file_servers import FileServers
from supervisor_app.fleet.fleet_file import parse_fleet_file
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.presets import preset_phrases
from supervisor_app.gateway.edge.survey import load_facts
from supervisor_app.gateway.llama.presets import Preset
from tests.integration.admin_pages import errors
from tests.integration.building import make_server
from tests.integration.fleet.server_form import FILLED, change_url

pytestmark = pytest.mark.django_db
PATH = Path("/etc/llamaproxy.toml")
NODE = "local"
QWEN = '[servers.qwen]\nmodel_path = "qwen.gguf"\naliases = ["chat"]\n'
BRIEF = (
    "[servers.qwen.presets.brief]\n"
    "set = { temperature = 0.2, chat_template_kwargs = { enable_thinking = false } }\n"
    'system_prefix = "Be brief."\n'
)
AS_JSON = {
    "set": {"temperature": 0.2, "chat_template_kwargs": {"enable_thinking": False}},
    "system_prefix": "Be brief.",
}


@pytest.fixture(autouse=True)
def every_port_is_free(monkeypatch):
    monkeypatch.setattr(file_servers, "is_free", lambda port: True)


@pytest.fixture
def read(settings, caplog):
    """Return a function: the supervisor reads this text."""
    settings.LLAMAPROXY_NODE = NODE
    caplog.set_level(logging.INFO, "supervisor_app.fleet.file_servers")
    said = Overlay()
    servers = FileServers(NODE, lambda: said)

    def reads(text):
        nonlocal said
        said = parse_fleet_file(PATH, text)
        return servers()

    return reads


def mistakes(text):
    with pytest.raises(ConfigError) as raised:
        parse_fleet_file(PATH, text)
    return [mistake.removeprefix(f"{PATH}, ") for mistake in raised.value.mistakes]


# --- The file ------------------------------------------------------------------------------------------


def test_presets_of_the_file_reach_the_gateway_and_no_launch(read):
    overlay = read(QWEN + BRIEF)
    row = LlamaServer.objects.get()
    assert row.presets == {"brief": AS_JSON}
    assert load_facts(overlay)["qwen"].presets == {"brief": Preset(name="brief", **AS_JSON)}
    before = resolve(row, overlay, command=("llama-server",), cwd="/")
    overlay = read(QWEN)
    row.refresh_from_db()
    assert row.presets == {}
    assert resolve(row, overlay, command=("llama-server",), cwd="/") == before


def test_a_change_is_one_line_on_the_console(read, caplog):
    read(QWEN + BRIEF)
    caplog.clear()
    read(QWEN + "[servers.qwen.presets.brief]\ncap = { max_tokens = 5 }\n[servers.qwen.presets.new]\n")
    assert caplog.messages == [
        "📝 [CONFIG] /etc/llamaproxy.toml: qwen: presets.brief "
        f'{json.dumps(AS_JSON)} → {{"cap": {{"max_tokens": 5}}}}, presets.new none → {{}}'
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (QWEN + "presets = 1", "line 4: servers.qwen.presets: it is 1, and must be presets by name"),
        (
            QWEN + "[servers.qwen.presets.brief]\nset = { model = 'x' }",
            "line 5: servers.qwen.presets.brief.set.model: no preset changes this field: it says which",
        ),
        (
            QWEN + "[servers.qwen.presets.brief.set]\ntemperature = 0.2\nstop = [2020-01-01]",
            "line 6: servers.qwen.presets.brief.set.stop: it is datetime.date(2020, 1, 1), and must be what JSON",
        ),
        (
            QWEN + BRIEF.replace("set =", "sets ="),
            "line 5: servers.qwen.presets.brief.sets: there is no such key.",
        ),
        (
            f"[defaults]\npresets = {{}}\n{QWEN}",
            "line 2: defaults.presets: all servers would have these names.",
        ),
        (
            QWEN + "[servers.qwen.presets.chat]",
            "line 4: servers.qwen.presets.chat: chat is also a name of the server itself. Write another",
        ),
        (
            f'{QWEN}[servers.qwen.presets.b]\n[servers.b]\nmodel_path="b"',
            "line 5: servers.b: b is a preset of qwen. Write another for one of them.",
        ),
        (
            f'[servers.b]\nmodel_path="b"\n{QWEN}[servers.qwen.presets.b]',
            "line 6: servers.qwen.presets.b: b is also a name of the server b. Write another for the preset.",
        ),
        (
            f'{QWEN}{BRIEF}[servers.b]\nmodel_path="b"\naliases=["brief"]',
            "line 9: servers.b.aliases.brief: brief is a preset of qwen.",
        ),
        (
            f'{QWEN}{BRIEF}[servers.b]\nmodel_path="b"\n[servers.b.presets.brief]',
            "line 9: servers.b.presets.brief: qwen has a preset brief, too. Write another for one of them.",
        ),
        (
            '[servers.b]\nmodel_path="b"\nargs=["--alias", "x,y"]\n[servers.b.presets.y]',
            "line 4: servers.b.presets.y: y is also a name of the server itself.",
        ),
        (
            '[servers.r]\nmodels_dir="/m"\n[servers.r.presets.x]',
            "line 1: servers.r: A router has no presets: ",
        ),
    ],
)
def test_a_mistake_in_a_preset_is_told_with_its_line(text, said):
    (found,) = mistakes(text)
    assert found.startswith(said)


def test_aliases_of_several_servers_may_be_the_same():
    text = QWEN + '[servers.b]\nmodel_path="b"\naliases=["chat"]\n' + BRIEF
    assert parse_fleet_file(PATH, text).servers.keys() == {"qwen", "b"}


@pytest.mark.parametrize(
    ("other", "text", "said"),
    [
        (
            {"name": "brief"},
            QWEN + BRIEF,
            "line 4: servers.qwen.presets: brief is also a name of the server brief.",
        ),
        (
            {"aliases": ["brief"]},
            QWEN + BRIEF,
            "line 4: servers.qwen.presets: brief is also a name of the server x.",
        ),
        (
            {"presets": {"brief": {}}},
            QWEN + BRIEF,
            "line 4: servers.qwen.presets: x has a preset brief, too.",
        ),
        ({"presets": {"qwen": {}}}, QWEN, "line 1: servers.qwen: qwen is a preset of x."),
        ({"presets": {"chat": {}}}, QWEN, "line 3: servers.qwen.aliases: chat is a preset of x."),
    ],
)
@pytest.mark.parametrize("node", [NODE, "elsewhere"])
def test_a_name_of_a_server_that_the_file_does_not_describe_is_a_mistake(
    read, caplog, other, text, said, node
):
    make_server(**{"name": "x", "port": 7, "node": node, **other})
    read(text)
    assert not LlamaServer.objects.filter(name="qwen").exists()
    assert said in caplog.text


def test_a_name_may_move_from_one_server_of_the_file_to_another(read):
    read(QWEN + BRIEF)
    read('[servers.brief]\nmodel_path = "b.gguf"')
    assert [row.name for row in LlamaServer.objects.all()] == ["brief"]


# --- The words -----------------------------------------------------------------------------------------


def test_config_show_and_diff_tell_each_preset(settings, tmp_path, capsys):
    settings.LLAMAPROXY_NODE = NODE
    settings.DATA_DIR = tmp_path
    settings.LLAMAPROXY_CONFIG = path = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG_NAMED = False
    path.write_text(QWEN + BRIEF)
    file_servers.write_rows(NODE, parse_fleet_file(path, path.read_text()))
    call_command("llama", "config", "show", "qwen")
    assert f"  presets.brief = {json.dumps(AS_JSON)}  # llamaproxy.toml, line 4\n" in capsys.readouterr().out
    path.write_text(QWEN + BRIEF + "[servers.qwen.presets.long]\n")
    with pytest.raises(SystemExit):
        call_command("llama", "config", "diff")
    assert capsys.readouterr().out == "qwen: presets.long none → {}\n"


def test_changes_of_a_preset_are_told_in_words():
    preset = {
        "set": {"temperature": 0.2},
        "default": {"stop": ["a"]},
        "cap": {"max_tokens": 5},
        "remove": ["a", "b"],
        "system_prefix": "x" * 300,
    }
    assert preset_phrases(preset) == [
        "removes a, b",
        "sets temperature to 0.2",
        'fills in stop with ["a"]',
        "caps max_tokens at 5",
        f"begins the system prompt with “{'x' * 200}…”",
    ]
    assert preset_phrases({}) == ["changes nothing but the name"]


# --- The admin -----------------------------------------------------------------------------------------


@pytest.fixture
def boss():
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def save(boss, server, **changes):
    return boss.post(change_url(server), FILLED | changes)


def test_presets_are_edited_as_json(boss):
    server = make_server()
    page = boss.get(change_url(server)).content.decode()
    assert 'name="presets"' in page
    assert save(boss, server, presets=json.dumps({"brief": AS_JSON})).status_code == 302
    server.refresh_from_db()
    assert server.presets == {"brief": AS_JSON}
    assert "enable_thinking&quot;: false" in boss.get(change_url(server)).content.decode()
    assert save(boss, server, presets="").status_code == 302
    server.refresh_from_db()
    assert server.presets == {}


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"presets": "{"}, "presets", "This is no JSON: Expecting property name"),
        ({"presets": "[1]"}, "presets", "it is [1], and must be presets by name"),
        (
            {"presets": '{"a": {"set": {"stream": true}}}'},
            "presets",
            "a.set.stream: no preset changes this field",
        ),
        ({"presets": '{"a": {"set": {"x": NaN}}}'}, "presets", "a.set.x: it is nan, and must be a number"),
        ({"presets": '{"default": {}}'}, "presets", "default is also a name of the server itself."),
        ({"presets": '{"other": {}}'}, "presets", "other is also a name of the server other."),
        ({"presets": '{"taken": {}}'}, "presets", "other has a preset taken, too."),
        ({"aliases": "taken"}, "aliases", "taken is a preset of other."),
        ({"name": "taken"}, "name", "taken is a preset of other."),
    ],
)
def test_a_mistake_in_the_form_is_told_at_its_field(boss, changes, field, said):
    server = make_server()
    make_server(name="other", port=7, presets={"taken": {}})
    found = errors(save(boss, server, **changes))
    assert said in found[field]


def test_presets_of_the_file_are_read_only(boss, read):
    read(QWEN + BRIEF)
    server = LlamaServer.objects.get()
    page = boss.get(change_url(server)).content.decode()
    assert 'name="presets"' not in page
    assert "enable_thinking" in page


def test_the_page_of_a_server_tells_staff_of_its_presets(boss):
    make_server(presets={"brief": {"cap": {"max_tokens": 5}}})
    page = boss.get("/servers/default/").content.decode()
    assert "<dt><code>brief</code></dt>" in page
    assert "<dd>caps max_tokens at 5</dd>" in page
    assert "brief" not in Client().get("/servers/default/").content.decode()


def test_a_server_without_presets_has_no_such_section(boss):
    make_server()
    assert "Presets" not in boss.get("/servers/default/").content.decode()
