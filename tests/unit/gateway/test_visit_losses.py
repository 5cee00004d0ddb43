"""A request whose server gives no answer: a loss is judged, and a suspect goes alone."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import End
from supervisor_app.gateway.servers.suspects import Suspicion
from supervisor_app.gateway.servers.trial import MAX_DROPS
from supervisor_app.gateway.servers.visit import ALONE_SECONDS
from tests.unit.gateway.parts import answer_head
from tests.unit.gateway.visiting import IMPURE, Gateway, Request, join, lose, newer, visit

ITS_FAULT = {11: End(blameless=False, sentence="It crashed.")}


@pytest.fixture
def gateway(timers):
    return Gateway(timers)


# --- Without an answer


def test_without_a_connection_the_request_waits_again_and_nobody_is_suspected(gateway, timers):
    request = Request(timers)
    visiting, backend = visit(gateway, request)
    backend.connecting[0].failed("nobody listens")
    assert request.steps == ["set out", "come back"]
    assert backend.gate.waiting == [visiting]
    assert not backend.gate.is_open
    newer(backend, pid=12)
    assert request.steps[2:] == ["set out"]
    assert gateway.blamed == []


def test_a_loss_is_judged_once_another_process_runs(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request)
    lose(backend)
    assert request.steps == ["set out", "lost"]
    assert request.run_name == "3"
    newer(backend, pid=12, ends=ITS_FAULT)
    assert request.steps == ["set out", "lost", "set out"]
    assert request.suspicion.crashes == 1
    assert len(gateway.blamed) == 1


def test_an_end_that_is_nobodys_fault_makes_no_suspect(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request)
    lose(backend)
    newer(backend, pid=12, ends={11: End(blameless=True)})
    assert request.steps[-1] == "set out"
    assert not request.suspicion.crashes


def test_a_request_that_was_alone_in_its_third_crash_is_quarantined(gateway, timers):
    request = Request(timers)
    request.suspicion = Suspicion(crashes=2, deaths=2)
    _, backend = visit(gateway, request)
    lose(backend)
    newer(backend, pid=12, ends=ITS_FAULT)
    assert (request.problem.code, request.outcome) == ("quarantined", Outcome.QUARANTINED)
    assert gateway.quarantined == [("3", "It crashed.")]


def test_a_request_that_has_seen_too_many_deaths_is_not_sent_again(gateway, timers):
    request = Request(timers)
    request.suspicion = Suspicion(deaths=4)
    _, backend = visit(gateway, request)
    lose(backend)
    newer(backend, pid=12, ends={11: End(blameless=True, sentence="It was killed.")})
    assert (request.problem.code, request.outcome) == ("upstream_crashed", Outcome.UPSTREAM_CRASHED)
    assert len(gateway.suspected) == 1


def test_a_server_that_lives_on_is_tried_a_few_times(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request)
    for _ in range(MAX_DROPS + 1):
        assert request.outcome is None
        lose(backend)
        timers.advance(2.0)
    assert request.steps.count("lost") == MAX_DROPS + 1
    assert "broke off while answering" in request.problem.message


def test_a_server_that_took_no_connection_has_not_lived_on(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request)
    for _ in range(MAX_DROPS):
        lose(backend)
        timers.advance(2.0)
    backend.connecting[-1].failed("nobody listens")
    timers.advance(2.0)
    lose(backend)
    timers.advance(2.0)
    assert request.outcome is None
    assert request.steps[-1] == "set out"


def test_a_request_that_may_have_taken_effect_is_not_sent_again(gateway, timers):
    request = Request(timers, IMPURE)
    request.is_sent_once = True
    _, backend = visit(gateway, request)
    lose(backend)
    assert request.outcome is Outcome.UPSTREAM_CRASHED
    assert "may have done what was asked" in request.problem.message


def test_a_body_that_has_flowed_through_cannot_be_sent_again(gateway, timers):
    request = Request(timers)
    request.body.overflow()
    _, backend = visit(gateway, request)
    lose(backend)
    assert request.outcome is Outcome.UPSTREAM_CRASHED


def test_a_loss_in_the_middle_names_the_run_of_the_server(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request)
    listener = backend.made().listener
    listener.on_head(answer_head(length=6), 6)
    listener.on_content(b"abc")
    listener.on_lost("reset")
    assert request.steps[-1] == "commit"
    assert (request.problem.code, request.run_name) == ("upstream_crashed", "3")


def test_a_server_that_its_supervisor_ends_is_left_at_once(gateway, timers):
    request = Request(timers)
    visiting, backend = visit(gateway, request)
    connection = backend.made()
    newer(backend, status=Status.STOPPING, detail="It is being stopped.")
    visiting.server_ended()
    assert connection.is_aborted
    assert request.steps == ["set out", "lost"]


# --- Suspects


def test_a_suspect_is_sent_when_it_is_alone(gateway, timers):
    other, suspect = Request(timers), Request(timers)
    inside, backend = visit(gateway, other)
    suspect.suspicion = Suspicion(crashes=2)
    join(gateway, suspect, backend)
    assert suspect.steps == []
    inside.leave()
    assert suspect.steps == ["set out"]


def test_a_suspect_does_not_wait_for_ever_for_requests_that_need_no_slot(gateway, timers):
    quick, suspect = Request(timers, "/props", b"", method="GET"), Request(timers)
    _, backend = visit(gateway, quick)
    suspect.suspicion = Suspicion(crashes=2)
    join(gateway, suspect, backend)
    timers.advance(ALONE_SECONDS - 0.1)
    assert suspect.steps == []
    timers.advance(0.2)
    assert suspect.steps == ["set out"]
