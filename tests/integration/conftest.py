"""The start of tests of the Django edge: no config file, a fresh channel layer; logins, alerts, children."""

from __future__ import annotations

import asyncio
import logging
import resource
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.core.management.commands import flush
from django.db import connection, transaction
from django.test import Client

from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.fleet import hub
from tests.deadline import DEADLINE
from tests.integration.alerting import World
from tests.integration.building import STARTED
from tests.integration.receiving import web_server
from tests.integration.spawning import until_async

if TYPE_CHECKING:
    from supervisor_app.core.machine.process import LocalProcess
    from supervisor_app.core.spec import LaunchSpec

MADE_WITH_TABLES = ("django_content_type", "auth_permission", "auth_group", "auth_group_permissions")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix, installed):
    """Begin with the database of a first start, which all workers copy.

    Nothing waits for the disk: nobody needs there what a test wrote, and it would cost half of the time.
    """
    options = connection.settings_dict["OPTIONS"]
    if connection.vendor == "sqlite":
        options["init_command"] += "PRAGMA synchronous=OFF;"
        shutil.copy(installed / "db.sqlite3", connection.settings_dict["TEST"]["NAME"])


@pytest.fixture(scope="session")
def django_db_keepdb():
    """Use the database that is there: it goes with the data directory of the tests."""
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Put back what Django makes with tables as it was, when a test has emptied them: that took 0.1 s of CPU each time."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        made = []
        for table in MADE_WITH_TABLES:
            cursor.execute(f"SELECT * FROM {table}")
            places = ", ".join(["%s"] * len(cursor.description))
            made.append((f"INSERT INTO {table} VALUES ({places})", cursor.fetchall()))

    def put_back(*_):
        with transaction.atomic(), connection.cursor() as cursor:
            for insert, rows in made:
                cursor.executemany(insert, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "emit_post_migrate_signal", put_back)
        yield


@pytest.fixture(autouse=True)
def config_file(settings, tmp_path, monkeypatch):
    """Return the path at which the config file would be; it is not there."""
    settings.LLAMAPROXY_CONFIG = tmp_path / ".llama-proxy-config.json"
    monkeypatch.delenv("LLAMA_SERVER_BINARY", raising=False)
    return settings.LLAMAPROXY_CONFIG


@pytest.fixture(autouse=True)
def _fresh_channel_layer():
    """The one in memory holds queues of the event loop that used it last."""
    channel_layers.backends.clear()


@pytest.fixture
def unpaced(monkeypatch):
    """A page is told of every change, as soon as a program is."""
    monkeypatch.setattr(hub, "PAGE_SECONDS", 0.0)


@pytest.fixture
def fast_resync(monkeypatch):
    """The hub looks for changes that nobody pushed twenty times a second."""
    monkeypatch.setattr(hub, "RESYNC_SECONDS", 0.05)


@pytest.fixture
def process_as_before():
    """A gateway changes what its whole process has: afterwards it is as it was."""
    limit, interval = resource.getrlimit(resource.RLIMIT_NOFILE), sys.getswitchinterval()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    sys.setswitchinterval(interval)


@pytest.fixture
def staff(db):
    return User.objects.create_superuser("boss", password="of-them-all")


@pytest.fixture
def person(db):
    """A user who may log in and is no staff."""
    return User.objects.create_user("person", password="somebody")


@pytest.fixture
def staff_client(staff):
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def person_client(person):
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def loud(caplog):
    """Let all that alerts say be told, information included."""
    caplog.set_level(logging.INFO, "supervisor_app.alerts")


@pytest.fixture
def hook():
    """A web server to which alerts are sent."""
    with web_server() as hook:
        yield hook


@pytest.fixture
def clock(monkeypatch):
    """`clock.now` is what the store believes."""

    class Clock:
        now = STARTED

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("supervisor_app.fleet.store.time.time", clock)
    return clock


@pytest.fixture
def world(clock, hook):
    """A server whose alerts arrive at `hook`."""
    return World(clock, hook)


@pytest.fixture
def processes(tmp_path):
    return LocalProcesses(log_dir=tmp_path / "logs", no_engine="Install llama.cpp.")


@pytest.fixture
async def started(processes):
    """Spawn, and clean up whatever is left."""
    alive: list[LocalProcess] = []

    async def start(spec: LaunchSpec, *, listening: bool = True) -> LocalProcess:
        process = await processes.spawn("default", spec)
        alive.append(process)
        if listening:
            await until_async(lambda: process.endpoint(spec))
        return process

    yield start
    for process in alive:
        process.kill()
        await asyncio.wait_for(process.wait(), DEADLINE)
