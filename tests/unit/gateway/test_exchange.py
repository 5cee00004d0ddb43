"""An exchange, alone: its stages, its body on the way, and what its client sees meanwhile."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.stages import Stage
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import End
from tests.unit.gateway.exchanging import EVENT, QUESTION, STREAM, Bench
from tests.unit.gateway.parts import EVENTS, answer_head


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


def test_only_so_many_connections_are_one_owners(bench):
    assert not bench.exchange.has_too_many(None)
    bench.caller.may_connect = False
    assert bench.exchange.has_too_many(None)
