"""What keeps a command from running, and how it says so: bad surroundings, a held node, unfit settings."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from supervisor_app.roles.checks import (
    check_allowed_hosts,
    check_channel_layer,
    check_platform,
    check_sqlite_transactions,
)
from supervisor_app.roles.lock import NodeLock, NodeLockedError
from tests.integration.building import let_everybody_in

ROOT = Path(__file__).parents[3]


def manage(*arguments, timeout=60, **environment):
    """manage.py as a process of its own."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in {"DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "DEBUG"}
    }
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# --- As a process: exit codes --------------------------------------------------------------------------


@pytest.fixture
def data_dir(tmp_path):
    return str(tmp_path / "data")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    return path


def test_a_bad_argument_is_exit_code_2(data_dir):
    ended = manage("runsupervisor", "--bind", "nowhere", LLAMAPROXY_DATA_DIR=data_dir)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "'nowhere' is not an address" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bad_config_file_is_one_line_and_exit_code_2_and_nothing_is_started(data_dir, config):
    config.write_text('{"llama_server_port": 70000}')
    ended = manage("runsupervisor", LLAMAPROXY_DATA_DIR=data_dir, LLAMAPROXY_CONFIG=str(config))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"CommandError: {config}: llama_server_port is 70000: 70000 is not a port. Use 1 to 65535.\n"
    )
    assert not Path(data_dir, "db.sqlite3").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"DEBUG": "maybe"}, "DEBUG='maybe' is not a yes or no. Use 1 or 0."),
        ({"DATABASE_URL": "foo://x"}, "DATABASE_URL cannot be understood"),
    ],
)
def test_a_bad_environment_is_one_line_and_exit_code_2(environment, message, data_dir):
    ended = manage("llama", "status", LLAMAPROXY_DATA_DIR=data_dir, **environment)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_database_that_was_never_made_is_one_line(data_dir):
    ended = manage("llama", "status", LLAMAPROXY_DATA_DIR=data_dir)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert ended.stderr.startswith("CommandError: The database cannot be used: no such table")


# --- The lock ------------------------------------------------------------------------------------------


def test_a_node_is_held_once_and_says_by_whom(tmp_path):
    path = tmp_path / "deep" / "node.lock"
    with NodeLock(path):
        with pytest.raises(NodeLockedError) as raised, NodeLock(path):
            pass
        assert raised.value.pid == str(os.getpid())
    with NodeLock(path):
        pass


def test_a_lock_outlives_no_holder(tmp_path):
    path = tmp_path / "node.lock"
    code = (
        "import sys, time; from pathlib import Path; from supervisor_app.roles.lock import NodeLock\n"
        "NodeLock(Path(sys.argv[1])).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(NodeLockedError) as raised, NodeLock(path):
        pass
    assert raised.value.pid == str(holder.pid)
    holder.kill()
    holder.communicate()
    with NodeLock(path):
        pass


SOMEBODY_ELSE = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")
@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock, of util-linux")
@pytest.mark.parametrize(
    "command",
    [
        "exec flock -x {path} sh -c 'echo held; sleep 60'",
        "exec 9<{path}; flock -x 9; echo held; exec sleep 60",
    ],
    ids=["itself", "through a child"],
)
def test_a_lock_that_another_user_took_is_replaced(command, tmp_path, caplog):
    """As one could who opened the file while it was readable for all."""
    path = tmp_path / "node.lock"
    path.write_text("1234\n")
    let_everybody_in(path)
    stranger = subprocess.Popen(
        ["sh", "-c", command.format(path=path)],
        user=SOMEBODY_ELSE,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "held\n"
    with NodeLock(path):
        assert "is locked by" in caplog.text
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(NodeLockedError) as raised, NodeLock(path):
            pass
        assert raised.value.pid == str(os.getpid())
    os.killpg(stranger.pid, signal.SIGKILL)
    stranger.communicate()


def test_a_server_that_outlives_its_supervisor_does_not_keep_the_lock(tmp_path):
    path = tmp_path / "node.lock"
    with NodeLock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    with NodeLock(path):
        pass
    child.kill()
    child.wait()


def test_a_holder_that_has_not_said_its_pid_yet_is_unknown(tmp_path):
    path = tmp_path / "node.lock"
    with NodeLock(path):
        path.write_text("")
        with pytest.raises(NodeLockedError) as raised, NodeLock(path):
            pass
    assert raised.value.pid == "unknown"


def test_leaving_a_lock_twice_harms_nobody(tmp_path):
    lock = NodeLock(tmp_path / "node.lock")
    with lock:
        pass
    lock.__exit__(None, None, None)


# --- Checks --------------------------------------------------------------------------------------------


def ids(messages):
    return [message.id for message in messages]


def test_the_settings_as_they_are_pass_every_check():
    call_command("check", stderr=StringIO())


def test_the_core_redis_layer_is_refused(settings):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    assert ids(check_channel_layer()) == ["llamaproxy.E001"]


@pytest.mark.parametrize(
    "layers", [{}, {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}]
)
def test_other_layers_pass(layers, settings):
    settings.CHANNEL_LAYERS = layers
    assert check_channel_layer() == []


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES:UserWarning")
@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ({"ENGINE": "django.db.backends.sqlite3"}, ["llamaproxy.E002"]),
        (
            {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "DEFERRED"}},
            ["llamaproxy.E002"],
        ),
        ({"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"transaction_mode": "IMMEDIATE"}}, []),
        ({"ENGINE": "django.db.backends.postgresql"}, []),
    ],
)
def test_sqlite_must_begin_its_transactions_as_a_writer(database, expected, settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES, "default", database)
    assert ids(check_sqlite_transactions()) == expected


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["*"], ["llamaproxy.W001"]),
        (["localhost", "*"], ["llamaproxy.W001"]),
        (["localhost"], []),
        ([".lan"], []),
    ],
)
def test_hosts_of_all_names_are_warned_of(hosts, expected, settings):
    settings.ALLOWED_HOSTS = hosts
    assert ids(check_allowed_hosts()) == expected


def test_windows_is_refused_and_no_other(monkeypatch):
    assert check_platform() == []
    monkeypatch.setattr(sys, "platform", "win32")
    assert ids(check_platform()) == ["llamaproxy.E003"]


def test_every_check_says_what_to_do(settings, monkeypatch):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    settings.ALLOWED_HOSTS = ["*"]
    monkeypatch.setattr(sys, "platform", "win32")
    for message in [*check_channel_layer(), *check_allowed_hosts(), *check_platform()]:
        assert message.hint
