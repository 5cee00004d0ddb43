"""`llamaproxy.toml`: its tables, and every mistake with line, key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.fleet.conf import ConfigError
from supervisor_app.fleet.config_file import check_one_file
from supervisor_app.fleet.fleet_file import PORTS, parse_fleet_file
from supervisor_app.fleet.model_rules import ModelRules
from supervisor_app.fleet.toml_lines import Lines

ROOT = Path(__file__).parents[3]

PATH = Path("/etc/llamaproxy/llamaproxy.toml")
WHOLE = """
[defaults]
max_retries = 3
engine = "cuda"
ports = "9100-9102"

[engines.cuda]
binary = "/opt/cuda/llama-server"
environment = { GGML_CUDA_NO_PINNED = "1", A = "engine" }

[engines.cpu]

[servers.chat]
model_path = "chat.gguf"
port = 9001
args = ["-c", "8192"]
aliases = ["gpt-4"]
max_retries = 7
environment = { CUDA_VISIBLE_DEVICES = "0", A = "own" }

[servers.embed]
llama_model_path = "embed.gguf"
engine = "cpu"
node = "other"

[servers.pasted]
command = "B=2 /opt/llama-server-x -m p.gguf -ngl 99"
"""


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.delenv("LLAMA_SERVER_BINARY", raising=False)
    return parse_fleet_file(PATH, WHOLE).servers


def mistakes(text):
    with pytest.raises(ConfigError) as raised:
        parse_fleet_file(PATH, text)
    return [mistake.removeprefix(f"{PATH}, ") for mistake in raised.value.mistakes]


def test_a_server_has_its_own_values_before_those_of_the_defaults(servers):
    assert servers["chat"].values == {
        "model_path": "chat.gguf",
        "port": 9001,
        "args": ["-c", "8192"],
        "aliases": ["gpt-4"],
        "max_retries": 7,
        "engine": "cuda",
    }
    assert servers["embed"].values == {"model_path": "embed.gguf", "max_retries": 3, "engine": "cpu"}
    assert servers["embed"].node == "other"


def test_an_engine_gives_program_and_environment_and_the_server_wins(servers):
    assert servers["chat"].binary == "/opt/cuda/llama-server"
    assert servers["chat"].environment == {
        "GGML_CUDA_NO_PINNED": "1",
        "A": "own",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert (servers["embed"].binary, servers["embed"].environment) == ("", {})


def test_a_command_is_taken_apart(servers):
    pasted = servers["pasted"]
    assert pasted.values == {"model_path": "p.gguf", "args": ["-ngl", "99"], "max_retries": 3, "engine": ""}
    assert pasted.binary == "/opt/llama-server-x"
    assert pasted.environment["B"] == "2"


def test_each_value_knows_the_line_that_sets_it(servers):
    lines = WHOLE.splitlines()
    for name, field, text in [
        ("chat", "port", "port = 9001"),
        ("embed", "model_path", "llama_model_path"),
        ("embed", "max_retries", "max_retries = 3"),
        ("pasted", "args", "command ="),
        ("pasted", "", "[servers.pasted]"),
    ]:
        assert lines[servers[name].lines[field] - 1].startswith(text)


def test_ports_are_chosen_from_the_range_that_is_said(monkeypatch):
    assert parse_fleet_file(PATH, WHOLE).ports == range(9100, 9103)
    assert parse_fleet_file(PATH, "").ports == PORTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[servers.a]\nmodel_path = "a"\nctx = 8', "line 3: servers.a.ctx: there is no such key. Known: "),
        (
            '[servers.a]\nmodelpath = "a"',
            "line 2: servers.a.modelpath: there is no such key. Did you mean model_",
        ),
        ("[servers.a]", "line 1: servers.a: it has no model. Write model_path"),
        ('[servers.a]\nmodel_path="a"\nport = 70000', "line 3: servers.a.port is 70000: "),
        (
            '[servers.a]\nmodel_path="a"\nport = "1"',
            "line 3: servers.a.port is '1', it must be a whole number",
        ),
        ('[servers."a b"]\nmodel_path="a"', "line 1: servers.a b: this is no name of a server: "),
        (
            f"[servers.{'a' * 51}]\nmodel_path='a'",
            "no name of a server: use 1 to 50 letters, digits, - and _",
        ),
        ('[servers.a]\nmodel_path="a"\nnode="../x"', "line 3: servers.a.node: this is no name of a node."),
        (
            '[servers.a]\nmodel_path="a"\nmodels_dir="m"',
            "line 3: servers.a.models_dir: there is a model_path, too. Leave one of them.",
        ),
        ('[defaults]\nusers = ["a\\u0000"]', "no user of this machine"),
        (f"a = {'[' * 3000}", "cannot be read: its lists are nested too deeply."),
        (f"a = {'9' * 5000}", "cannot be read: a number in it has too many digits."),
        ("[defaults]\nport = 9", "line 2: defaults.port: all servers would have this port."),
        ('[defaults]\nports = "9"', "line 2: defaults.ports: it is '9', and must be a range of ports"),
        ('[servers.a]\nmodel_path="a"\nengine="x"', "line 3: servers.a.engine: there is no [engines.x]."),
        (f'[servers.a]\nmodel_path="a"\nengine="{"x" * 101}"', "at most 100 characters (it has 101)"),
        ('[servers.a]\nmodel_path="a"\nengine=3', "line 3: servers.a.engine is 3, it must be text"),
        ('[servers.a]\nmodel_path="a"\nbinary="x"', "line 3: servers.a.binary: name it in [engines.NAME]"),
        ('[servers.a]\nmodel_path="a"\nusers=["x"]', "line 3: servers.a.users: it holds for all servers."),
        ('[servers.a]\nmodel_path="a"\nenvironment={LLAMA_ARG_X="1"}', "it stands for a setting."),
        ('[servers.a]\nmodel_path="a"\nenvironment={X=1}', "servers.a.environment.X: its value must be text"),
        ('[servers.a]\nmodel_path="a"\nllama_model_path="b"', "model_path is set twice"),
        (
            '[servers.a]\nmodel_path="a"\ncommand="-m b"',
            "line 3: servers.a.command: it says model_path, and so",
        ),
        ('[servers.a]\ncommand="-m"', "line 2: servers.a.command: -m has no value. Write one"),
        ('[server.a]\nmodel_path="a"', "line 1: server: there is no such table. Did you mean servers?"),
        ("servers = 3", "line 1: servers: it is 3, and must be a table: [servers]."),
        ("[engines.x]\nbin = 1", "line 2: engines.x.bin: there is no such key. "),
        ('[defaults]\nusers = ["nobody-here"]', "line 2: defaults.users names 'nobody-here'"),
        (
            '[servers.a]\nmodel_path="a"\nport=9\n[servers.b]\nmodel_path="b"\nport=9',
            "line 6: servers.b.port: 9 is the port of a, too.",
        ),
        ("[memory]\nmax_load = 2", "line 2: memory.max_load: there is no such key. Did you mean max_loaded?"),
        (
            "[memory]\nmax_loaded = -1",
            "line 2: memory.max_loaded: it is -1, and must be a whole number of at",
        ),
        ('[models]\ndir = "/m"', "line 2: models.dir: there is no such key. Known: download_mb"),
        (
            "[models]\nparallel_downloads = 0",
            "models.parallel_downloads: it is 0, and must be a whole number of 1 to 16",
        ),
        (
            "[models]\nmodels_dir = 5",
            'models.models_dir: it is 5, and must be a directory, such as "/srv/models"',
        ),
        ("[memory]\nparallel_loads = 0", "memory.parallel_loads: it is 0, and must be a whole number of at"),
        (
            "[memory]\nreserve_mb = true",
            "memory.reserve_mb: it is True, and must be a whole number of at least 0",
        ),
        ("[memory]\nmake_room = 1", "line 2: memory.make_room: it is 1, and must be true or false"),
        (
            '[memory]\nbudget_mb = "8 GB"',
            "line 2: memory.budget_mb: it is '8 GB', and must be a whole number",
        ),
        (
            '[memory]\nbudget_mb = {"GPU 0"=0}',
            "memory.budget_mb.GPU 0: it is 0, and must be a whole number of",
        ),
        (
            "[memory]\ngroups = 1",
            "memory.groups: it is 1, and must be a table of group = how many may be loaded",
        ),
        (
            "[memory.groups]\nbig = 1.5",
            "line 2: memory.groups.big: it is 1.5, and must be a whole number of at",
        ),
    ],
)
def test_a_mistake_says_line_key_value_and_remedy(text, said):
    (found,) = mistakes(text)
    assert said in found


def test_rules_for_memory_are_read_and_an_empty_table_has_the_defaults():
    text = '[memory]\nmax_loaded = 2\nbudget_mb = {"GPU 0" = 20000}\n[memory.groups]\nbig = 1'
    rules = parse_fleet_file(PATH, text).memory
    assert rules == MemoryRules(max_loaded=2, budget_mb={"GPU 0": 20000}, groups={"big": 1})
    assert parse_fleet_file(PATH, "[memory]").memory == MemoryRules()
    loads_alone = parse_fleet_file(PATH, "[memory]\nmake_room = false\nparallel_loads = 8").memory
    assert loads_alone == MemoryRules(make_room=False, parallel_loads=8)
    assert parse_fleet_file(PATH, "").memory is None


def test_a_budget_that_is_a_number_is_for_the_host():
    rules = parse_fleet_file(PATH, "[memory]\nbudget_mb = 8000").memory
    assert rules is not None
    assert rules.budget_mb == {"host": 8000}


@pytest.mark.parametrize(
    ("rules", "reserve_mb"),
    [
        (MemoryRules(), 512),
        (MemoryRules(reserve_mb=0), 0),
        (MemoryRules(reserve_mb=2048), 2048),
    ],
)
def test_a_small_device_keeps_at_least_half_a_gibibyte_free_unless_it_is_said(rules, reserve_mb):
    assert rules.reserve(8 * 2**30) == reserve_mb * 2**20


def test_a_large_device_keeps_five_percent_free():
    assert MemoryRules().reserve(100 * 2**30) == 5 * 2**30


def test_all_mistakes_are_found_at_once_and_one_line_tells_how_many():
    text = '[servers.a]\nmodel_path = "a"\nx = 1\ny = 2\n[servers.b]'
    assert [found.partition(":")[0] for found in mistakes(text)] == ["line 3", "line 4", "line 5"]
    with pytest.raises(ConfigError, match=r"line 3: .* \(And 2 more: llama config check\.\)"):
        parse_fleet_file(PATH, text)


def test_the_example_of_the_documents_has_ten_servers_and_no_mistake():
    example = (ROOT / "docs" / "configure.md").read_text().split("```toml\n")[1].split("```")[0]
    servers = parse_fleet_file(PATH, example).servers
    assert len(servers) == 10
    assert servers["coder"].values["model_path"] == "/srv/models/qwen3-coder-30b.gguf"
    assert servers["coder"].values["args"] == ["-c", "32768", "-ngl", "99", "--jinja"]


def test_a_file_that_is_no_toml_is_refused_with_line_and_column():
    with pytest.raises(ConfigError, match=r"is not TOML: .*at line 2, column 6"):
        parse_fleet_file(PATH, "[servers.a]\nport : 1")


def test_a_secret_is_repeated_in_no_mistake():
    (found,) = mistakes('[servers.a]\nmodel_path = "a"\napi_key = "sk-do-not tell"')
    assert "tell" not in found


def test_a_model_to_fetch_is_a_model():
    values = parse_fleet_file(PATH, '[servers.a]\nargs = ["-hf", "ggml-org/gemma"]').servers["a"].values
    assert values == {"args": ["-hf", "ggml-org/gemma"]}


def test_a_key_is_found_in_dotted_and_quoted_and_inline_forms():
    lines = Lines('[servers]\n"a b".port = 1\n[servers.c.environment]\nX = "1"\nd = { e = 1 }\n')
    assert lines.of("servers", "a b", "port") == 2
    assert lines.of("servers", "c") == 3
    assert lines.of("servers", "c", "environment", "X") == 4
    assert lines.of("servers", "c", "environment", "d", "e") == 5


def test_both_files_in_one_directory_are_one_clear_error(tmp_path):
    toml, other = tmp_path / "llamaproxy.toml", tmp_path / ".llama-proxy-config.json"
    toml.write_text("")
    check_one_file(toml, named=False)
    other.write_text("{}")
    check_one_file(toml, named=True)
    with pytest.raises(ConfigError) as raised:
        check_one_file(toml, named=False)
    assert str(toml) in str(raised.value)
    assert str(other) in str(raised.value)
    assert "LLAMAPROXY_CONFIG" in str(raised.value)


def test_the_directory_of_models_is_read_and_has_a_default():
    assert parse_fleet_file(PATH, '[models]\nmodels_dir = "/srv/models"').models == ModelRules(
        models_dir="/srv/models"
    )
    assert parse_fleet_file(PATH, "").models == ModelRules()
