"""One visit, alone: the wait for a turn, the attempts, and what becomes of a request whose server was lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway import problems
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.body import RequestBody
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.facts import End, ServerFacts
from supervisor_app.gateway.servers.gate import QueueFullError
from supervisor_app.gateway.servers.suspects import Suspicion
from supervisor_app.gateway.servers.trial import MAX_DROPS
from supervisor_app.gateway.servers.visit import ALONE_SECONDS, Visit
from tests.unit.gateway.parts import Answer, NearBackend, answer_head, request_head
from tests.unit.gateway.timers import Timers

READY = ServerFacts(name="a", version=5, status=Status.READY, url="http://localhost:1", pid=11, run=3)
PURE, IMPURE = "/v1/embeddings", "/tools"
ITS_FAULT = {11: End(blameless=False, sentence="It crashed.")}
arrivals = count()


@pytest.fixture
def timers(monkeypatch):
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    return timers


class Request:
    """`request.Request`: remembers each step and how it ended."""

    def __init__(self, timers, path=PURE, content=b'{"input":"hi"}', *, method="POST", owner=1):
        self.head = request_head(path, method=method)
        self.body = RequestBody(self.head, len(content))
        self.body.take_whole(content)
        self.answer = Answer(timers)
        self.arrival = next(arrivals)
        self.started = timers.time()
        self.is_public = self.is_sent_once = False
        self.suspicion = None
        self.owner = owner
        self.run_name = ""
        self.steps = []
        self.problem = self.outcome = None
        self.known = None
        """What is found of the request when it looks back."""
        self.candidates = []
        self.moved_to = None

    def candidates_now(self):
        return self.candidates

    def find_suspicion(self):
        return self.known

    def go_to_one_of(self, candidates):
        self.moved_to = candidates

    def isolate(self, facts):
        return None

    def request_for(self, authority, api_key, instead):
        return b"head with " + api_key.encode(), self.body.for_server(instead)[0], True

    def set_out(self):
        self.answer.wait().end()
        self.steps.append("set out")

    def come_back(self):
        self.steps.append("come back")

    def lose(self, run_name):
        self.run_name = run_name
        self.steps.append("lost")

    def commit(self, head, length, beginning=b""):
        self.steps.append("commit")
        return True

    def answered(self, tail):
        self.outcome = Outcome.OK

    def answer_whole(self, head, length, content):
        self.outcome = Outcome.OK

    def broken(self, problem, run_name, tail):
        self.problem, self.run_name, self.outcome = problem, run_name, Outcome.UPSTREAM_CRASHED

    def refuse(self, problem, outcome=Outcome.REFUSED):
        self.problem, self.outcome = problem, outcome


class Gateway:
    """`request.VisitGateway`, and the `Court` in it."""

    def __init__(self, loop):
        self.loop = loop
        self.limits = Limits()
        self.inquest = self
        self.blamed, self.suspected, self.quarantined = [], [], []

    @staticmethod
    def wall_time():
        return 1_800_000_000.0

    @staticmethod
    def server_lost():
        pass

    @staticmethod
    def leave_gate(backend, visitor):
        backend.gate.leave(visitor)

    def blame_key(self, backend, facts, loss):
        self.blamed.append(loss)

    def quarantine(self, backend, body_hash, key, suspicion, verdict):
        self.quarantined.append(verdict)
        return SimpleNamespace(code="quarantined")

    def suspect(self, body_hash, suspicion):
        self.suspected.append(suspicion)


@pytest.fixture
def gateway(timers):
    return Gateway(timers)


def visit(gateway, request, **facts):
    """A visit that has entered, and the server that it is at."""
    backend = NearBackend(replace(READY, **facts))
    return join(gateway, request, backend), backend


def join(gateway, request, backend):
    entered = Visit(request, gateway, backend)
    entered.enter()
    return entered


def newer(backend, **changes):
    """A word of the supervisor."""
    backend.update(replace(backend.facts, version=backend.facts.version + 1, **changes))


def lose(backend):
    """The connection to the server ends without an answer."""
    backend.made().listener.on_lost("reset")


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
