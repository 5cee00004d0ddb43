"""Several processes on one database: each message is sent once."""

from __future__ import annotations

import collections
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadline import DEADLINE
from tests.integration.building import environment_without

ROOT = Path(__file__).parents[3]
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
def environment(request, tmp_path):
    clean = environment_without("DJANGO_SETTINGS_MODULE")
    data = tmp_path / "data"
    data.mkdir()
    url = f"sqlite:///{data / 'db.sqlite3'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
    made = clean | {
        "DATABASE_URL": url,
        "LLAMAPROXY_DATA_DIR": str(data),
        "SECRET_KEY": "for-tests-only",
        "REDIS_URL": "",
        "LLAMAPROXY_CONFIG": str(tmp_path / "config.json"),
    }
    run(made, "manage.py", "migrate", "-v0")
    return made


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


def run(environment, *arguments):
    process = start(environment, *arguments)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors


@pytest.fixture
def worker(environment):
    """Starts one that sends, for so many seconds at most, until so many are sent."""
    started = []

    def begin(seconds, count=10**6):
        arguments = ["-m", "tests.alert_worker", "work", str(seconds), str(count)]
        started.append(start(environment, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_each_message_is_sent_once_and_in_order(environment, worker, hook):
    workers = [worker(DEADLINE, 2 * SERVERS * CHANNELS) for _ in range(WORKERS)]
    run(environment, "-m", "tests.alert_worker", "seed", hook.url, str(SERVERS), str(CHANNELS))
    for process in workers:
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
        assert "❌" not in errors
    sent = collections.defaultdict(list)
    for post in hook.posts:
        sent[post.path, post.json["server"]].append(post.json["event"])
    assert len(sent) == SERVERS * CHANNELS
    assert set(map(tuple, sent.values())) == {("crashed", "recovered")}
