"""A request on the fast path, alone: who takes it, and that it closes its books or becomes an exchange."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.access.keys import Denied
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.fast_path import take_fast_path
from supervisor_app.gateway.plane.stages import Stage
from supervisor_app.gateway.records.record import Outcome, Usage
from tests.unit.gateway import exchanging
from tests.unit.gateway.parts import EVENTS, Connection, answer_head, request_head

QUESTION = b'{"input":"hi"}'
ANSWER = b'{"usage":{"prompt_tokens":5}}'


class Caller(exchanging.Caller):
    """`fast_path.FastCaller`: remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.answered = []
        self.request = None
        self.failures = 0

    def answer(self, written, now):
        self.answered.append(written)

    def fail(self):
        self.failures += 1

    def reply_to(self, head):
        return Reply(self.transport, http11=True, keep_alive=True)

    def go_on_with(self, request):
        self.request = request


class Limiter:
    """Lets in, or not."""

    def __init__(self):
        self.denied = None

    def admit(self, policy, now):
        if self.denied:
            raise self.denied


class OpenDoor(Door):
    """Lets in everybody, with the policy that a test sets."""

    policy = None

    def check(self, head, now):
        return self.policy


class Gateway(exchanging.Gateway):
    """`fast_path.FastHouse` with one server."""

    def __init__(self, loop, **facts):
        super().__init__(loop, **facts)
        self.exchanges = set()
        self.limiter = Limiter()
        self.door = OpenDoor(["localhost"])

    @staticmethod
    def may_keep(size):
        return True

    def candidates(self, model):
        return self.all

    def finished(self, exchange, *, recorded):
        super().finished(exchange, recorded=recorded)
        self.exchanges.discard(exchange)


class Bench:
    """A gateway whose server has a connection to spare."""

    def __init__(self, timers, **facts):
        self.gateway = Gateway(timers, **facts)
        self.backend = self.gateway.backend
        self.caller = Caller()
        self.connection = Connection(used=True)
        self.backend.kept.append(self.connection)

    def take(self, body=QUESTION, path="/v1/embeddings"):
        return take_fast_path(self.gateway, self.caller, request_head(path), body)

    def sent(self):
        """A request that is on its way."""
        request = self.take()
        request.send()
        return request

    @property
    def is_untouched(self):
        """Nothing has changed for anybody."""
        return self.backend.kept == [self.connection] and not self.backend.gate.in_flight

    def assert_books_are_closed(self):
        assert len(self.gateway.finishes) == 1
        assert self.gateway.exchanges == set()
        assert self.gateway.kept_bytes == 0
        assert self.backend.gate.in_flight == set()


@pytest.fixture
def bench(timers):
    return Bench(timers)


# --- Who takes it


def test_a_short_request_takes_the_fast_path_and_its_place_at_the_server(bench):
    request = bench.sent()
    assert bench.backend.gate.in_flight == {request}
    assert bench.gateway.exchanges == {request}
    assert bench.gateway.kept_bytes == len(QUESTION)
    assert bench.connection.asked[0][1] == QUESTION


OTHERS = {
    "a stream": (b'{"input":"hi","stream":true}', "/v1/embeddings"),
    "a long answer": (b'{"messages":[]}', "/v1/chat/completions"),
    "what is sent once": (b"{}", "/tools"),
    "what the gateway answers": (b"", "/health"),
    "what is nested too deep": (b"[" * 10_000 + b"]" * 10_000, "/v1/embeddings"),
}


@pytest.mark.parametrize(("body", "path"), OTHERS.values(), ids=OTHERS)
def test_any_other_request_takes_the_long_way(bench, body, path):
    assert bench.take(body, path) is None
    assert bench.is_untouched


def test_nobody_takes_the_fast_path_without_a_connection_to_spare(bench):
    bench.backend.kept.clear()
    assert bench.take() is None
    assert not bench.backend.gate.in_flight


def test_nobody_takes_the_fast_path_to_a_server_that_is_not_ready(timers):
    bench = Bench(timers, status=Status.STARTING)
    assert bench.take() is None
    assert bench.is_untouched


def test_nobody_takes_the_fast_path_to_a_full_server(timers):
    bench = Bench(timers, capacity=1)
    bench.sent()
    bench.connection = Connection(used=True)
    bench.backend.kept.append(bench.connection)
    assert bench.take() is None
    assert bench.backend.kept == [bench.connection]


def test_a_key_that_has_asked_too_much_leaves_its_place(bench):
    bench.gateway.door.policy = SimpleNamespace(
        id=1,
        models=(),
        families=(),
        capture=False,
        budget=None,
        scopes={request_head("/v1/embeddings").operation.scope},
    )
    bench.gateway.limiter.denied = Denied(429, "rate_limited", "Too many.")
    assert bench.take() is None
    assert bench.is_untouched


# --- Its end on the fast path


def test_a_whole_answer_is_passed_on_and_the_books_are_closed(bench, timers):
    request = bench.sent()
    timers.advance(0.5)
    request.on_whole(answer_head(length=len(ANSWER)), len(ANSWER), ANSWER)
    assert bench.caller.answered[0].endswith(b"\r\n\r\n" + ANSWER)
    bench.assert_books_are_closed()
    record = request.record()
    assert (record.outcome, record.status, record.duration_ms) == (Outcome.OK, 200, 500.0)
    assert request.charged(record.usage) == 5
    assert request.charged(Usage()) == 0


# --- Out of the ordinary


def test_a_request_becomes_an_exchange_in_its_place(bench):
    request = bench.sent()
    assert not request.show_life()
    exchange = bench.caller.request
    assert isinstance(exchange, Exchange)
    assert exchange.stage is Stage.ATTEMPT
    assert (exchange.id, exchange.arrival) == (request.id, request.arrival)
    assert bench.gateway.exchanges == {exchange}
    assert request not in bench.backend.gate.in_flight
    assert len(bench.backend.gate.in_flight) == 1
    assert bench.gateway.kept_bytes == len(QUESTION)


def test_an_error_of_the_server_ends_as_an_exchange(bench):
    bench.sent().on_whole(answer_head(400, length=3), 3, b"bad")
    assert bench.caller.request.notes.outcome is Outcome.UPSTREAM_ERROR
    assert bench.caller.transport.content == b"bad"
    bench.assert_books_are_closed()


def test_a_stream_that_nobody_asked_for_goes_on_as_an_exchange(bench):
    bench.sent().on_head(answer_head(content_type=EVENTS), None)
    bench.connection.listener.on_content(b"data: a\n\n")
    assert bench.caller.request.stage is Stage.COMMIT


def test_a_connection_that_the_server_has_closed_is_tried_once_more(bench):
    bench.sent().on_lost("closed")
    assert bench.caller.request.stage is Stage.ATTEMPT
    assert len(bench.backend.connecting) == 1


def test_a_client_that_leaves_closes_the_books(bench):
    bench.sent().client_left()
    assert bench.caller.request.notes.outcome is Outcome.CLIENT_LEFT
    assert bench.connection.is_aborted
    bench.assert_books_are_closed()


def test_a_request_that_is_refused_closes_the_books(bench):
    bench.sent().refuse(problems.restarting(), Outcome.UNAVAILABLE)
    assert b"gateway_stopping" in bench.caller.transport.written
    bench.assert_books_are_closed()


def test_a_mistake_of_ours_is_for_the_connection_to_tell(bench):
    bench.sent().on_mistake()
    assert bench.caller.failures == 1


def test_no_other_request_ends_one_on_the_fast_path(bench):
    assert not bench.sent().waits_for_stream_of("a", None)
