"""The engine of a server by its name: described in a file, chosen on pages, and what holds without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.fleet.conf import Overlay, resolve
from supervisor_app.fleet.engines import NamedEngine, UnknownEngineError, engine_of
from supervisor_app.fleet.fleet_file import parse_fleet_file
from supervisor_app.fleet.kept_engines import KeptEngines
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import make_server

PATH = Path("/etc/llamaproxy.toml")
CUDA = NamedEngine(binary="/opt/cuda/llama-server", environment={"CUDA_VISIBLE_DEVICES": "1"})
FILE = """
[engines.cuda]
binary = "/opt/cuda/llama-server"
environment = { CUDA_VISIBLE_DEVICES = "1" }
"""


@pytest.fixture
def overlay(monkeypatch):
    monkeypatch.delenv("LLAMA_SERVER_BINARY", raising=False)
    return parse_fleet_file(PATH, FILE)


def config_of(server, overlay, command=("/usr/bin/llama-server",)):
    return resolve(server, overlay, command=command, cwd="/srv")


def test_a_server_that_people_made_runs_on_the_engine_that_it_names(overlay):
    server = LlamaServer(name="chat", engine="cuda")
    assert engine_of(server, overlay) == CUDA
    assert config_of(server, overlay).spec.environment == (("CUDA_VISIBLE_DEVICES", "1"),)
    assert config_of(server, overlay).launch["engine"] == "cuda"
    assert engine_of(LlamaServer(name="chat"), overlay) == NamedEngine()


def test_an_engine_that_no_file_describes_is_told_with_server_engine_and_file(overlay):
    server = LlamaServer(name="chat", engine="rocm")
    with pytest.raises(UnknownEngineError) as raised:
        engine_of(server, overlay)
    told = f"chat is to run on the engine rocm, and {PATH} has no [engines.rocm]"
    assert str(raised.value) == config_of(server, overlay).spec.engine_problem == told
    assert "no llamaproxy.toml describes [engines.rocm]" in config_of(server, Overlay()).spec.engine_problem


@pytest.mark.parametrize(
    ("table", "engine", "environment"),
    [
        ('engine = "cuda"', "/opt/cuda/llama-server", {"CUDA_VISIBLE_DEVICES": "1"}),
        ('engine = ""', "", {}),
        ('command = "/opt/x/llama-server -c 1"', "/opt/x/llama-server", {}),
        ('environment = { A = "1" }', "/opt/cuda/llama-server", {"CUDA_VISIBLE_DEVICES": "1", "A": "1"}),
    ],
)
def test_a_file_that_names_an_engine_or_a_program_wins(table, engine, environment, monkeypatch):
    overlay = parse_fleet_file(PATH, f'{FILE}[servers.chat]\nmodel_path = "m"\n{table}')
    server = LlamaServer(name="chat", engine="cuda", file=str(PATH))
    assert engine_of(server, overlay) == NamedEngine(binary=engine, environment=environment)


@pytest.mark.django_db
def test_an_edit_of_the_file_takes_no_engine_from_a_server_that_runs_on_it(overlay, caplog):
    make_server("chat", engine="cuda")
    make_server("other", port=9002)
    kept = KeptEngines("local")
    assert kept(overlay).engines == {"cuda": CUDA}
    without = parse_fleet_file(PATH, "")
    assert kept(without).engines == kept(without).engines == {"cuda": CUDA}
    (told,) = caplog.messages
    assert f"{PATH} has no [engines.cuda] any more: chat goes on with what it said before." in told
    changed = parse_fleet_file(PATH, FILE.replace("/opt/cuda", "/opt/new"))
    assert kept(changed).engines["cuda"].binary == "/opt/new/llama-server"
    assert len(caplog.messages) == 1
    LlamaServer.objects.update(engine="")
    assert kept(without).engines == {}
    assert KeptEngines("local")(without).engines == {}
