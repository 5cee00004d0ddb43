"""The launch of a server by its row and the config file, which wins: its command line, address and rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.spec import HealthPolicy, RestartPolicy
from supervisor_app.fleet.conf import Overlay, apply_overlay, fixed_fields, lock_of, resolve
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.roles.management.commands.runsupervisor import say_if_idle
from tests.integration.building import SECRET, make_server

# --- What is launched ----------------------------------------------------------------------------------


def resolved(overlay=None, **fields):
    server = LlamaServer(**{"name": "default", **fields})
    return resolve(server, overlay or Overlay(), command=("/usr/bin/llama-server",), cwd="/srv")


def test_paths_below_home_are_found_there(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    spec = resolved(model_path="~/m.gguf", args=["--mmproj", "~/p.gguf", "--alias", "a~/b"]).spec
    assert spec.model_file == Path("/home/ada/m.gguf")
    assert {"/home/ada/m.gguf", "/home/ada/p.gguf", "a~/b"} <= set(spec.argv)
    assert "/home/ada/models" in resolved(model_path="", models_dir="~/models").spec.argv


def test_a_model_file_becomes_this_command_line():
    spec = resolved(model_path="m.gguf", host="::1", port=9000, args=["-c", "8192"], api_key=SECRET).spec
    assert spec.argv == (
        "/usr/bin/llama-server", "-m", "m.gguf", "--host", "::1", "--port", "9000", "-c", "8192"
    )  # fmt: skip
    assert (spec.url, spec.cwd, spec.model_file) == ("http://[::1]:9000", "/srv", Path("/srv/m.gguf"))


def test_a_models_directory_becomes_this_command_line():
    spec = resolved(models_dir="models").spec
    assert spec.argv == (
        "/usr/bin/llama-server", "--models-dir", "models", "--host", "localhost", "--port", "8134"
    )  # fmt: skip
    assert spec.model_file is None


def test_the_api_key_is_in_no_command_line_and_in_no_repr():
    config = resolved(api_key=SECRET)
    assert config.spec.api_key == SECRET
    assert SECRET not in repr(config)
    assert all(SECRET not in part for part in config.spec.argv)


def test_own_flags_come_last_so_that_they_win():
    assert resolved(args=["-c", "1"]).spec.args[-2:] == ("-c", "1")


def test_without_an_engine_the_command_is_empty():
    config = resolve(LlamaServer(name="default"), Overlay(), command=(), cwd="/")
    assert config.spec.command == ()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://gpu-1.lan:8134"),
        ("::", "http://gpu-1.lan:8134"),
        # Nobody reaches it from elsewhere, whatever this host is called.
        ("localhost", "http://localhost:8134"),
        # The name of the host may be one of another network.
        ("10.0.0.7", "http://10.0.0.7:8134"),
    ],
)
def test_only_a_server_that_listens_everywhere_goes_by_the_name_of_its_host(settings, host, url):
    settings.LLAMAPROXY_ADVERTISE = "gpu-1.lan"
    assert resolved(host=host).spec.public_url == url


def test_the_rules_are_the_rows():
    config = resolved(
        max_retries=1,
        retry_backoff_ms=2,
        max_backoff_ms=3,
        stable_after_ms=4,
        stop_grace_ms=5,
        drain_seconds=6,
        retry_forever=True,
        health_check_interval_ms=60,
        health_check_timeout_ms=70,
        max_health_checks=8,
        max_load_seconds=9,
        stall_seconds=11,
        max_memory_mb=12,
        canary_minutes=13,
        generation=10,
        restart_generation=9,
        desired_running=False,
    )
    assert config.restart == RestartPolicy(
        max_retries=1,
        retry_backoff_ms=2,
        max_backoff_ms=3,
        stable_after_ms=4,
        stop_grace_ms=5,
        drain_seconds=6,
        retry_forever=True,
    )
    assert config.health == HealthPolicy(
        interval_ms=60,
        timeout_ms=70,
        max_checks=8,
        max_load_seconds=9,
        stall_seconds=11,
        max_memory_mb=12,
        canary_minutes=13,
    )
    assert config.health.max_memory == 12 * 2**20
    assert (config.generation, config.restart_generation, config.desired_running) == (10, 9, False)
    assert config.idle_seconds is None


def test_a_server_that_was_stopped_for_idleness_says_after_how_long():
    stopped = {"desired_running": False, "stopped_for_idleness": True}
    assert resolved(**stopped, idle_stop_seconds=600).idle_seconds == 600
    overlay = Overlay(values={"idle_stop_seconds": 60})
    assert resolved(overlay, **stopped).idle_seconds == 60


def test_the_file_wins_over_the_row():
    assert resolved(Overlay(values={"port": 9999, "args": ["-x"]}), port=1).spec.args[-3:] == (
        "--port",
        "9999",
        "-x",
    )


# --- Several hosts -------------------------------------------------------------------------------------


def test_a_file_sets_nothing_of_the_default_of_another_host(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    server, overlay = LlamaServer(name="default", node="gpu-2", port=1), Overlay(values={"port": 9})
    apply_overlay(server, overlay)
    assert (server.port, fixed_fields(server, overlay)) == (1, set())
    lock_of("gpu-2").touch()  # a supervisor of that name has run here
    apply_overlay(server, overlay)
    assert (server.port, fixed_fields(server, overlay)) == (9, {"port"})


@pytest.mark.django_db
def test_a_node_without_servers_says_so_and_whose_the_default_of_its_file_is(caplog):
    say_if_idle("gpu-2", Overlay(source="x.json", values={"port": 9}))
    make_server("default", node="gpu-1")
    say_if_idle("gpu-2", Overlay(source="x.json", values={"port": 9}))
    make_server("other", node="gpu-2")
    say_if_idle("gpu-2", Overlay(source="x.json", values={"port": 9}))
    first, second = (record.message for record in caplog.records)
    assert first.startswith("⚠️ [NODE] No server belongs to node 'gpu-2': there is nothing to run. Make one")
    assert "x.json describes the server 'default', which belongs to node 'gpu-1'." in second
