"""The whole on a real PostgreSQL, as in production: several processes, one database."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deadline import DEADLINE
from tests.integration.building import environment_without, wait_until
from tests.ports import free_port
from tests.postgres import throwaway_cluster

psycopg = pytest.importorskip("psycopg", reason="pip install '.[postgres]'")

ROOT = Path(__file__).parents[3]
FAKE = ROOT / "tests" / "fake_llama_server.py"


@pytest.fixture(scope="module")
def postgres():
    with throwaway_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def environment(postgres, tmp_path_factory):
    """Of a node whose engine is the fake llama-server."""
    directory = tmp_path_factory.mktemp("node")
    launcher = directory / "llama-server"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -I {FAKE} "$@"\n')
    launcher.chmod(0o755)
    config = directory / "config.json"
    config.write_text(json.dumps({"llama_server_binary": str(launcher), "llama_server_port": free_port()}))
    clean = environment_without("REDIS_URL", "DJANGO_SETTINGS_MODULE")
    return clean | {
        "DATABASE_URL": postgres.url,
        "LLAMAPROXY_DATA_DIR": str(directory / "data"),
        "LLAMAPROXY_CONFIG": str(config),
        "SECRET_KEY": "for-tests-only",
        "PYTHONWARNINGS": "default",
    }


def manage(environment, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@contextmanager
def process(environment, log, *command):
    """Something that runs until it gets SIGTERM, its output in a file."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(DEADLINE)
        finally:
            running.kill()


def state(postgres):
    """Status and pid of the server; nothing before the database is migrated."""
    try:
        rows = postgres.ask("SELECT status, pid FROM supervisor_app_serverstate")
    except psycopg.errors.UndefinedTable:
        rows = []
    return rows[0] if rows else ("", None)


def ready(postgres, *, other_than=None):
    """The pid, once it is ready."""

    def look():
        status, pid = state(postgres)
        return pid if status == "ready" and pid != other_than else None

    return wait_until(look, DEADLINE)


@dataclass
class Episode:
    """A supervisor from an empty database to its end."""

    pids: list[int]
    exit_code: int
    log: str


@pytest.fixture(scope="module")
def episode(postgres, environment, tmp_path_factory):
    log = tmp_path_factory.mktemp("episode") / "log"
    with process(environment, log, "manage.py", "runsupervisor", "--no-web") as supervisor:
        first = ready(postgres)
        asked = manage(environment, "llama", "restart", "--json")
        assert (asked.returncode, json.loads(asked.stdout)[0]["name"]) == (0, "default")
        second = ready(postgres, other_than=first)
        os.kill(second, signal.SIGKILL)
        third = ready(postgres, other_than=second)
    return Episode([first, second, third], supervisor.returncode, log.read_text())


def runs(postgres, columns):
    return postgres.ask(f"SELECT {columns} FROM supervisor_app_run ORDER BY id")


def test_a_supervisor_migrates_an_empty_database_and_ends_cleanly(episode, postgres):
    assert episode.exit_code == 0, episode.log
    assert "Warning" not in episode.log
    assert state(postgres) == ("initial", None)


def test_each_process_is_a_row_of_the_history(episode, postgres, environment):
    port = json.loads(Path(environment["LLAMAPROXY_CONFIG"]).read_text())["llama_server_port"]
    found = runs(postgres, "pid, adopted, argv ->> -1, ready_at IS NOT NULL, ended_at IS NOT NULL")
    assert found == [(pid, False, str(port), True, True) for pid in episode.pids]


def test_how_each_process_ended_is_on_record(episode, postgres):
    # Asked to restart, killed behind the supervisor's back, asked to stop.
    assert runs(postgres, "exit_code, signal, retry, failure_kind <> ''") == [
        (0, None, 0, False),
        (None, 9, 0, True),
        (0, None, 1, False),
    ]


def test_a_web_process_leaves_no_connection_behind(episode, postgres, environment, tmp_path):
    port = free_port()
    daphne = ("-m", "daphne", "-p", str(port), "llamaproxy.asgi:application")
    with process(environment, tmp_path / "log", *daphne):
        wait_until(lambda: listens(port), DEADLINE)
        for _ in range(30):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/servers/", timeout=DEADLINE) as answer:
                assert answer.status == 200
        clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        assert wait_until(lambda: postgres.ask(clients)[0][0] == 1, 5), "ours alone"


def test_a_second_supervisor_of_the_node_is_refused_whatever_its_data_directory(
    episode, postgres, environment, tmp_path
):
    # A host that was given up long ago is no obstacle.
    postgres.ask(
        "INSERT INTO supervisor_app_nodelease (node, holder, token, devices, renewed_at) VALUES"
        " ('local', '77 5 another-boot gpu-2', 'theirs', '{}', now() - interval '20 seconds') RETURNING id"
    )
    with process(environment, tmp_path / "log", "manage.py", "runsupervisor", "--no-web") as first:
        ready(postgres)
        second = manage(environment | {"LLAMAPROXY_DATA_DIR": str(tmp_path)}, "runsupervisor", "--no-web")
    assert second.returncode == 4
    holder = f"pid {first.pid} on {socket.gethostname()}"
    assert f"Another supervisor holds node 'local': {holder}." in second.stderr
    assert postgres.ask("SELECT node FROM supervisor_app_nodelease") == []


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


TIME_LIMITS = """
import socket
from django.db import connection
connection.ensure_connection()
with socket.socket(fileno=connection.connection.fileno()) as found:
    names = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    levels = (socket.SOL_SOCKET, *4 * (socket.IPPROTO_TCP,))
    print([found.getsockopt(level, getattr(socket, name)) for level, name in zip(levels, names)])
    found.detach()
"""


def test_a_connection_whose_host_vanishes_is_given_up_after_ten_seconds(environment):
    done = manage(environment, "shell", "--verbosity", "0", "--command", TIME_LIMITS)
    assert done.stdout.strip() == "[1, 5, 2, 3, 10000]", done.stderr
