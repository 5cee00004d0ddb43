"""One exchange, alone: its stages, what its client gets, and that its books are closed once, however it ends."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.access.keys import KeyPolicy
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.plane import stages
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.stages import IllegalSteps, Stage
from supervisor_app.gateway.plane.work_queue import WorkQueue
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import End, ServerFacts
from tests.unit.gateway.parts import EVENTS, NearBackend, Transport, answer_head, request_head

READY = ServerFacts(name="a", version=5, status=Status.READY, url="http://localhost:1", pid=11, run=3)
QUESTION = b'{"input":"hi"}'
SIZE = len(QUESTION)
STREAM = b'{"messages":[{"role":"user","content":"hi"}],"stream":true}'
EVENT = b'data: {"choices":[{"delta":{"content":"a word of many, so that it is no short one"}}]}\n\n'


class Caller:
    """`ports.Caller`: remembers what it was told."""

    address = "192.0.2.1"

    def __init__(self):
        self.transport = Transport()
        self.held = []
        self.times_over = 0
        self.may_connect = True

    def pause_reading(self, held):
        self.held.append(held)

    def may_connect_as(self, owner):
        return self.may_connect

    def exchange_over(self):
        self.times_over += 1


class Gateway:
    """`ports.ExchangeGateway` with one server."""

    def __init__(self, loop, **facts):
        self.loop = loop
        self.limits = Limits(replay_bytes=1000, body_bytes=10_000)
        self.door = Door(["localhost"])
        self.inquest = SimpleNamespace(
            suspects_anybody=lambda: False,
            blame_key=lambda *_: None,
            suspects=SimpleNamespace(acquit=lambda _: None),
        )
        self.outside = SimpleNamespace(models_changed=self._models_changed)
        self.large_work = WorkQueue(loop)
        self.ids = map("request {}".format, count(1))
        self.arrivals = count(1)
        self.kept_bytes = self.spooled_bytes = 0
        self.takes_any_name = True
        self.presets = {}
        self.may_hear_of_models = False
        self.backend = NearBackend(replace(READY, **facts))
        self.all = (self.backend,)
        self.finishes = []
        self.changed = []

    def _models_changed(self, server):
        self.changed.append(server)

    @staticmethod
    def wall_time():
        return 1_800_000_000.0

    @staticmethod
    def must_read_on(policy, head, body):
        return False

    @staticmethod
    def isolates(facts):
        return False

    @staticmethod
    def server_lost():
        pass

    @staticmethod
    def leave_gate(backend, visitor):
        backend.gate.leave(visitor)

    def finished(self, exchange, *, recorded):
        self.finishes.append((exchange, recorded))


class Bench:
    """An exchange with all that it needs."""

    def __init__(self, timers, path="/v1/embeddings", *, length=SIZE, **facts):
        self.gateway = Gateway(timers, **facts)
        self.backend = self.gateway.backend
        self.caller = Caller()
        reply = Reply(self.caller.transport, http11=True, keep_alive=True)
        head = request_head(path)
        self.exchange = Exchange(self.gateway, self.caller, head, length, reply)

    def ask(self, body=QUESTION):
        """The whole request comes, and is let in."""
        self.exchange.let_in(None)
        self.exchange.on_body(body)
        self.exchange.on_body_end()
        return self

    def asked(self):
        """Who listens at the connection over which it was sent."""
        return self.backend.made().listener

    @property
    def written(self):
        return self.caller.transport.written

    @property
    def outcome(self):
        """Of a request whose books are closed."""
        assert self.exchange.stage is Stage.OVER
        assert len(self.gateway.finishes) == 1
        assert self.caller.times_over == 1
        assert self.gateway.kept_bytes == 0
        assert self.backend.gate.in_flight == set()
        assert self.backend.gate.waiting == []
        return self.exchange.notes.outcome

    def newer(self, **changes):
        """A word of the supervisor."""
        self.backend.update(replace(self.backend.facts, version=self.backend.facts.version + 1, **changes))


@pytest.fixture
def bench(timers):
    return Bench(timers)


# --- Its stages


def test_a_request_goes_from_its_head_to_its_end(bench):
    exchange, seen = bench.exchange, []
    seen.append(exchange.stage)
    exchange.let_in(None)
    seen.append(exchange.stage)
    exchange.on_body(QUESTION)
    exchange.on_body_end()
    seen.append(exchange.stage)
    bench.asked().on_whole(answer_head(length=2), 2, b"hi")
    assert seen == [Stage.HEAD, Stage.DOOR, Stage.ATTEMPT]
    assert bench.outcome is Outcome.OK
    assert bench.caller.transport.content == b"hi"


def test_a_request_waits_at_the_gate_of_a_server_that_starts(timers):
    bench = Bench(timers, status=Status.STARTING).ask()
    assert bench.exchange.stage is Stage.GATE
    timers.advance(2.0)
    bench.newer(status=Status.READY)
    assert bench.exchange.stage is Stage.ATTEMPT
    bench.asked().on_whole(answer_head(length=2), 2, b"hi")
    assert bench.outcome is Outcome.HELD


def test_a_server_that_takes_no_connection_sends_the_request_back_to_the_gate(bench):
    bench.ask()
    bench.backend.connecting[0].failed("nobody listens")
    assert bench.exchange.stage is Stage.GATE
    assert bench.exchange.notes.replays == 0


def test_a_request_is_lost_until_it_is_sent_again(bench):
    bench.ask()
    bench.asked().on_lost("reset")
    assert (bench.exchange.stage, bench.exchange.notes.replays) == (Stage.LOST, 0)
    bench.newer(pid=12, ends={11: End(blameless=True)})
    assert (bench.exchange.stage, bench.exchange.notes.replays) == (Stage.ATTEMPT, 1)
    bench.asked().on_whole(answer_head(length=2), 2, b"hi")
    assert bench.outcome is Outcome.REPLAYED


def test_after_the_first_content_a_request_is_committed(bench):
    bench.ask()
    listener = bench.asked()
    listener.on_head(answer_head(length=6), 6)
    assert bench.exchange.stage is Stage.ATTEMPT
    listener.on_content(b"abc")
    assert bench.exchange.stage is Stage.COMMIT
    listener.on_content(b"def")
    listener.on_end()
    assert bench.outcome is Outcome.OK
    assert bench.caller.transport.content == b"abcdef"


def test_a_large_body_has_its_turn_after_those_of_others(timers):
    bench = Bench(timers)
    bench.gateway.limits = Limits()
    large = b'{"input":"%s"}' % (b"x" * 100_000)
    bench.ask(large)
    assert bench.exchange.stage is Stage.DOOR
    timers.advance(0.0)
    assert bench.exchange.stage is Stage.ATTEMPT


def test_an_answer_of_the_gateways_own_reads_no_body_and_makes_no_record(bench):
    bench.exchange.answer_takes_time()
    bench.exchange.on_body(QUESTION)
    bench.exchange.on_body_end()
    assert bench.exchange.stage is Stage.OWN
    bench.exchange.answer_ourselves(200, b"", b"mine")
    assert bench.outcome is Outcome.OK
    assert bench.gateway.finishes == [(bench.exchange, False)]
    assert not bench.backend.connecting


def test_a_request_that_comes_from_the_fast_path_has_been_sent(bench, timers):
    sent = SimpleNamespace(
        arrival=7, since=timers.time(), at=1.0, policy=None, backend=bench.backend, asked=bench.backend.facts
    )
    kept = SimpleNamespace(hand_over=lambda listener: None, abort=lambda: None)
    visit, _ = bench.exchange.go_on_from(sent, QUESTION, kept)
    assert (bench.exchange.stage, bench.exchange.arrival) == (Stage.ATTEMPT, 7)
    assert visit.takes_body


# --- How it ends


def test_a_refused_request_keeps_its_connection_only_if_it_has_come_whole(timers):
    for is_whole in (True, False):
        bench = Bench(timers)
        bench.exchange.body.is_whole = is_whole
        bench.exchange.refuse(problems.too_many_connections())
        assert bench.outcome is Outcome.REFUSED
        assert bench.exchange.keep_alive is is_whole
        assert b"too_many_connections" in bench.written


def test_a_body_that_is_too_large_is_refused_as_it_comes(bench):
    bench.exchange.let_in(None)
    bench.exchange.on_body(b"x" * 10_001)
    assert bench.outcome is Outcome.REFUSED
    assert b"body_too_large" in bench.written


def test_a_client_that_leaves_ends_its_request_and_the_server_sees_that(bench):
    bench.ask()
    connection = bench.backend.made()
    bench.exchange.client_left()
    assert bench.outcome is Outcome.CLIENT_LEFT
    assert connection.is_aborted


def test_an_answer_that_breaks_after_its_length_was_told_is_reset(bench):
    bench.ask()
    listener = bench.asked()
    listener.on_head(answer_head(length=6), 6)
    listener.on_content(b"abc")
    listener.on_lost("reset")
    assert bench.outcome is Outcome.UPSTREAM_CRASHED
    assert bench.caller.transport.is_aborted
    assert not bench.exchange.keep_alive


def test_a_stream_that_breaks_says_so_in_an_event(timers):
    bench = Bench(timers, "/v1/chat/completions", length=len(STREAM)).ask(STREAM)
    listener = bench.asked()
    listener.on_head(answer_head(content_type=EVENTS), None)
    listener.on_content(EVENT)
    listener.on_lost("reset")
    assert bench.outcome is Outcome.UPSTREAM_CRASHED
    assert b'"code":"upstream_crashed"' in bench.written
    assert bench.written.endswith(b"0\r\n\r\n")
    assert bench.exchange.notes.run_name == "3"


def test_an_error_is_an_event_for_a_client_that_was_told_of_a_stream(timers):
    bench = Bench(timers, "/v1/chat/completions", length=len(STREAM), status=Status.STARTING).ask(STREAM)
    timers.advance(bench.gateway.limits.comment_seconds + 1.0)
    assert bench.exchange.has_begun
    bench.newer(status=Status.READY)
    bench.asked().on_whole(answer_head(400, length=27), 27, b'{"error":{"message":"bad"}}')
    assert bench.outcome is Outcome.UPSTREAM_ERROR
    assert b'"message":"bad"' in bench.written


def test_a_mistake_of_ours_is_told(bench):
    bench.ask()
    bench.asked().on_mistake()
    assert bench.outcome is Outcome.UNAVAILABLE
    assert b"internal_error" in bench.written


def test_a_request_that_is_over_is_not_refused_again(bench):
    bench.exchange.refuse(problems.restarting())
    before = bench.written
    bench.exchange.refuse(problems.mistake())
    bench.exchange.client_left()
    assert bench.outcome is Outcome.REFUSED
    assert bench.written == before


def test_whatever_we_do_wrong_the_books_are_closed_once(bench, monkeypatch, caplog):
    monkeypatch.setattr(stages, "illegal_steps", IllegalSteps())
    bench.ask()
    bench.asked().on_whole(answer_head(length=2), 2, b"hi")
    bench.exchange.stopped(())
    bench.exchange.stopped(())
    assert bench.outcome is Outcome.OK
    assert len(caplog.records) == 1


# --- What its client sees meanwhile


def test_a_stream_shows_that_it_lives_between_two_events_only(timers):
    bench = Bench(timers, "/v1/chat/completions", length=len(STREAM)).ask(STREAM)
    listener = bench.asked()
    assert not bench.exchange.show_life()
    listener.on_head(answer_head(content_type=EVENTS), None)
    listener.on_content(EVENT + b"data: half")
    before = bench.written
    assert bench.exchange.show_life()
    assert bench.written == before
    listener.on_content(b" of it\n\n")
    before = bench.written
    assert bench.exchange.show_life()
    assert bench.written == before + b"3\r\n:\n\n\r\n"


def test_a_client_that_reads_no_more_holds_its_server_back(bench):
    bench.ask()
    connection = bench.backend.made()
    bench.exchange.client_writable(False)
    assert connection.is_held
    bench.exchange.client_writable(True)
    assert not connection.is_held


def test_a_body_that_is_too_long_to_be_kept_flows_through(timers):
    bench = Bench(timers, length=3000)
    bench.exchange.let_in(None)
    bench.exchange.on_body(b'{"input":"' + b"x" * 1500)
    assert bench.exchange.is_sent_once
    bench.exchange.on_body(b"y" * 500)
    assert bench.caller.held == [True]
    connection = bench.backend.made()
    assert bench.caller.held == [True, False]
    assert bench.gateway.kept_bytes == 0
    bench.exchange.on_body(b"z" * 988 + b'"}')
    assert connection.written == b"z" * 988 + b'"}'
    connection.listener.on_writable(False)
    assert bench.caller.held[-1] is True


# --- What it costs


def test_the_record_tells_what_was_asked_and_what_became_of_it(bench, timers):
    bench.exchange.let_in(KeyPolicy(id=4, name="key", digest="d"))
    bench.exchange.on_body(QUESTION)
    bench.exchange.on_body_end()
    timers.advance(0.25)
    content = b'{"usage":{"prompt_tokens":5,"completion_tokens":0}}'
    bench.asked().on_whole(answer_head(length=len(content)), len(content), content)
    record = bench.exchange.record()
    assert (record.server, record.key, record.status, record.route) == ("a", 4, 200, "/v1/embeddings")
    assert (record.outcome, record.id, record.duration_ms) == (Outcome.OK, "request 1", 250.0)
    assert bench.exchange.charged(record.usage) == 5


def test_a_client_that_leaves_before_the_prompt_was_counted_is_charged_a_guess(bench):
    bench.exchange.let_in(KeyPolicy(id=4, name="key", digest="d"))
    bench.exchange.on_body(QUESTION)
    bench.exchange.on_body_end()
    bench.backend.made()
    bench.exchange.client_left()
    bench.exchange.record()
    assert bench.exchange.charged(Usage()) == len(QUESTION) // 4


def test_a_request_that_was_never_sent_owes_nothing(timers):
    bench = Bench(timers, status=Status.STARTING)
    bench.exchange.let_in(KeyPolicy(id=4, name="key", digest="d"))
    bench.exchange.on_body(QUESTION)
    bench.exchange.on_body_end()
    bench.exchange.client_left()
    bench.exchange.record()
    assert bench.exchange.charged(Usage()) == 0


def test_a_request_that_changes_models_is_reported_once_it_is_over(timers):
    bench = Bench(timers, "/models/load", length=2).ask(b"{}")
    assert bench.gateway.changed == []
    bench.asked().on_whole(answer_head(length=2), 2, b"{}")
    assert bench.gateway.changed == ["a"]


def test_only_so_many_connections_are_one_owners(bench):
    assert not bench.exchange.has_too_many(None)
    bench.caller.may_connect = False
    assert bench.exchange.has_too_many(None)
