"""What every test of the Django edge starts from: no config file, an empty channel layer, two logins."""

from __future__ import annotations

import resource
import sys

import pytest
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client


@pytest.fixture(scope="session")
def django_db_modify_db_settings():
    """Nobody needs on disk what a test wrote: half of the time would be spent waiting for it."""
    options = connection.settings_dict["OPTIONS"]
    if connection.vendor == "sqlite":
        options["init_command"] += "PRAGMA synchronous=OFF;"


@pytest.fixture(autouse=True)
def config_file(settings, tmp_path, monkeypatch):
    """Where the config file would be; it is not there."""
    settings.LLAMAPROXY_CONFIG = tmp_path / ".llama-proxy-config.json"
    monkeypatch.delenv("LLAMA_SERVER_BINARY", raising=False)
    return settings.LLAMAPROXY_CONFIG


@pytest.fixture(autouse=True)
def _fresh_channel_layer():
    """The one in memory holds queues of the event loop that used it last."""
    channel_layers.backends.clear()


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
    """May log in, is no staff."""
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
