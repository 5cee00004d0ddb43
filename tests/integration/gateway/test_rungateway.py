"""`manage.py rungateway`: its options, its address, and the reasons for which it does not start."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import closing
from types import SimpleNamespace

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection

from supervisor_app.fleet.conf import Overlay
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.edge import role, survey
from supervisor_app.gateway.edge.service import listening_socket
from supervisor_app.gateway.workers.board import Board
from supervisor_app.roles.management.commands import rungateway
from tests.integration.building import make_key
from tests.ports import free_port

in_database = pytest.mark.django_db(transaction=True)
HERE = ("127.0.0.1", 8001)
EVERYWHERE = ("0.0.0.0", 8001)


# --- What it takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bind", "nowhere"], "argument --bind: 'nowhere' is not an address"),
        (["--workers", "0"], "argument --workers: '0' is not a number of workers. Use 1 to 256."),
        (["--workers", "257"], "'257' is not a number of workers"),
        (["--workers", "٣"], "is not a number of workers"),
        (["--workers", "-1"], "is not a number of workers"),
        (["--workers", "two"], "'two' is not a number of workers"),
        *(
            (["--grace", text], f"argument --grace: '{text}' is no time. Use seconds, 0 or more.")
            for text in ("long", "-1", "nan", "")
        ),
        (["--explode"], "unrecognized arguments: --explode"),
    ],
)
def test_a_bad_argument_is_named(arguments, message):
    parser = rungateway.Command().create_parser("manage.py", "rungateway")
    with pytest.raises(CommandError, match=message):
        parser.parse_args(arguments)


def test_the_gateway_listens_for_this_machine_in_one_process_by_default():
    parsed = rungateway.Command().create_parser("manage.py", "rungateway").parse_args([])
    assert (parsed.bind, parsed.workers, parsed.worker_of, parsed.insecure_open) == (HERE, 1, None, False)
    assert parsed.grace == 30


@pytest.mark.parametrize(
    ("bind", "insecure_open", "words"),
    [
        (("127.0.0.1", 8001), False, ["--bind", "127.0.0.1:8001"]),
        (("::1", 80), True, ["--bind", "[::1]:80", "--insecure-open"]),
    ],
)
def test_a_worker_is_told_all_that_its_parent_was_told(bind, insecure_open, words):
    command = rungateway.worker_command(bind, insecure_open, 2.5)
    assert command[0] == sys.executable
    assert set(words) < set(command)
    parsed = rungateway.Command().create_parser("manage.py", "rungateway").parse_args(command[3:])
    assert (parsed.bind, parsed.grace, parsed.insecure_open) == (bind, 2.5, insecure_open)
    assert (parsed.workers, parsed.worker_of) == (1, os.getpid())


# --- Its address ---------------------------------------------------------------------------------------


def prepare(where, insecure_open=False):
    return role.prepare(where, Overlay, insecure_open=insecure_open, grace=1)


@pytest.mark.django_db
def test_a_gateway_without_a_key_does_not_listen_to_the_network():
    with pytest.raises(CommandError) as raised:
        prepare(EVERYWHERE)
    assert raised.value.returncode == 2
    assert str(raised.value) == (
        "0.0.0.0:8001 can be reached from the network, and there is no API key yet: everybody could use your "
        "models. Make a key in the admin, listen on 127.0.0.1, or say --insecure-open."
    )


@pytest.mark.django_db
@pytest.mark.parametrize("key", [True, False], ids=["key", "insecure-open"])
def test_a_gateway_with_a_key_or_insecure_open_listens_to_the_network(key):
    if key:
        make_key()
    service = prepare(("0.0.0.0", free_port()), insecure_open=not key)
    service.abandon()


@in_database
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shares", [False, True], ids=["alone", "shares"])
def test_an_address_in_use_is_exit_code_2(workers, shares):
    """Also one that another gateway's workers would share."""
    with closing(listening_socket("127.0.0.1", 0, shared=shares)) as other:
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandError) as raised:
            call_command("rungateway", "--bind", f"127.0.0.1:{port}", "--workers", str(workers))
    assert raised.value.returncode == 2
    assert str(raised.value) == (
        f"The gateway cannot listen on 127.0.0.1:{port}: Address already in use "
        f"(pid {os.getpid()}, {psutil.Process().name()}). Use another --bind."
    )


