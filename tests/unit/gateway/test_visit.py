"""A request visits servers: it takes its turn, and ends."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.gate import QueueFullError
from tests.unit.gateway.parts import NearBackend
from tests.unit.gateway.visiting import READY, Gateway, Request, join, lose, newer, visit


@pytest.fixture
def gateway(timers):
    return Gateway(timers)


# --- Its turn


def test_at_a_server_with_room_the_request_is_sent_at_once(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request, api_key="secret")
    assert request.steps == ["set out"]
    assert backend.made().asked == [(b"head with secret", b'{"input":"hi"}', False, True)]


def test_a_request_that_came_without_a_key_takes_none_to_the_server(gateway, timers):
    request = Request(timers)
    request.is_public = True
    _, backend = visit(gateway, request, api_key="secret")
    assert backend.made().asked[0][0] == b"head with "


def test_at_a_server_that_starts_the_request_waits_until_it_is_ready(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request, status=Status.STARTING)
    assert request.answer.waits
    assert request.steps == []
    newer(backend, status=Status.READY)
    assert request.steps == ["set out"]
    assert not request.answer.waits


def test_a_request_waits_for_as_long_as_it_may(gateway, timers):
    request = Request(timers)
    visit(gateway, request, status=Status.STARTING, hold_seconds=5.0)
    timers.advance(4.9)
    assert request.outcome is None
    timers.advance(0.2)
    assert (request.problem.code, request.outcome) == ("hold_timeout", Outcome.UNAVAILABLE)


def test_a_request_whose_turn_will_come_waits_for_longer(gateway, timers):
    first, second = Request(timers), Request(timers)
    _, backend = visit(gateway, first, capacity=1, hold_seconds=5.0)
    join(gateway, second, backend)
    timers.advance(60.0)
    assert second.answer.waits
    assert second.outcome is None


@pytest.mark.parametrize("is_public", [True, False])
def test_a_stranger_and_a_head_request_do_not_wait(gateway, timers, is_public):
    request = Request(timers, "/props", b"", method="GET" if is_public else "HEAD")
    request.is_public = is_public
    visit(gateway, request, status=Status.STARTING, detail="It reads its model.")
    assert (request.problem.code, request.outcome) == ("server_unavailable", Outcome.UNAVAILABLE)
    assert ("It reads its model." in request.problem.message) is not is_public


def test_into_a_full_queue_nobody_enters(gateway, timers):
    _, backend = visit(gateway, Request(timers), status=Status.STARTING, max_queue=1)
    with pytest.raises(QueueFullError):
        join(gateway, Request(timers), backend)


def test_the_owner_of_the_most_requests_gives_way_in_a_full_queue(gateway, timers):
    _, backend = visit(gateway, Request(timers), status=Status.STARTING, max_queue=2)
    newest = Request(timers)
    join(gateway, newest, backend)
    join(gateway, Request(timers, owner=2), backend)
    assert (newest.problem.code, newest.outcome) == ("queue_full", Outcome.UNAVAILABLE)


def test_a_server_that_may_answer_now_is_gone_to(gateway, timers):
    request = Request(timers)
    waiting, here = visit(gateway, request, status=Status.STARTING)
    there = NearBackend(replace(READY, name="b"))
    request.candidates = [here, there]
    waiting.server_changed()
    assert request.moved_to == [there]
    assert here.gate.waiting == []
    assert not request.answer.waits


def test_at_a_server_that_has_become_hopeless_nobody_waits(gateway, timers):
    request = Request(timers)
    waiting, backend = visit(gateway, request, status=Status.STARTING)
    request.candidates = problems.model_not_found("a", [])
    waiting.server_changed()
    assert request.outcome is None
    newer(backend, status=Status.ERROR, detail="The model is missing.")
    waiting.server_changed()
    assert (request.problem.message, request.outcome) == ("a: The model is missing.", Outcome.UNAVAILABLE)


def test_a_request_at_a_removed_server_hears_that_nobody_else_serves_its_model(gateway, timers):
    request = Request(timers)
    waiting, backend = visit(gateway, request, status=Status.STARTING)
    request.candidates = problems.model_not_found("a", [])
    backend.is_gone = True
    waiting.server_changed()
    assert request.problem.code == "model_not_found"


def test_a_request_that_has_been_quarantined_meanwhile_is_not_sent(gateway, timers):
    request = Request(timers)
    _, backend = visit(gateway, request, status=Status.STARTING)
    request.known = SimpleNamespace(code="quarantined")
    newer(backend, status=Status.READY)
    assert (request.problem.code, request.outcome) == ("quarantined", Outcome.QUARANTINED)
    assert request.steps == []


# --- The end


def test_a_visit_that_ends_leaves_its_place_to_the_next(gateway, timers):
    first, second = Request(timers), Request(timers)
    visiting, backend = visit(gateway, first, capacity=1)
    join(gateway, second, backend)
    visiting.leave()
    assert second.steps == ["set out"]
    assert backend.connecting[0].is_cancelled


def test_a_request_that_ends_while_its_server_works_on_it_stays_as_a_ghost(gateway, timers):
    request = Request(timers)
    visiting, backend = visit(gateway, request)
    backend.made()
    visiting.leave()
    assert [ghost.pid for ghost in backend.gate.ghosts] == [11]


def test_a_request_that_ends_before_its_loss_is_judged_is_accused(gateway, timers):
    request = Request(timers)
    visiting, backend = visit(gateway, request)
    lose(backend)
    visiting.leave()
    assert [accused.loss.pid for accused in backend.losses.accusations] == [11]
    assert request.suspicion.pending == 1


def test_a_request_that_was_answered_after_a_loss_is_not_accused(gateway, timers):
    request = Request(timers)
    visiting, backend = visit(gateway, request)
    lose(backend)
    visiting.survived()
    visiting.leave()
    assert list(backend.losses.accusations) == []
