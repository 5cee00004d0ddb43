"""The config file: every mistake is one clear line, and every key reaches its field."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from supervisor_app.core.setting import LARGEST, Section
from supervisor_app.core.settings import BY_KEY, SETTINGS
from supervisor_app.fleet.conf import (
    BINARY_KEY,
    ENGINE_KEY,
    USERS_KEY,
    ConfigError,
    Overlay,
    apply_overlay,
)
from supervisor_app.fleet.config_file import read_overlay
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import SECRET

ROOT = Path(__file__).parents[3]


@pytest.fixture
def write(config_file):
    """Write the config file: text as it is, anything else as JSON."""

    def write_it(content):
        text = content if isinstance(content, str) else json.dumps(content)
        config_file.write_text(text, encoding="utf-8")
        return config_file

    return write_it


def complaint(path):
    with pytest.raises(ConfigError) as raised:
        read_overlay(path)
    return str(raised.value)


# --- Mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),  # an empty file
        ("{", "is not JSON"),
        ("{'llama_server_port': 8134}", "is not JSON"),  # Python, not JSON
        ('{"llama_server_port": 8134,}', "is not JSON"),  # a comma too many
        ("[]", "must hold one JSON object"),
        ("8134", "must hold one JSON object"),
        ("null", "must hold one JSON object"),
    ],
)
def test_a_file_that_is_no_json_object_is_named(write, content, message):
    path = write(content)
    assert complaint(path).startswith(str(path))
    assert message in complaint(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama_server_prot", 8134, "unknown key 'llama_server_prot'"),  # a slip of the finger
        ("llama_server_port", "8134", "is '8134', it must be a whole number"),
        ("llama_server_port", 8134.0, "is 8134.0, it must be a whole number"),
        ("llama_server_port", True, "is True, it must be a whole number"),  # bool is an int in Python
        ("llama_server_port", None, "is None, it must be a whole number"),
        ("llama_server_port", 0, "is 0: 0 is not a port. Use 1 to 65535."),
        ("llama_server_port", 65536, "is 65536: 65536 is not a port. Use 1 to 65535."),
        ("llama_server_port", -1, "is -1: -1 is not a port."),
        ("llama_server_host", 7, "is 7, it must be text"),
        ("llama_server_host", "no host", "is 'no host': 'no host' is not a host."),
        ("llama_server_host", "", "is ''"),
        ("llama_model_path", ["m.gguf"], "is ['m.gguf'], it must be text"),
        ("llama_model_path", "", "llama_model_path is empty. Name a GGUF file, or set llama_models_dir."),
        ("llama_model_path", "a\0b", "llama_model_path contains a NUL"),
        ("llama_model_path", "a\ud800b", "half a surrogate pair"),
        ("llama_model_path", "x" * 1001, "at most 1000 characters"),
        ("llama_models_dir", 1, "is 1, it must be text"),
        ("llama_server_args", "-c 8192", "is '-c 8192', it must be a list of strings"),
        ("llama_server_args", ["-c", 8192], "is ['-c', 8192]: ['-c', 8192] is not a list of strings"),
        ("llama_server_args", ["--port", "1"], "--port does not belong here: set the port instead"),
        ("llama_server_args", ["--api-prefix", "/x"], "--api-prefix cannot be used: its paths begin with"),
        ("llama_server_args", ["--ssl_key_file=k"], "--ssl-key-file cannot be used: it speaks TLS then"),
        ("llama_server_args", ["--ssl-cert-file", "c"], "in front of the gateway instead"),
        ("llama_server_args", ["a\0"], "llama_server_args contains a NUL"),
        ("llama_server_binary", "", "is '', it must be text"),
        ("engine", "cuda", "engine is for engines of llamaproxy.toml. Write llama_server_binary here"),
        ("llama_server_binary", " ", "is ' ', it must be text"),
        ("llama_server_binary", ["a"], "is ['a'], it must be text"),
        ("llama_server_binary", "a\0", "llama_server_binary contains a NUL"),
        ("llama_server_users", "llama", "is 'llama', it must be a list of users"),
        ("llama_server_users", ["no-such-user"], "names 'no-such-user', no user of this machine"),
        ("llama_server_users", [-1], "names -1, no user of this machine"),
        ("llama_server_users", [True], "names True, no user of this machine"),
        ("llama_server_users", [None], "names None, no user of this machine"),
        ("max_retries", -1, "is -1: Ensure this value is greater than or equal to 0."),
        ("max_retries", "many", "is 'many', it must be a whole number"),
        ("retry_backoff_ms", 0, "is 0: Ensure this value is greater than or equal to 1."),
        ("max_backoff_ms", 0, "is 0: Ensure this value is greater than or equal to 1."),
        ("max_backoff_ms", 999, "The longest wait (999 ms) is less than the first (1000 ms)."),
        (
            "max_backoff_ms",
            LARGEST + 1,
            f"max_backoff_ms is {LARGEST + 1}: the largest that works is {LARGEST}.",
        ),
        ("retry_forever", 1, "is 1, it must be true or false"),
        ("max_retries", True, "is True, it must be a whole number"),
        ("stable_after_ms", -1, "is -1: Ensure"),
        ("drain_seconds", -1, "is -1: Ensure"),
        ("stop_grace_ms", -1, "is -1: Ensure"),
        ("health_check_interval_ms", 49, "is 49: Ensure this value is greater than or equal to 50."),
        ("health_check_timeout_ms", 49, "is 49: Ensure this value is greater than or equal to 50."),
        ("max_health_checks", 0, "is 0: Ensure this value is greater than or equal to 1."),
        ("max_load_seconds", 0, "is 0: Ensure this value is greater than or equal to 1."),
        ("hold_seconds", -1, "is -1: Ensure"),
        ("max_queue", 1.5, "is 1.5, it must be a whole number"),
        ("model_aliases", "chat", "is 'chat', it must be a list of strings"),
        ("model_aliases", [1], "is [1]: [1] is not a list of strings"),
        ("model_aliases", [""], "'' is not a name"),
        ("model_aliases", ["chat", " b"], "' b' is not a name: it is empty, or begins or ends with a space."),
        ("model_aliases", ["a\0"], "model_aliases contains a NUL"),
        ("presets", ["brief"], "presets is ['brief'], it must be a table."),
        ("presets", {"a": {"set": {"model": "b"}}}, "a.set.model: no preset changes this field"),
        ("presets", {"a": {"system_prefix": "\0"}}, "a.system_prefix: it contains a NUL"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_value(write, key, value, message):
    path = write({key: value})
    said = complaint(path)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert "\n" not in said


def test_an_unknown_key_is_answered_with_those_that_exist(write):
    said = complaint(write({"port": 1}))
    assert all(setting.key in said for setting in SETTINGS if setting.key != ENGINE_KEY)


@pytest.mark.parametrize(
    "value",
    [
        [SECRET],
        {SECRET: 1},
        f"{SECRET} with spaces",
        SECRET * 50,
        f"{SECRET}\0",
    ],
)
def test_a_bad_api_key_is_not_repeated(write, value):
    said = complaint(write({"llama_api_key": value}))
    assert "llama_api_key" in said
    assert SECRET not in said


def test_a_file_that_cannot_be_read_is_named(config_file):
    config_file.mkdir()
    assert complaint(config_file) == f"{config_file} cannot be read: Is a directory."


def test_a_file_that_is_not_utf_8_is_named(config_file):
    config_file.write_bytes(b'{"llama_model_path": "\xff"}')
    assert complaint(config_file) == f"{config_file} cannot be read: it is no text in UTF-8."


def test_lists_within_lists_without_end_are_a_mistake(config_file):
    config_file.write_text("[" * 100_000)
    assert complaint(config_file) == f"{config_file} cannot be read: its lists are nested too deeply."


def test_a_byte_order_mark_of_an_editor_is_no_mistake(config_file):
    config_file.write_bytes(b'\xef\xbb\xbf{"llama_server_port": 9001}')
    assert read_overlay(config_file).values == {"port": 9001}


# --- What it says --------------------------------------------------------------------------------------


def test_without_a_file_nothing_is_overridden(config_file):
    assert read_overlay(config_file) == Overlay()


def test_an_empty_object_overrides_nothing(write):
    path = write({})
    assert read_overlay(path) == Overlay(source=str(path))


EVERY_KEY = {
    "llama_server_host": "0.0.0.0",
    "llama_server_port": 9000,
    "llama_model_path": "m.gguf",
    "llama_server_args": ["-c", "8192"],
    "llama_models_dir": "",
    "llama_api_key": SECRET,
    "keep_context": True,
    "max_retries": 0,
    "retry_backoff_ms": 10,
    "max_backoff_ms": 20,
    "retry_forever": True,
    "health_check_interval_ms": 50,
    "health_check_timeout_ms": 60,
    "max_health_checks": 7,
    "max_load_seconds": 8,
    "drain_seconds": 0,
    "stop_grace_ms": 0,
    "stable_after_ms": 0,
    "stall_seconds": 0,
    "max_memory_mb": 4096,
    "canary_minutes": 30,
    "hold_seconds": 0,
    "idle_stop_seconds": 600,
    "seamless": True,
    "max_concurrent": 2,
    "max_queue": 0,
    "model_aliases": ["chat", "a/b:c"],
    "presets": {"brief": {"set": {"temperature": 0.2}, "system_prefix": "Be brief."}},
    "group": "big",
    "pinned": True,
    "priority": 3,
}


def test_every_key_is_tried_here():
    of_the_node = {setting.key for setting in SETTINGS if setting.section is Section.NODE}
    assert of_the_node == {BINARY_KEY, USERS_KEY}
    assert {*EVERY_KEY, *of_the_node, ENGINE_KEY} == {setting.key for setting in SETTINGS}


def test_every_key_reaches_its_field(write):
    overlay = read_overlay(write(EVERY_KEY | {BINARY_KEY: "/opt/llama-server"}))
    assert overlay.binary == "/opt/llama-server"
    assert overlay.values == {BY_KEY[key].field: value for key, value in EVERY_KEY.items()}


def test_a_models_directory_alone_takes_the_place_of_the_default_model(write):
    overlay = read_overlay(write({"llama_models_dir": "models"}))
    assert overlay.values == {"models_dir": "models", "model_path": ""}


def test_the_binary_comes_from_the_environment_unless_the_file_names_one(write, config_file, monkeypatch):
    monkeypatch.setenv("LLAMA_SERVER_BINARY", "/env/llama-server")
    assert read_overlay(config_file).binary == "/env/llama-server"
    assert read_overlay(write({"max_retries": 1})).binary == "/env/llama-server"
    assert read_overlay(write({BINARY_KEY: "/file/llama-server"})).binary == "/file/llama-server"


def test_an_empty_environment_variable_names_no_binary(config_file, monkeypatch):
    monkeypatch.setenv("LLAMA_SERVER_BINARY", "")
    assert read_overlay(config_file).binary is None


def test_users_are_named_or_numbered(write):
    assert read_overlay(write({"llama_server_users": ["root", 1234]})).users == {0, 1234}


def test_the_second_of_two_overlays_wins():
    file = Overlay(source="file", values={"port": 1, "host": "a"}, binary="x")
    demo = Overlay(source="--demo", values={"port": 2})
    assert file.merged(demo) == Overlay(source="--demo", values={"port": 2, "host": "a"}, binary="x")
    assert file.merged(Overlay()) == file


def test_the_file_is_about_the_server_default_only():
    overlay = Overlay(values={"port": 9999})
    server = LlamaServer(name="other", port=1)
    apply_overlay(server, overlay)
    assert server.port == 1


# --- Documentation -------------------------------------------------------------------------------------

CONFIGURE = (ROOT / "docs" / "configure.md").read_text()


def test_the_documents_list_every_environment_variable():
    read = re.compile(
        r"""(?:env_bool|env_list|environ\.get)\(\s*["']([A-Z_]+)["']|\.environ\[["']([A-Z_]+)["']\]"""
    )
    sources = [*ROOT.glob("llamaproxy/*.py"), *ROOT.glob("supervisor_app/**/*.py")]
    used = {a or b for source in sources for a, b in read.findall(source.read_text())}
    used.add("DATABASE_URL")  # dj_database_url reads it
    described = set(re.findall(r"^\| *`([A-Z_]+)` *\|", CONFIGURE, re.MULTILINE))
    assert used - described == set()
