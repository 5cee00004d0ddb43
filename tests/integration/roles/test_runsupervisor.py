"""`manage.py runsupervisor`: what it takes, what it prepares, how it ends and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from supervisor_app.fleet.conf import ConfigError
from supervisor_app.fleet.lease import Lease, NodeLease
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.roles.lock import NodeLock
from supervisor_app.roles.management.commands import runsupervisor
from tests.integration.building import make_server
from tests.ports import free_port


@pytest.fixture(autouse=True)
def signals_as_before():
    """A supervisor that has ended ignores them, and what a process ignores its children ignore."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- What it takes -------------------------------------------------------------------------------------


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


# --- What it prepares ----------------------------------------------------------------------------------


def prepare(node="local"):
    return runsupervisor.Command().prepare_node(node, demo=False)


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
        caplog.set_level(logging.INFO, "supervisor_app")
        runsupervisor.say_where("http://127.0.0.1:8000", "token")
        assert caplog.messages == [
            "🌐 [WEB] http://127.0.0.1:8000 (Ctrl+C ends it)",
            "🔑 [WEB] First login, works once: http://127.0.0.1:8000/login/token/",
        ]
        caplog.clear()
        runsupervisor.say_where("http://127.0.0.1:8000", None)
        assert caplog.messages == ["🌐 [WEB] http://127.0.0.1:8000 (Ctrl+C ends it)"]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LLAMA_ARG_CTX_SIZE": "1", "LLAMA_API_KEY": "hush"}, "LLAMA_API_KEY, LLAMA_ARG_CTX_SIZE"),
        ({"LLAMA_SERVER_BINARY": "x", "PATH": "y"}, ""),
    ],
)
def test_variables_that_are_not_passed_on_are_named_once_without_their_values(environ, named, caplog):
    runsupervisor.say_what_stays_here(environ)
    assert len(caplog.messages) == bool(named)
    assert named in caplog.text
    assert "hush" not in caplog.text


# --- How it ends ---------------------------------------------------------------------------------------


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


def test_a_signal_ends_a_supervisor_and_a_second_one_forces(caplog):
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
def test_a_supervisor_without_pages_supervises_until_a_signal_ends_it(node_of_test):
    end_soon()
    call_command("runsupervisor", "--no-web", "--node", "gpu-7")
    state = ServerState.objects.get(server__name="default")
    assert (state.server.node, state.status) == ("gpu-7", "initial")


@pytest.mark.django_db(transaction=True)
def test_a_supervisor_with_pages_serves_on_the_given_address(node_of_test, monkeypatch):
    served = []
    monkeypatch.setattr(runsupervisor, "serve", lambda bind, make_runtime: served.append(bind))
    call_command("runsupervisor", "--bind", "[::1]:9000", "--no-gateway")
    assert served == [("::1", 9000)]


@pytest.fixture
def runtimes(node_of_test, monkeypatch):
    """What each Runtime was made with, in place of it."""
    made: list[Any] = []
    monkeypatch.setattr(runsupervisor, "Runtime", lambda **fields: made.append(SimpleNamespace(**fields)))
    monkeypatch.setattr(runsupervisor, "serve", lambda bind, make_runtime: make_runtime())
    monkeypatch.setattr(runsupervisor, "supervise", lambda make_runtime: make_runtime())
    yield made
    for runtime in made:
        if runtime.gateway is not None:
            runtime.gateway.abandon()


@pytest.mark.django_db(transaction=True)
def test_the_gateway_is_part_of_a_supervisor(runtimes):
    call_command("runsupervisor", "--gateway", f"127.0.0.1:{free_port()}")
    assert runtimes[0].gateway is not None


@pytest.mark.parametrize("option", ["--no-gateway", "--no-web"])
@pytest.mark.django_db(transaction=True)
def test_a_supervisor_has_no_gateway_when_that_is_not_wanted(runtimes, option):
    call_command("runsupervisor", option)
    assert runtimes[0].gateway is None


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
