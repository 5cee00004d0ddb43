"""The engine of a server by its name: described in a file, chosen on pages, and what holds without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command

from supervisor_app.common.redact import HIDDEN
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


@pytest.fixture
def written(tmp_path, settings):
    """The file, as commands, pages and the admin read it."""
    settings.LLAMAPROXY_CONFIG = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG.write_text(FILE)
    return settings.LLAMAPROXY_CONFIG


@pytest.mark.django_db
def test_the_command_shows_the_engine_of_a_server_with_its_program_and_no_values(written, capsys):
    make_server("chat", engine="cuda")
    make_server("lost", engine="rocm")
    call_command("llama", "config", "show")
    shown = capsys.readouterr().out
    assert f"  binary = /opt/cuda/llama-server  # {written}" in shown
    assert f"  environment.CUDA_VISIBLE_DEVICES = {HIDDEN}  # {written}" in shown
    assert "  engine = 'cuda'  # the admin" in shown
    assert f"lost is to run on the engine rocm, and {written} has no [engines.rocm]" in shown


@pytest.mark.django_db
def test_the_admin_offers_engines_by_name(written, staff_client):
    server = make_server("chat")
    form = (
        staff_client.get(f"/admin/supervisor_app/llamaserver/{server.pk}/change/").context["adminform"].form
    )
    assert form.fields["engine"].choices == [("", "The default engine"), ("cuda", "cuda")]
    LlamaServer.objects.update(engine="rocm")
    page = staff_client.get(f"/admin/supervisor_app/llamaserver/{server.pk}/change/").content.decode()
    assert "rocm (described no more)" in page