@pytest.mark.parametrize(
    ("where", "is_open", "messages"),
    [
        (HERE, False, ["🔀 [GATEWAY] http://127.0.0.1:8001/v1"]),
        (
            HERE,
            True,
            [
                "🔀 [GATEWAY] http://127.0.0.1:8001/v1",
                "🔓 [GATEWAY] No API key exists: open to the programs of this machine",
            ],
        ),
        (
            EVERYWHERE,
            True,
            [
                "🔀 [GATEWAY] http://localhost:8001/v1",
                "⚠️ [GATEWAY] No API key exists: everybody who reaches it can use your models",
            ],
        ),
    ],
    ids=["key", "local", "open"],
)
def test_the_gateway_says_where_it_listens_and_for_whom(where, is_open, messages, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.gateway")
    door = Door(["localhost"], needs_key=where is EVERYWHERE, insecure_open=where is EVERYWHERE)
    role.say_where(where, SimpleNamespace(is_open=is_open, who_may=door.who_may))
    assert caplog.messages == messages


# --- The database --------------------------------------------------------------------------------------


def fail(*args):
    raise DatabaseError("disk I/O error")


@pytest.mark.parametrize("begin", [lambda: call_command("rungateway"), lambda: prepare(HERE)])
@pytest.mark.django_db
def test_a_database_that_fails_is_exit_code_3(begin):
    with (
        connection.execute_wrapper(fail),
        pytest.raises(CommandError, match=r"^The database cannot be used: disk I/O error$") as raised,
    ):
        begin()
    assert raised.value.returncode == 3


@pytest.fixture
def ends_at_last(process_as_before):
    """A gateway in the process of the test, also one that should not have started."""
    timer = threading.Timer(30, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    yield
    timer.cancel()


@in_database
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OperationalError("gone"), 3, r"^The database failed: gone\.$"),
        (RuntimeError("a bug"), 3, r"^The gateway failed\.$"),
        (OSError(98, "Address already in use"), 2, r"^The gateway cannot listen on 127\.0\.0\.1:\d+: Addr"),
    ],
    ids=["database", "bug", "address"],
)
def test_a_reason_that_keeps_the_gateway_from_starting_is_told(
    ends_at_last, error, code, message, monkeypatch, caplog
):
    def load(*known):
        raise error

    monkeypatch.setattr(survey, "load_facts", load)
    with pytest.raises(CommandError, match=message) as raised:
        call_command("rungateway", "--bind", f"127.0.0.1:{free_port()}")
    assert raised.value.returncode == code
    assert ("a bug" in caplog.text) is isinstance(error, RuntimeError)


@in_database
def test_the_exit_code_of_a_worker_that_cannot_start_is_the_gateways(ends_at_last, monkeypatch):
    fails = [sys.executable, "-ISc", "import sys; sys.exit(2)"]
    monkeypatch.setattr(rungateway, "worker_command", lambda *arguments: fails)
    with pytest.raises(CommandError, match="A worker failed") as raised:
        call_command("rungateway", "--workers", "2", "--bind", f"127.0.0.1:{free_port()}")
    assert raised.value.returncode == 2


@in_database
def test_workers_without_a_temporary_directory_are_told_what_to_do(monkeypatch):
    def fail(**options):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(rungateway, "TemporaryDirectory", fail)
    with pytest.raises(CommandError, match=r"need a temporary directory: No usable .* Set TMPDIR") as raised:
        call_command("rungateway", "--workers", "2", "--bind", f"127.0.0.1:{free_port()}")
    assert raised.value.returncode == 3


@in_database
def test_on_a_full_disk_there_are_workers_all_the_same(ends_at_last, monkeypatch):
    def fail(path, columns):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Board, "create", fail)
    ends = [sys.executable, "-ISc", "import sys; sys.exit(4)"]
    monkeypatch.setattr(rungateway, "worker_command", lambda *arguments: ends)
    with pytest.raises(CommandError) as raised:
        call_command("rungateway", "--workers", "2", "--bind", f"127.0.0.1:{free_port()}")
    assert raised.value.returncode == 4


@in_database
def test_a_worker_whose_parent_has_gone_ends_too_and_clears_up(ends_at_last, tmp_path, caplog):
    counts = tmp_path / "counts" / "1.json"
    counts.parent.mkdir()
    nobodys_parent = ["--worker-of", str(os.getpid()), "--counts", str(counts)]
    call_command("rungateway", *nobodys_parent, "--bind", f"127.0.0.1:{free_port()}")
    assert not counts.parent.exists()
    assert "⚠️ [GATEWAY] The process that looked after this worker has gone: ending, too" in caplog.messages
