"""The command line: what it says, how it exits, what it leaves behind."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from supervisor_app.checks import (
    check_allowed_hosts,
    check_channel_layer,
    check_platform,
    check_sqlite_transactions,
)
from supervisor_app.commands import Command as Wish
from supervisor_app.commands import ask, nudge, server_named
from supervisor_app.conf import ConfigError
from supervisor_app.lease import Lease, NodeLease
from supervisor_app.lock import NodeLock, NodeLockedError
from supervisor_app.management.commands import runsupervisor
from supervisor_app.models import LlamaServer, ServerState
from tests.integration.building import (
    OUT_OF_MEMORY,
    free_port,
    long_ago,
    make_ready_server,
    make_server,
    make_state,
)

ROOT = Path(__file__).parents[2]


def llama(*arguments):
    """What `manage.py llama …` says on stdout and stderr."""
    out, err = StringIO(), StringIO()
    call_command("llama", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


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


# --- manage.py llama -----------------------------------------------------------------------------------


@pytest.mark.django_db
class TestLlama:
    def test_status_is_a_line_for_each_server(self):
        make_ready_server("one", started_at=long_ago())
        make_server("two", node="gpu-7")
        said, complained = llama("status")
        assert said.splitlines() == [
            "one: ready, up 1 h 00 m. Serving 1 model.",
            "two: initial. No supervisor has looked at it yet. Run manage.py runsupervisor on node gpu-7.",
        ]
        assert complained == ""

    def test_status_of_one_server(self):
        make_ready_server("one")
        make_ready_server("two")
        assert llama("status", "two")[0].startswith("two: ready")
        assert "one" not in llama("status", "two")[0]

    def test_status_of_a_failure_says_what_to_do(self):
        make_state(make_server(), "error", detail="Out of memory.", failure=OUT_OF_MEMORY.as_json())
        assert llama("status")[0].splitlines() == [
            "default: error. Out of memory.",
            "  Try a smaller context (-c) or model.",
        ]

    def test_status_of_a_server_that_recovered_does_not_repeat_the_hint(self):
        make_ready_server(failure=OUT_OF_MEMORY.as_json())
        assert "smaller context" not in llama("status")[0]

    def test_a_silent_supervisor_is_told_on_stderr(self):
        make_ready_server(seen_at=long_ago())
        assert llama("status")[1].strip() == (
            "default: no supervisor has reported for 1 h 00 m. Run manage.py runsupervisor."
        )

    @pytest.mark.parametrize(
        ("word", "running", "restart_generation"),
        [("start", True, 0), ("stop", False, 0), ("restart", True, 2)],
    )
    def test_a_wish_is_noted_and_told(self, word, running, restart_generation):
        make_server()
        assert llama(word)[0] == f"default: asked to {word}\n"
        server = LlamaServer.objects.get()
        assert (server.generation, server.desired_running) == (2, running)
        assert server.restart_generation == restart_generation

    def test_a_wish_without_a_name_is_for_all(self):
        make_server("one")
        make_server("two")
        assert llama("stop")[0].splitlines() == ["one: asked to stop", "two: asked to stop"]
        assert not LlamaServer.objects.filter(desired_running=True).exists()

    def test_a_wish_with_a_name_is_for_that_one(self):
        make_server("one")
        make_server("two")
        llama("stop", "two")
        assert LlamaServer.objects.get(desired_running=False).name == "two"

    def test_json_is_what_the_api_says(self, client):
        make_ready_server("one", started_at=long_ago())
        make_server("two")
        said = json.loads(llama("status", "--json")[0])
        assert said == client.get("/api/servers/").json()["servers"]
        assert json.loads(llama("stop", "one", "--json")[0])[0]["name"] == "one"

    def test_an_unknown_server_is_answered_with_those_that_exist(self):
        make_server("one")
        make_server("two")
        with pytest.raises(CommandError, match=r"There is no server 'three'. Servers: one, two.") as raised:
            llama("start", "three")
        assert raised.value.returncode == 2

    def test_without_any_server_it_says_what_to_run(self):
        with pytest.raises(CommandError, match=r"Run manage.py runsupervisor") as raised:
            llama("status")
        assert raised.value.returncode == 2
        with pytest.raises(CommandError, match=r"There is no server 'x'. Servers: none yet."):
            llama("status", "x")

    def test_an_unknown_word_is_answered_with_those_that_exist(self):
        with pytest.raises(CommandError, match=r"start.*stop.*restart.*status"):
            llama("explode")

    def test_a_database_that_fails_is_one_line(self):
        def fail(*args):
            raise DatabaseError("could not connect to server")

        with (
            connection.execute_wrapper(fail),
            pytest.raises(CommandError, match=r"^The database cannot be used: could not connect to server$"),
        ):
            llama("status")


# --- The same for pages, API, admin and CLI ------------------------------------------------------------


@pytest.mark.django_db
def test_a_wish_reaches_each_node_with_one_of_the_servers(monkeypatch):
    nudged = []
    monkeypatch.setattr("supervisor_app.commands.nudge", nudged.append)
    make_server("one", node="a")
    make_server("two", node="a", port=1)
    make_server("three", node="b")
    assert ask(Wish.STOP, LlamaServer.objects.all()) == 3
    assert sorted(nudged) == ["a", "b"]


@pytest.mark.django_db
def test_a_wish_for_nobody_nudges_nobody(monkeypatch):
    monkeypatch.setattr("supervisor_app.commands.nudge", pytest.fail)
    assert ask(Wish.STOP, server_named("nobody")) == 0


@pytest.mark.parametrize("node", ["local", "no such name allowed", "x" * 200])
def test_a_nudge_never_raises(node):
    nudge(node)


async def test_a_nudge_out_of_a_running_event_loop_is_lost_and_never_raises():
    nudge("local")


@pytest.fixture(autouse=True)
def signals_as_before():
    """A supervisor that has ended ignores them, and what a process ignores its children ignore."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- manage.py runsupervisor: what it takes ------------------------------------------------------------


