"""`manage.py rungateway`: what it takes, what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection

from supervisor_app.fleet.conf import Overlay
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.edge import role, survey
from supervisor_app.gateway.edge.service import listening_socket
from supervisor_app.gateway.workers.board import Board
from supervisor_app.roles.management.commands import rungateway
from tests.acceptance.children import FAKE, MANAGE, Child, environment, listens, wait_for
from tests.deadline import DEADLINE
from tests.integration.building import make_key, make_ready_server
from tests.ports import free_port
from tests.unit.gateway.test_metrics import samples

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
def test_without_a_key_it_does_not_listen_to_the_network():
    with pytest.raises(CommandError) as raised:
        prepare(EVERYWHERE)
    assert raised.value.returncode == 2
    assert str(raised.value) == (
        "0.0.0.0:8001 can be reached from the network, and there is no API key yet: everybody could use your "
        "models. Make a key in the admin, listen on 127.0.0.1, or say --insecure-open."
    )


@pytest.mark.django_db
@pytest.mark.parametrize("key", [True, False], ids=["key", "insecure-open"])
def test_with_a_key_or_when_told_so_it_does(key):
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
    def load(overlay):
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
def test_without_a_temporary_directory_it_says_what_to_do(monkeypatch):
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


# --- As a process --------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path):
    """Copies the database of the test, as it is now, to the data directory of a process."""

    def copy():
        data = tmp_path / "var"
        data.mkdir()
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as database:
            database.execute("VACUUM INTO ?", [str(data / "db.sqlite3")])

    return copy


@pytest.fixture
def start(tmp_path):
    """Starts processes with their data in `var`; in the end there is none, and none has shown a traceback."""
    children = []

    def start_it(*command):
        log = tmp_path / f"{len(children)}.log"
        env = environment(LLAMAPROXY_DATA_DIR=str(tmp_path / "var"), TMPDIR=str(tmp_path))
        children.append(Child([sys.executable, *command], log, cwd=tmp_path, env=env))
        return children[-1]

    yield start_it
    for child in children:
        for process in [*family(child), child.process]:
            process.kill()
        child.kill()
        assert "Traceback" not in child.output


def family(child):
    """Its children, while it lives."""
    return psutil.Process(child.pid).children(recursive=True) if child.alive else []


@pytest.fixture
def gateway(start, copied):
    """One that listens on `.port`."""

    def start_gateway(*options):
        copied()
        port = free_port()
        child = start(str(MANAGE), "rungateway", "--bind", f"127.0.0.1:{port}", *options)
        child.port = port
        wait_for("it listens", lambda: listens(port) or not child.alive, lambda: child.output)
        return child

    return start_gateway


def health(port):
    return requests.get(f"http://127.0.0.1:{port}/health", timeout=DEADLINE).json()


@in_database
def test_the_gateway_serves_until_ctrl_c_and_exits_0(gateway):
    make_ready_server()
    child = gateway()
    assert health(child.port) == {"status": "ok", "servers": 1, "ready": 1}
    child.signal(signal.SIGINT)
    assert child.wait() == 0
    assert f"🔀 [GATEWAY] http://127.0.0.1:{child.port}/v1" in child.output


def test_without_a_database_it_says_what_to_do(start):
    child = start(str(MANAGE), "rungateway")
    assert child.wait() == 3
    assert "The database is not up to date. Start a supervisor, or run manage.py migrate." in child.output


@contextmanager
def generating(port, tokens):
    """The lines that are left of an answer which has begun."""
    body = {"model": "default", "messages": [], "max_tokens": tokens, "stream": True}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with requests.post(url, json=body, stream=True, timeout=DEADLINE) as answer:
        lines = answer.iter_lines()
        until(b"word0", lines)
        yield lines


def until(word, lines):
    """The first line with this word."""
    return next(line for line in lines if word in line)


def until_it_breaks(lines):
    """What came until the stream ended in good order, but without the end of an answer."""
    seen = b"\n".join(lines)
    assert b"[DONE]" not in seen
    return seen


@pytest.fixture
def slow_server(start):
    """A llama-server that takes a while for its answers; the database knows it."""
    port = free_port()
    child = start("-IS", str(FAKE), "--port", str(port), "--fake-token-seconds", "0.05")
    wait_for("the server listens", lambda: listens(port), lambda: child.output)
    return make_ready_server(url=f"http://127.0.0.1:{port}", pid=child.pid)


@pytest.fixture
def workers(gateway):
    """The first process of two workers that both serve, as `.serving` tells again."""
    child = gateway("--workers", "2")
    with ExitStack() as clients:

        def connected(worker):
            with suppress(psutil.Error):
                found = worker.net_connections("tcp")
                return any(each.status == psutil.CONN_ESTABLISHED for each in found)
            return False

        def serving():
            """Both, once each of them has taken a connection."""
            with suppress(OSError):
                clients.enter_context(socket.create_connection(("127.0.0.1", child.port)))
            found = {worker.pid for worker in family(child) if connected(worker)}
            return found if len(found) == 2 else set()

        child.serving = lambda: wait_for("both serve", serving, lambda: child.output)
        child.serving()
        yield child


@in_database
def test_a_worker_that_is_killed_is_replaced_and_at_the_end_none_is_left(workers):
    before = workers.serving()
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    wait_for("its end was seen", lambda: "ended with -9: starting it again" in workers.output)
    after = workers.serving()
    assert killed not in after
    assert health(workers.port)["status"] == "ok"
    workers.signal(signal.SIGTERM)
    assert workers.wait() == 0
    assert not [pid for pid in before | after if psutil.pid_exists(pid)]


def told(port, name):
    """Labels and values, of whichever worker takes the connection."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE).text
    return samples(text).get(f"llamaproxy_{name}", [])


