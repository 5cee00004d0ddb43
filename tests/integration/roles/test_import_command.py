"""`manage.py llama import`: what comes out is accepted as `llamaproxy.toml`."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from supervisor_app.roles import config_import
from tests.unit.importing import test_sources

SOURCES = test_sources.Path(test_sources.__file__).parent / "sources"


@pytest.fixture
def here(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings.LLAMAPROXY_CONFIG = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG_NAMED = False
    return tmp_path


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(path.name for path in SOURCES.iterdir()))
def test_an_imported_configuration_has_no_mistake(name, here, capsys):
    call_command("llama", "import", str(SOURCES / name))
    (here / "llamaproxy.toml").write_text(capsys.readouterr().out)
    call_command("llama", "config", "check")
    assert capsys.readouterr().out.endswith(", no mistake\n")


def test_a_command_line_is_taken_as_it_is(here, capsys):
    call_command("llama", "import", "CUDA_VISIBLE_DEVICES=1 llama-server -m a.gguf -c 8192")
    assert 'args = ["-c", "8192"]' in capsys.readouterr().out


def test_a_mistake_in_a_command_line_is_one_sentence(here):
    with pytest.raises(CommandError) as raised:
        call_command("llama", "import", "llama-server -m a.gguf | tee log")
    assert str(raised.value) == ("The command line: '|' is for a shell, and none runs this. Leave it out.")


def test_the_standard_input_is_read(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[a]\nm = a.gguf\n")))
    call_command("llama", "import", "-")
    assert '[servers.a]\nmodel_path = "a.gguf"\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"models:\n  a: {ttl: 5}", "x.yaml: line 2: models.a.cmd: every model needs a command line"),
        (b"\xff\xfe", "cannot be read"),
        (b"#" * (config_import.LARGEST + 1), "x.yaml is longer than 1048576 bytes"),
        (b"models:\n  a: {cmd: llama-server -m a --port 70000}", "servers.a.port is 70000"),
        (b"models:\n  a: {cmd: llama-server -m a, env: [A-B=x]}", "this is no name of a variable"),
    ],
)
def test_a_mistake_ends_with_code_2(text, said, here, capsys):
    (here / "x.yaml").write_bytes(text)
    with pytest.raises(CommandError) as raised:
        call_command("llama", "import", "x.yaml")
    assert said in str(raised.value)
    assert raised.value.returncode == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name a file, or write .llama-server"),
        (["none.yaml"], "There is no file none.yaml. Name one, or write"),
        (["sudo llama-server -m a"], "It begins with 'sudo'. Begin with llama-server, its path"),
        (["  "], "It is empty. Write llama-swap's YAML"),
        (["/"], "/ cannot be read: Is a directory"),
    ],
)
def test_a_missing_source_is_answered_with_what_can_be_imported(arguments, said, here):
    with pytest.raises(CommandError, match=said) as raised:
        call_command("llama", "import", *arguments)
    assert raised.value.returncode == 2
