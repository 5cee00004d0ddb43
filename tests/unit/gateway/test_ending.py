"""The ends of one exchange: what its client gets, and that its books are closed once, however it ends."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.access.keys import KeyPolicy
from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.plane import stages
from supervisor_app.gateway.plane.stages import IllegalSteps
from supervisor_app.gateway.records.record import Outcome
from tests.unit.gateway.exchanging import EVENT, QUESTION, STREAM, Bench
from tests.unit.gateway.parts import EVENTS, answer_head


@pytest.fixture
def bench(timers):
    return Bench(timers)


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


def test_a_stream_that_its_server_ends_with_an_error_has_failed_as_that_says(timers):
    bench = Bench(timers, "/v1/chat/completions", length=len(STREAM)).ask(STREAM)
    listener = bench.asked()
    listener.on_head(answer_head(content_type=EVENTS), None)
    listener.on_content(EVENT)
    listener.on_content(EVENT)
    listener.on_content(b'data: {"error":{"code":503,"message":"full"}}\n\n')
    listener.on_end()
    record = bench.exchange.record()
    assert (record.outcome, record.status, record.failed) == (Outcome.UPSTREAM_ERROR, 503, True)
    assert bench.exchange.charged(record.usage) == 2  # what came of it, but the event with the role
    assert b"full" in bench.written
    assert bench.written.endswith(b"0\r\n\r\n")


def test_an_error_is_an_event_for_a_client_that_was_told_of_a_stream(timers):
    bench = Bench(timers, "/v1/chat/completions", length=len(STREAM), status=Status.STARTING).ask(STREAM)
    timers.advance(bench.gateway.limits.comment_seconds + 1.0)
    assert bench.exchange.has_begun
    bench.newer(status=Status.READY)
    bench.asked().on_whole(answer_head(400, length=27), 27, b'{"error":{"message":"bad"}}')
    assert bench.outcome is Outcome.UPSTREAM_ERROR
    assert bench.exchange.record().status == 400
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
