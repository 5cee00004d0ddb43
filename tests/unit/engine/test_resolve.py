from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from supervisor_app.engine import resolve
from supervisor_app.engine.resolve import HOW_TO_GET_ONE, Engine, EngineKind, EngineMissing, find_engine


@pytest.fixture
def program(tmp_path):
    """Makes an executable file."""

    def make(name, mode=0o755):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
        return path

    return make


@pytest.fixture
def bundled(monkeypatch):
    """Says whether the bundled engine is installed."""

    def installed(yes):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if yes else None)

    return installed


def test_the_configured_one_comes_before_the_one_on_path(program):
    program("bin/llama-server")
    mine = program("mine/server")
    engine = find_engine(str(mine), path=str(mine.parent.parent / "bin"))
    assert engine == Engine(command=(str(mine),), kind=EngineKind.CONFIGURED)
    assert engine.describe == f"llama-server at {mine}"


def test_a_configured_name_is_looked_up_on_path(program):
    there = program("bin/my-llama")
    engine = find_engine("my-llama", path=str(there.parent))
    assert engine == Engine(command=(str(there),), kind=EngineKind.CONFIGURED)


def test_a_configured_home_is_expanded(program, monkeypatch, tmp_path):
    there = program("bin/llama-server")
    monkeypatch.setenv("HOME", str(tmp_path))
    engine = find_engine("~/bin/llama-server", path="")
    assert engine
    assert engine.command == (str(there),)


def test_a_relative_path_becomes_absolute(program, monkeypatch, tmp_path):
    there = program("bin/llama-server")
    monkeypatch.chdir(tmp_path)
    engine = find_engine("./bin/llama-server", path="")
    assert engine
    assert engine.command == (str(there),)


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ("nobody-has-this", "'nobody-has-this' is not on PATH"),
        ("{here}/none", "does not exist"),
        ("{here}", "is a folder"),
        ("{here}/plain", "is not executable"),
    ],
)
def test_a_configured_one_that_cannot_run_never_falls_through(program, bundled, tmp_path, configured, words):
    bundled(True)
    program("llama-server")
    program("plain", mode=0o644)
    with pytest.raises(EngineMissing) as raised:
        find_engine(configured.format(here=tmp_path), path=str(tmp_path))
    assert words in str(raised.value)
    assert HOW_TO_GET_ONE in str(raised.value)
    assert raised.value.configured == configured.format(here=tmp_path)


@pytest.mark.parametrize("configured", [None, ""])
def test_without_configuration_the_one_on_path_is_used(program, configured):
    there = program("bin/llama-server")
    engine = find_engine(configured, path=str(there.parent))
    assert engine == Engine(command=(str(there),), kind=EngineKind.PATH)


def test_the_bundled_engine_is_the_last_resort(bundled, tmp_path):
    bundled(True)
    engine = find_engine(None, path=str(tmp_path))
    assert engine == Engine(command=(sys.executable, "-I", str(resolve.LAUNCHER)), kind=EngineKind.BUNDLED)
    assert engine.describe == "the bundled engine (xllamacpp)"


def test_the_bundled_engine_is_recognised_by_its_command_line():
    # The port inspection looks for this ending.
    assert str(resolve.LAUNCHER).endswith(os.path.join("supervisor_app", "engine", "launcher.py"))
    assert resolve.LAUNCHER.is_file()


def test_none_at_all_is_none(bundled, tmp_path):
    bundled(False)
    assert find_engine(None, path=str(tmp_path)) is None


def test_how_to_get_one_names_all_three_ways():
    for way in ("https://github.com/ggml-org/llama.cpp", "llama_server_binary", "pip install '.[engine]'"):
        assert way in HOW_TO_GET_ONE
