"""`manage.py rungateway` as a process, with and without workers: signals, counts, files left behind."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests
from django.db import connection

from tests.acceptance.children import FAKE, MANAGE, Child, environment, listens, wait_for
from tests.deadline import DEADLINE
from tests.integration.building import make_ready_server
from tests.ports import free_port
from tests.unit.gateway.test_metrics import samples

in_database = pytest.mark.django_db(transaction=True)


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
def start(tmp_path, template):
    """Starts processes with their data in `var`; in the end there is none, and none has shown a traceback."""
    children = []

    def start_it(*command):
        log = tmp_path / f"{len(children)}.log"
        env = environment(LLAMAPROXY_DATA_DIR=str(tmp_path / "var"), TMPDIR=str(tmp_path))
        begin = template.start if template and command[0] == str(MANAGE) else subprocess.Popen
        children.append(Child([sys.executable, *command], log, cwd=tmp_path, env=env, start=begin))
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
    """Return a function that starts a gateway, which listens on `.port`."""

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


def test_a_gateway_without_a_database_says_what_to_do(start):
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
    """Return the lines of a stream that ended in good order, but without the end of an answer."""
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
def test_ctrl_c_at_all_workers_lets_a_stream_go_on_and_a_second_ends_it_honestly(slow_server, workers):
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
