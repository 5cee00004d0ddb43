"""A database from before servers, traffic and alerts were apps of their own is carried over whole."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.acceptance.children import MANAGE, Child, completed, environment
from tests.integration.building import wait_until
from tests.ports import free_port
from tests.postgres import throwaway_cluster

ROOT = Path(__file__).parents[4]
HERE = Path(__file__).parent
MOVED = {
    "apikey": "traffic",
    "modellist": "traffic",
    "quarantinedrequest": "traffic",
    "requestrecord": "traffic",
    "serveruse": "traffic",
    "alertchannel": "alerts",
    "delivery": "alerts",
    "incident": "alerts",
}
"""The models of the one app of before that have another app now."""
VERSIONS = ["published", "before"]
"""Databases with a part, and with all, of the migrations of the one app."""


class Sqlite:
    def __init__(self, directory):
        self.file = directory / "db.sqlite3"
        self.url = f"sqlite:///{self.file}"

    def execute(self, sql):
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executescript(sql)

    def load(self, version):
        self.execute((HERE / f"{version}.sqlite.sql").read_text())


class Postgresql:
    """A database of a cluster, from an empty one."""

    def __init__(self, cluster, name):
        self._cluster = cluster
        self.url = cluster.url.removesuffix("postgres") + name
        self._execute(cluster.url, f"CREATE DATABASE {name}")

    def _execute(self, url, sql):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql)

    def execute(self, sql):
        self._execute(self.url, sql)

    def load(self, version):
        self.execute((HERE / f"{version}.postgresql.sql").read_text())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def make_database(request, tmp_path_factory):
    """Returns a function that makes an empty database."""
    if request.param == "sqlite":
        yield lambda name: Sqlite(tmp_path_factory.mktemp(name))
    else:
        with throwaway_cluster() as cluster:
            yield lambda name: Postgresql(cluster, name)


class Installation:
    """A database with the environment in which commands find it."""

    def __init__(self, database, directory, start):
        self.database = database
        config = directory / "config.json"
        config.write_text(json.dumps({"llama_server_binary": "/bin/false", "llama_server_port": free_port()}))
        self.start = start
        self.environment = environment(
            DATABASE_URL=database.url,
            DJANGO_SETTINGS_MODULE="llamaproxy.settings",
            LLAMAPROXY_DATA_DIR=str(directory / "data"),
            LLAMAPROXY_CONFIG=str(config),
            SECRET_KEY="for-tests-only",
        )

    def run(self, script, *arguments):
        command = [sys.executable, str(script), *arguments]
        return completed(command, cwd=ROOT, env=self.environment, start=self.start)

    def manage(self, *arguments):
        return self.run(MANAGE, *arguments)

    def look(self, what="all"):
        looked = self.run(HERE / "look.py", what)
        assert looked.returncode == 0, looked.stderr
        return json.loads(looked.stdout)


@pytest.fixture(scope="module")
def install(make_database, tmp_path_factory, template):
    """Returns a function that makes an installation, with or without what a version has left there."""

    def make(name, version=None):
        database = make_database(name)
        if version:
            database.load(version)
        start = template.start if template else subprocess.Popen
        return Installation(database, tmp_path_factory.mktemp(f"{name}-node"), start)

    return make


@pytest.fixture(scope="module", params=VERSIONS)
def upgraded(request, install):
    """What was there before and after `manage.py migrate`."""
    installation = install(f"upgraded_{request.param}", request.param)
    before = installation.look("rows")
    migrated = installation.manage("migrate")
    assert migrated.returncode == 0, migrated.stderr
    return SimpleNamespace(before=before, after=installation.look(), installation=installation)


@pytest.fixture(scope="module")
def fresh(install):
    """A new database of this version."""
    installation = install("fresh")
    assert installation.manage("migrate").returncode == 0
    return installation.look()


def test_every_table_of_ours_has_rows_before(upgraded):
    ours = {table: rows for table, rows in upgraded.before.items() if table.startswith("supervisor_app_")}
    assert len(ours) >= 13
    assert [table for table, rows in ours.items() if not rows] == []


def test_every_row_is_there_and_only_the_fields_that_are_new_have_been_added(upgraded):
    for table, rows in expected(upgraded.before).items():
        after = [known_fields(row, rows) for row in upgraded.after["rows"][table]]
        assert [row for row in rows if row not in after] == []
        if table.startswith("supervisor_app_"):
            assert len(after) == len(rows)


def expected(before):
    """Return the rows of before as they are to be after."""
    for row in before["django_content_type"]:
        if row["app_label"] == "supervisor_app":
            row["app_label"] = MOVED.get(row["model"], "supervisor_app")
    for row in before["supervisor_app_llamaserver"]:
        row["api_key"] = row["api_key"] or "None"  # none said: it gets one of its own now
    return before


def known_fields(row, rows):
    """Return the fields of a row that the rows of before have, too."""
    return {name: value for name, value in row.items() if name in rows[0]} if rows else row


def test_no_content_type_is_made_anew_for_a_model_of_before(upgraded):
    of_before = {row["model"] for row in upgraded.before["django_content_type"]}
    of_after = [row["model"] for row in upgraded.after["rows"]["django_content_type"]]
    assert [model for model in of_after if model in of_before and of_after.count(model) > 1] == []


def test_the_tables_of_an_upgraded_database_are_those_of_a_new_one(upgraded, fresh):
    assert upgraded.after["rows"].keys() == fresh["rows"].keys()
    assert upgraded.after["schema"] == fresh["schema"]


def test_an_upgraded_database_has_all_migrations_of_a_new_one_and_none_left_to_do(upgraded, fresh):
    assert upgraded.after["applied"] == fresh["applied"]
    assert upgraded.after["to do"] == fresh["to do"] == []
    again = upgraded.installation.manage("migrate")
    assert (again.returncode, "No migrations to apply." in again.stdout) == (0, True)


def test_staff_keep_their_rights_over_an_upgrade(upgraded):
    assert upgraded.after["rights"]["clerk"] == [
        "alerts.change_alertchannel",
        "alerts.view_alertchannel",
        "alerts.view_delivery",
        "alerts.view_incident",
        "supervisor_app.change_llamaserver",
        "supervisor_app.view_run",
        "traffic.delete_quarantinedrequest",
        "traffic.view_apikey",
        "traffic.view_quarantinedrequest",
        "traffic.view_requestrecord",
    ]


def test_every_admin_page_is_at_its_address_of_before(upgraded):
    pages = upgraded.after["pages"]
    assert {path.split("/")[3] for path in pages} >= {
        "llamaserver",
        "run",
        "apikey",
        "requestrecord",
        "quarantinedrequest",
        "alertchannel",
        "incident",
        "delivery",
    }
    assert set(pages.values()) == {200}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_supervisor_that_starts_carries_an_old_database_over(install, tmp_path, version):
    installation = install(f"supervised_{version}", version)
    before = expected(installation.look("rows"))
    supervisor = Child(
        [sys.executable, str(MANAGE), "runsupervisor", "--no-web", "--node", "spare"],
        tmp_path / "log",
        cwd=ROOT,
        env=installation.environment,
        start=installation.start,
    )
    try:
        wait_until(lambda: "[LLAMA]" in supervisor.output or not supervisor.alive)
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait() == 0, supervisor.output
    finally:
        supervisor.kill()
    assert "Bringing it up to date" in supervisor.output
    after = installation.look("rows")
    for table, rows in before.items():
        if table.startswith("supervisor_app_"):
            kept = [known_fields(row, rows) for row in after[table]]
            assert [row for row in rows if row not in kept] == []
