"""Several processes on one database: each message is sent once."""

from __future__ import annotations

import collections
import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.children import MANAGE, Child, environment
from tests.deadline import DEADLINE

WORKER = Path(__file__).parents[2] / "alert_worker.py"
SERVERS, CHANNELS, WORKERS = 4, 3, 3


@pytest.fixture
def without_postgres():
    pytest.skip("no PostgreSQL")


NEEDS_POSTGRES = "tests.integration.roles.test_postgres"
postgres = (
    importlib.import_module(NEEDS_POSTGRES).postgres
    if importlib.util.find_spec(NEEDS_POSTGRES)
    else without_postgres
)


def begun(environment, directory, template, script, *arguments):
    """A process of Python in a directory, its output in a file there."""
    begin = template.start if template else subprocess.Popen
    number = len(list(directory.glob("*.log")))
    command = [sys.executable, str(script), *arguments]
    return Child(command, directory / f"{number}.log", cwd=directory, env=environment, start=begin)


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request, tmp_path, installed, template):
    """Environment of processes that share a database, whose tables are there."""
    data = tmp_path / "var"
    shutil.copytree(installed, data)
    known = {"LLAMAPROXY_DATA_DIR": str(data), "LLAMAPROXY_CONFIG": str(tmp_path / "config.json")}
    if request.param == "sqlite":
        return environment(**known)
    known["DATABASE_URL"] = request.getfixturevalue("postgres").url
    made = environment(**known)
    done(begun(made, tmp_path, template, MANAGE, "migrate", "--verbosity", "0"))
    return made


@pytest.fixture
def start(shared, tmp_path, template):
    """Starts processes that share a database; their output is in files."""
    started = []

    def start_it(script, *arguments):
        started.append(begun(shared, tmp_path, template, script, *arguments))
        return started[-1]

    yield start_it
    for child in started:
        child.kill()


def done(child):
    assert child.wait() == 0, child.output


def test_each_message_is_sent_once_and_in_order(start, hook):
    all_of_them = str(2 * SERVERS * CHANNELS)
    workers = [start(WORKER, "work", str(DEADLINE), all_of_them) for _ in range(WORKERS)]
    done(start(WORKER, "seed", hook.url, str(SERVERS), str(CHANNELS)))
    for worker in workers:
        done(worker)
        assert "❌" not in worker.output
    sent = collections.defaultdict(list)
    for post in hook.posts:
        sent[post.path, post.json["server"]].append(post.json["event"])
    assert len(sent) == SERVERS * CHANNELS
    assert set(map(tuple, sent.values())) == {("crashed", "recovered")}
