"""The whole on a real PostgreSQL, as in production: several processes, one database."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.building import free_port, wait_until

psycopg = pytest.importorskip("psycopg", reason="pip install '.[postgres]'")

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "fake_llama_server.py"
DEADLINE = 30.0


def binaries():
    """The directory with initdb and postgres; None when PostgreSQL is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


class Postgres:
    """A throw-away cluster on a free port. PostgreSQL refuses to run as root, so root lends it another user."""

    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.lend: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.lend = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def _run(self, program, *arguments):
        subprocess.run(
            [binaries() / program, *arguments],
            cwd=self.directory,
            check=True,
            capture_output=True,
            **self.lend,
        )

    def start(self):
        options = f"-F -p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self):
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def ask(self, sql):
        """The rows of a query."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def postgres():
    if binaries() is None:
        pytest.skip("install PostgreSQL (apt-get install postgresql)")
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root: add a user postgres")
    # Not pytest's tmp_path, which other users may not enter; short, for the socket in it.
    directory = Path(tempfile.mkdtemp(prefix="lp-pg-"))
    try:
        if os.geteuid() == 0:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        cluster = Postgres(directory)
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(postgres, tmp_path_factory):
    """Of a node whose engine is the fake llama-server."""
    directory = tmp_path_factory.mktemp("node")
    launcher = directory / "llama-server"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -I {FAKE} "$@"\n')
    launcher.chmod(0o755)
    config = directory / "config.json"
    config.write_text(json.dumps({"llama_server_binary": str(launcher), "llama_server_port": free_port()}))
    clean = {
        key: value for key, value in os.environ.items() if key not in {"REDIS_URL", "DJANGO_SETTINGS_MODULE"}
    }
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
    """A supervisor from an empty database to its end; the database went away for a while in between."""

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
        postgres.stop()
        try:
            os.kill(second, signal.SIGKILL)
            wait_until(lambda: "[STORE]" in log.read_text(), DEADLINE)
            assert supervisor.poll() is None
        finally:
            postgres.start()
        third = ready(postgres, other_than=second)
    return Episode([first, second, third], supervisor.returncode, log.read_text())


def runs(postgres, columns):
    return postgres.ask(f"SELECT {columns} FROM supervisor_app_run ORDER BY id")


def test_it_migrates_an_empty_database_and_ends_cleanly(episode, postgres):
    assert episode.exit_code == 0, episode.log
    assert "Warning" not in episode.log
    assert state(postgres) == ("initial", None)


def test_each_process_is_a_row_of_the_history(episode, postgres, environment):
    port = json.loads(Path(environment["LLAMAPROXY_CONFIG"]).read_text())["llama_server_port"]
    found = runs(postgres, "pid, adopted, argv ->> -1, ready_at IS NOT NULL, ended_at IS NOT NULL")
    assert found == [(pid, False, str(port), True, True) for pid in episode.pids]


def test_what_happened_while_the_database_was_away_is_saved_when_it_is_back(episode, postgres):
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


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