def counted(port):
    return sum(value for _, value in told(port, "requests_total"))


def ask(port, times):
    body = {"model": "default", "messages": [], "max_tokens": 1}
    for _ in range(times):
        requests.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=DEADLINE)


@in_database
def test_whichever_worker_is_scraped_tells_the_sum_of_all_which_never_goes_back(slow_server, workers):
    port = workers.port
    seen = []

    def look():
        seen.append(counted(port))
        return seen[-1]

    ask(port, 9)
    wait_for("all are told", lambda: look() == 9)
    seen += [counted(port) for _ in range(20)]
    os.kill(min(workers.serving()), signal.SIGKILL)
    wait_for("its end was seen", lambda: "ended with -9: starting it again" in workers.output)
    workers.serving()
    seen += [counted(port) for _ in range(20)]
    ask(port, 3)
    wait_for("those are told, too", lambda: look() == 12)
    assert seen == sorted(seen)


@in_database
def test_whichever_worker_is_scraped_tells_what_is_in_flight_at_any(slow_server, workers):
    here = ({"server": "default", "model": "default"}, 1)
    with generating(workers.port, tokens=10_000):
        wait_for("it is told", lambda: here in told(workers.port, "requests_in_flight"))
        scrapes = [told(workers.port, "requests_in_flight") for _ in range(20)]
    assert all(here in scrape and sum(value for _, value in scrape) == 1 for scrape in scrapes)


@in_database
def test_files_of_the_workers_are_closed_to_others_and_gone_at_the_end(workers):
    files = [Path(line[line.index("--counts") + 1]) for line in map(psutil.Process.cmdline, family(workers))]
    assert sorted(file.name for file in files) == ["1.json", "2.json"]
    (directory,) = {file.parent for file in files}
    assert directory.stat().st_mode & 0o777 == 0o700
    workers.signal(signal.SIGTERM)
    assert workers.wait() == 0
    assert not directory.exists()


@in_database
def test_ctrl_c_which_reaches_all_at_once_lets_a_stream_go_on_and_a_second_one_ends_it_honestly(
    slow_server, workers
):
    with generating(workers.port, tokens=10_000) as lines:
        interrupt(workers)
        wait_for("it is told", lambda: "Finishing 1 request" in workers.output)
        until(b"word10", lines)
        interrupt(workers)
        assert b"gateway_stopping" in until_it_breaks(lines)
    assert workers.wait() == 0


def interrupt(workers):
    """As a terminal does it."""
    for process in [*family(workers), workers.process]:
        process.send_signal(signal.SIGINT)


@in_database
def test_a_signal_lets_a_stream_finish(slow_server, gateway):
    child = gateway()
    with generating(child.port, tokens=20) as lines:
        child.signal(signal.SIGTERM)
        assert list(lines)[-2] == b"data: [DONE]"
    assert child.wait() == 0


@in_database
def test_in_one_process_a_second_signal_does_the_same(slow_server, gateway):
    child = gateway()
    with generating(child.port, tokens=10_000) as lines:
        child.signal(signal.SIGTERM)
        wait_for("it is told", lambda: "Finishing 1 request" in child.output)
        child.signal(signal.SIGINT)
        assert b"gateway_stopping" in until_it_breaks(lines)
    assert child.wait() == 0