@pytest.mark.parametrize("text", ["local", "gpu-7", "a.b_c", "x" * 63])
def test_a_node_name_is_taken(text):
    assert runsupervisor.node_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a/b",  # part of a file's name
        "x" * 64,  # part of a channel's name, which is less than 100 characters
        "knöten",  # so is this, which is ASCII
        "a\n",
    ],
)
def test_a_node_name_is_refused_by_name(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a node name"):
        runsupervisor.node_name(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bind", "nowhere"], "argument --bind: 'nowhere' is not an address"),
        (["--node", "a/b"], "argument --node: 'a/b' is not a node name"),
        (["--node"], "argument --node: expected one argument"),
        (["--explode"], "unrecognized arguments: --explode"),
        (["default"], "unrecognized arguments: default"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    parser = runsupervisor.Command().create_parser("manage.py", "runsupervisor")
    with pytest.raises(CommandError, match=message):
        parser.parse_args(arguments)


def test_a_bad_node_of_the_environment_is_named_too(settings):
    settings.LLAMAPROXY_NODE = "a/b"
    parser = runsupervisor.Command().create_parser("manage.py", "runsupervisor")
    with pytest.raises(CommandError, match="'a/b' is not a node name"):
        parser.parse_args([])


# --- manage.py runsupervisor: what it prepares ---------------------------------------------------------


def prepare(node="local"):
    return runsupervisor.Command()._prepare(node, demo=False)


@pytest.mark.django_db
class TestPreparing:
    def test_the_first_start_makes_the_server_default(self):
        prepare("gpu-7")
        server = LlamaServer.objects.get()
        assert (server.name, server.node, server.port) == ("default", "gpu-7", 8134)

    def test_the_next_start_makes_no_other(self):
        prepare()
        prepare()
        assert LlamaServer.objects.count() == 1

    def test_a_node_that_has_servers_needs_no_default(self):
        make_server("mine")
        prepare()
        assert LlamaServer.objects.get().name == "mine"

    def test_a_config_file_needs_its_server(self, config_file):
        config_file.write_text('{"llama_server_port": 9000}')
        make_server("mine")
        overlay = prepare()()
        assert LlamaServer.objects.get(name="default").port == 9000
        assert overlay.values == {"port": 9000}

    def test_a_default_that_is_there_keeps_its_row_whatever_the_config_file_says(self, config_file):
        config_file.write_text('{"llama_server_port": 9000}')
        make_server("default", port=1)
        prepare()
        assert LlamaServer.objects.get().port == 1

    def test_a_default_that_lives_on_another_node_stays_there(self, config_file):
        config_file.write_text('{"max_retries": 1}')
        make_server("default", node="elsewhere", port=1)
        make_server("mine", port=8134)
        prepare()
        assert LlamaServer.objects.get(name="default").node == "elsewhere"

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_port_for_two_is_refused_with_both_names(self, exists, config_file):
        config_file.write_text('{"llama_server_port": 9000}')
        make_server("mine", port=9000)
        if exists:
            make_server("default", port=1)
        with pytest.raises(ConfigError, match=f"'default' and 'mine' would share port 9000.*{config_file}"):
            prepare()

    def test_a_database_that_fails_is_one_line(self):
        def fail(*args):
            raise DatabaseError("disk I/O error")

        with (
            connection.execute_wrapper(fail),
            pytest.raises(CommandError, match=r"^The database cannot be used: disk I/O error$") as raised,
        ):
            prepare()
        assert raised.value.returncode == 3

    def test_the_first_login_is_told_with_its_link(self, caplog):
        caplog.set_level(logging.INFO, "supervisor_app.runsupervisor")
        runsupervisor.say_where("http://127.0.0.1:8000", "token")
        assert caplog.messages == [
            "🌐 [WEB] http://127.0.0.1:8000 (Ctrl+C ends it)",
            "🔑 [WEB] First login, works once: http://127.0.0.1:8000/login/token/",
        ]
        caplog.clear()
        runsupervisor.say_where("http://127.0.0.1:8000", None)
        assert caplog.messages == ["🌐 [WEB] http://127.0.0.1:8000 (Ctrl+C ends it)"]


# --- manage.py runsupervisor: how it ends --------------------------------------------------------------


class Endless:
    """In the place of a Runtime: runs until cancelled, then takes its time."""

    def __init__(self):
        self.supervisor = self
        self.goodbye = asyncio.Event()
        self.forced = False

    async def run(self):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await self.goodbye.wait()

    def force(self):
        self.forced = True
        self.goodbye.set()


class Failing:
    async def run(self):
        raise RuntimeError("a bug")


def test_a_signal_ends_it_and_a_second_one_forces(caplog):
    caplog.set_level(logging.INFO, "supervisor_app.runsupervisor")
    runtime: Any = None

    def make_runtime() -> Any:
        nonlocal runtime
        runtime = Endless()  # inside the event loop, as a Runtime must be
        return runtime

    runsupervisor.supervise(make_runtime)
    assert runtime.forced
    assert caplog.messages == [
        "👋 Stopping; press Ctrl+C again to force",
        "⚠️ Asked again: ending at once",
    ]


def test_a_supervisor_that_fails_is_exit_code_3(caplog):
    with pytest.raises(CommandError, match="The supervisor failed") as raised:
        runsupervisor.supervise(Failing)
    assert raised.value.returncode == 3
    assert "a bug" in caplog.text


@pytest.fixture
def node_of_test(settings, tmp_path, monkeypatch):
    """Everything that runsupervisor touches is in the test's directory, and there is no engine."""
    settings.DATA_DIR = tmp_path / "data"
    settings.LLAMAPROXY_NODE = "local"
    monkeypatch.setenv("LLAMA_SERVER_BINARY", str(tmp_path / "missing"))
    return settings


def end_soon():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()


@pytest.mark.django_db(transaction=True)
def test_without_pages_it_supervises_until_it_is_told_to_end(node_of_test):
    end_soon()
    call_command("runsupervisor", "--no-web", "--node", "gpu-7")
    state = ServerState.objects.get(server__name="default")
    assert (state.server.node, state.status) == ("gpu-7", "initial")


@pytest.mark.django_db(transaction=True)
def test_with_pages_it_serves_on_the_address_it_was_given(node_of_test, monkeypatch):
    served = []
    monkeypatch.setattr(runsupervisor, "serve", lambda bind, make_runtime: served.append(bind))
    call_command("runsupervisor", "--bind", "[::1]:9000", "--no-gateway")
    assert served == [("::1", 9000)]


@pytest.fixture
def runtimes(node_of_test, monkeypatch):
    """What each Runtime was made with, in place of it."""
    made: list[Any] = []
    node_of_test.LLAMAPROXY_GATEWAY_URL = ""
    monkeypatch.setattr(runsupervisor, "Runtime", lambda **fields: made.append(SimpleNamespace(**fields)))
    monkeypatch.setattr(runsupervisor, "serve", lambda bind, make_runtime: make_runtime())
    monkeypatch.setattr(runsupervisor, "supervise", lambda make_runtime: make_runtime())
    yield made
    for runtime in made:
        if runtime.gateway is not None:
            runtime.gateway.abandon()


@pytest.mark.django_db(transaction=True)
def test_the_gateway_is_part_of_it_and_pages_say_where_it_is(runtimes, settings):
    port = free_port()
    call_command("runsupervisor", "--gateway", f"127.0.0.1:{port}")
    assert runtimes[0].gateway is not None
    assert f"http://127.0.0.1:{port}" == settings.LLAMAPROXY_GATEWAY_URL


@pytest.mark.django_db(transaction=True)
def test_where_programs_find_the_gateway_is_what_people_said(runtimes, settings):
    settings.LLAMAPROXY_GATEWAY_URL = "https://llama.example.org"
    call_command("runsupervisor", "--gateway", f"127.0.0.1:{free_port()}")
    assert settings.LLAMAPROXY_GATEWAY_URL == "https://llama.example.org"


@pytest.mark.parametrize("option", ["--no-gateway", "--no-web"])
@pytest.mark.django_db(transaction=True)
def test_unless_it_is_not_wanted(runtimes, settings, option):
    call_command("runsupervisor", option)
    assert runtimes[0].gateway is None
    assert settings.LLAMAPROXY_GATEWAY_URL == ""


@pytest.mark.django_db(transaction=True)
def test_a_gateway_whose_address_is_in_use_is_exit_code_2_before_anything_is_started(runtimes):
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(CommandError, match=f"The gateway cannot listen on {where}") as raised:
            call_command("runsupervisor", "--gateway", where)
    assert raised.value.returncode == 2
    assert not runtimes
    assert not NodeLease.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_gateway_for_the_network_needs_a_key(runtimes):
    with pytest.raises(CommandError, match="there is no API key yet") as raised:
        call_command("runsupervisor", "--gateway", f"0.0.0.0:{free_port()}")
    assert raised.value.returncode == 2
    assert not runtimes


@pytest.mark.django_db
def test_another_supervisor_of_the_node_is_exit_code_4_with_its_pid(node_of_test):
    with (
        NodeLock(node_of_test.DATA_DIR / "node-local.lock"),
        pytest.raises(
            CommandError, match=f"Another supervisor holds node 'local': pid {os.getpid()}."
        ) as raised,
    ):
        call_command("runsupervisor", "--no-web")
    assert raised.value.returncode == 4


@pytest.mark.django_db
def test_a_supervisor_of_the_node_with_other_data_is_exit_code_4_and_told_what_to_do(node_of_test):
    Lease("local").take()
    with pytest.raises(CommandError) as raised:
        call_command("runsupervisor", "--no-web")
    assert raised.value.returncode == 4
    assert str(raised.value) == (
        f"Another supervisor holds node 'local': pid {os.getpid()} on {socket.gethostname()}. "
        "Stop it, or give this one a node of its own: --node NAME, or LLAMAPROXY_NODE."
    )


@pytest.mark.django_db(transaction=True)
def test_a_node_is_given_back_in_the_end(node_of_test):
    end_soon()
    call_command("runsupervisor", "--no-web")
    assert not NodeLease.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_node_is_given_back_when_the_address_is_taken(node_of_test, monkeypatch):
    def taken(bind, make_runtime):
        assert NodeLease.objects.exists()
        raise CommandError("in use", returncode=2)

    monkeypatch.setattr(runsupervisor, "serve", taken)
    with pytest.raises(CommandError, match="in use"):
        call_command("runsupervisor", "--no-gateway")
    assert not NodeLease.objects.exists()


@pytest.mark.django_db
def test_a_database_that_fails_when_the_node_is_taken_is_exit_code_3():
    def fail(*args):
        raise DatabaseError("disk I/O error")

    with (
        connection.execute_wrapper(fail),
        pytest.raises(CommandError, match=r"^The database cannot be used: disk I/O error$") as raised,
        runsupervisor.held(Lease("local")),
    ):
        pytest.fail("it is not held")
    assert raised.value.returncode == 3


@pytest.mark.django_db
def test_a_mistake_in_the_config_file_is_exit_code_2(node_of_test, config_file):
    config_file.write_text("{")
    with pytest.raises(CommandError, match=f"{config_file} is not JSON") as raised:
        call_command("runsupervisor", "--no-web")
    assert raised.value.returncode == 2
    assert not LlamaServer.objects.exists()


@pytest.mark.django_db
def test_a_data_directory_that_cannot_be_made_is_exit_code_2(node_of_test, tmp_path):
    (tmp_path / "file").write_text("")
    node_of_test.DATA_DIR = tmp_path / "file"
    with pytest.raises(CommandError, match=f"{tmp_path / 'file'}: File exists") as raised:
        call_command("runsupervisor", "--no-web")
    assert raised.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_behind_is_brought_up_to_date(caplog):
    caplog.set_level(logging.INFO, "supervisor_app.runsupervisor")
    call_command("migrate", "supervisor_app", "zero", verbosity=0)
    try:
        prepare()
    finally:
        call_command("migrate", verbosity=0)
    assert caplog.messages == ["🗄️ [DATABASE] Bringing it up to date"]
    assert LlamaServer.objects.get().name == "default"


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
        "import sys, time; from pathlib import Path; from supervisor_app.lock import NodeLock\n"
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


# --- A nudge and its ear -------------------------------------------------------------------------------


def test_a_nudge_takes_no_time_without_a_listener():
    began = time.monotonic()
    for _ in range(200):  # more than a channel holds
        nudge("local")
    assert time.monotonic() - began < 5
