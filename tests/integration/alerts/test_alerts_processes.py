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


@pytest.fixture(params=["sqlite", "postgres"])
def start(request, tmp_path, installed, template):
    """Starts processes that share a database; their output is in files."""
    begin = template.start if template else subprocess.Popen
    data = tmp_path / "var"
    shutil.copytree(installed, data)
    known = {"LLAMAPROXY_DATA_DIR": str(data), "LLAMAPROXY_CONFIG": str(tmp_path / "config.json")}
    if request.param == "postgres":
        known["DATABASE_URL"] = request.getfixturevalue("postgres").url
    started = []

    def start_it(script, *arguments):
        command = [sys.executable, str(script), *arguments]
        log = tmp_path / f"{len(started)}.log"
        started.append(Child(command, log, cwd=tmp_path, env=environment(**known), start=begin))
        return started[-1]

    if request.param == "postgres":
        done(start_it(MANAGE, "migrate", "--verbosity", "0"))
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
