"""Several workers of one gateway: what one of them would promise holds for all together."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from types import SimpleNamespace

import psutil
import pytest
import requests

from tests.acceptance.gateway.askers import SCRIPTED
from tests.acceptance.gateway.conftest import RECOVERS_FAST, make_keys
from tests.acceptance.gateway.watching import wait_until_busy, wait_until_held
from tests.deadline import DEADLINE

WORKERS = 3
POISON = "poison"
ONE_SLOT = ("-np", "1")


def start(make, *flags, keys=None, **config):
    """A server and, in processes of their own, three workers before it."""
    proxy = make(**{**RECOVERS_FAST, **config})
    proxy.script("--fake-token-seconds", "0.01", *flags)
    proxy.start(web=False).wait_for_status("ready")
    proxy.keys = make_keys(proxy, keys or {})
    proxy.gateway = proxy.start_gateway("--workers", str(WORKERS))
    proxy.wait_for("all listen", lambda: len(listening(proxy)) == WORKERS)
    return proxy


def connections(process, status):
    with suppress(psutil.Error):
        return [one for one in process.net_connections("tcp") if one.status == status]
    return []


def listening(proxy):
    """The workers."""
    found = psutil.Process(proxy.gateway.pid).children()
    return [
        process
        for process in found
        if proxy.gateway_port in {one.laddr.port for one in connections(process, psutil.CONN_LISTEN)}
    ]


class Client:
    """A connection, and the worker that has it."""

    def __init__(self, proxy, key="none"):
        self._connection = HTTPConnection("127.0.0.1", proxy.gateway_port, timeout=DEADLINE)
        self._connection.connect()
        self._port = self._connection.sock.getsockname()[1]
        self._key = key
        self.worker = proxy.wait_for("a worker has it", lambda: self._find(proxy))

    def _find(self, proxy):
        for process in listening(proxy):
            if self._port in {one.raddr.port for one in connections(process, psutil.CONN_ESTABLISHED)}:
                return process.pid

    def send(self, question, **more):
        body = {"model": "default", "messages": [{"role": "user", "content": question}], **more}
        head = {"Authorization": f"Bearer {self._key}"}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), head)

    def begin(self, question, **more):
        """The answer, of which the head has come."""
        self.send(question, **more)
        return self._connection.getresponse()

    def ask(self, question, **more):
        """Status and content."""
        answer = self.begin(question, **more)
        return answer.status, json.loads(answer.read())

    def close(self):
        self._connection.close()


@pytest.fixture
def clients():
    """Connect to each worker, once or more, in turns; all connections are closed in the end."""
    with ExitStack() as stack:

        def make(proxy, number, key="none"):
            found = {}
            while len(found) < WORKERS or min(map(len, found.values())) * WORKERS < number:
                client = Client(proxy, key)
                stack.callback(client.close)
                found.setdefault(client.worker, []).append(client)
            return [client for turn in zip(*found.values(), strict=False) for client in turn][:number]

        yield make


def told(answer):
    status, content = answer
    assert status == 200, content
    return content["choices"][0]["message"]["content"]


def asked(proxy):
    """Return what the server tells of the questions that it got."""
    told = requests.get(f"{proxy.engine_url}/props", headers=proxy.engine_headers, timeout=DEADLINE)
    return SimpleNamespace(**told.json()["fake"])


# --- How many, and in which order ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(make_shared):
    """Workers before a server with one slot."""
    return start(make_shared, *ONE_SLOT)


def test_a_server_with_one_slot_gets_one_request_at_a_time(narrow, clients):
    questions = [f"question {number}" for number in range(12)]
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = [
            pool.submit(client.ask, question, max_tokens=8)
            for client, question in zip(clients(narrow, len(questions)), questions, strict=True)
        ]
        assert [told(answer.result(DEADLINE)) for answer in answers] == [SCRIPTED] * len(questions)
    seen = asked(narrow)
    assert (seen.most_at_once, sorted(seen.asked)) == (1, sorted(questions))


def test_requests_that_wait_at_several_workers_are_sent_in_their_order(narrow, clients):
    questions = [f"waiting {number}" for number in range(12)]
    holder, *others = clients(narrow, 1 + len(questions))
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = []
        with holder.begin("for ever", stream=True, max_tokens=10**6):
            for place, (client, question) in enumerate(zip(others, questions, strict=True), 1):
                answers.append(pool.submit(client.ask, question, max_tokens=8))
                wait_until_held(narrow, place)
            holder.close()
        assert [told(answer.result(DEADLINE)) for answer in answers] == [SCRIPTED] * len(questions)
    assert asked(narrow).asked[-len(questions) :] == questions


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_killed_or_stopped_with_a_request_inside_holds_nobody_up_for_long(narrow, clients, number):
    holder, waiting, _ = clients(narrow, WORKERS)
    with ThreadPoolExecutor(1) as pool, holder.begin("for ever", stream=True, max_tokens=10**6) as answer:
        assert answer.status == 200
        told_later = pool.submit(waiting.ask, "after that")
        wait_until_busy(narrow)
        assert not told_later.done()
        os.kill(holder.worker, number)
        assert told(told_later.result(DEADLINE)) == SCRIPTED
        if number == signal.SIGSTOP:
            os.kill(holder.worker, signal.SIGKILL)
    narrow.wait_for("it is replaced", lambda: len(listening(narrow)) == WORKERS)


# --- Keys ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(make_shared):
    """Workers before a server, with `.keys`."""
    keys = {"one at a time": {"max_concurrent": 1}, "five a minute": {"requests_per_minute": 5}}
    return start(make_shared, keys=keys)


def test_a_key_has_no_more_running_at_once_than_it_may_wherever_they_run(limited, clients):
    one, *others = clients(limited, WORKERS, limited.keys["one at a time"])
    with one.begin("for ever", stream=True, max_tokens=10**6) as answer:
        assert answer.status == 200
        assert [other.ask("me too")[0] for other in others] == [429] * len(others)
    one.close()
    answered = [limited.wait_for("it may again", lambda each=other: answer_or_none(each)) for other in others]
    assert answered == [SCRIPTED] * len(others)


def answer_or_none(client):
    status, content = client.ask("now me")
    return told((status, content)) if status != 429 else None


def test_a_key_may_ask_so_often_in_a_minute_wherever_it_asks(limited, clients):
    began = time.monotonic()
    asking = clients(limited, 4 * WORKERS, limited.keys["five a minute"])
    statuses = [client.ask("hello")[0] for client in asking]
    refilled = int((time.monotonic() - began) / 12)
    assert set(statuses) == {200, 429}
    assert 5 <= statuses.count(200) <= 5 + refilled


# --- Which request kills servers? ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poisoned(make_shared):
    """A proxy whose server stays away for so long that all workers have heard of its end: each reads the database every second."""
    pause = {"retry_backoff_ms": 1500, "max_backoff_ms": 1500}
    return start(make_shared, "--fake-die-on", POISON, **pause)


def deaths(proxy):
    return [run for run in proxy.runs() if run["ended_at"]]


def quarantined(proxy):
    return proxy.query("SELECT * FROM supervisor_app_quarantinedrequest")


@pytest.mark.parametrize("number", range(2))
def test_only_the_poison_among_requests_in_flight_at_several_workers_is_quarantined(
    poisoned, clients, number
):
    before, known = len(deaths(poisoned)), len(quarantined(poisoned))
    *others, guilty = clients(poisoned, 2 * WORKERS)
    with ThreadPoolExecutor(len(others)) as pool:
        answers = [
            pool.submit(client.ask, f"harmless {number}.{place}", max_tokens=60)
            for place, client in enumerate(others)
        ]
        wait_until_busy(poisoned, 3)
        status, refused = guilty.ask(f"{POISON} {number}")
        assert all(told(answer.result(DEADLINE)).startswith(SCRIPTED) for answer in answers)
    assert (status, refused["error"]["code"]) == (422, "quarantined")
    poisoned.wait_for("that is saved, too", lambda: len(quarantined(poisoned)) > known)
    poisoned.wait_for("its last death is saved", lambda: len(deaths(poisoned)) >= before + 3)
    assert (len(quarantined(poisoned)), len(deaths(poisoned))) == (known + 1, before + 3)


def test_a_poison_whose_client_leaves_and_asks_another_worker_is_found_as_soon(poisoned, clients):
    before = len(deaths(poisoned))
    for number, client in enumerate(clients(poisoned, WORKERS), 1):
        client.send(f"another {POISON}")
        poisoned.wait_for("it dies", lambda least=before + number: len(deaths(poisoned)) >= least)
        client.close()
    status, refused = clients(poisoned, 1)[0].ask(f"another {POISON}")
    assert (status, refused["error"]["code"]) == (422, "quarantined")
    assert len(deaths(poisoned)) == before + WORKERS
