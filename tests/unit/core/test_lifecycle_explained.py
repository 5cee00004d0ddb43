"""Deaths that a request explains use up no retry, and a server may be tried for ever."""

from __future__ import annotations

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle import Phase, Policy
from supervisor_app.core.sightings import Identity
from supervisor_app.core.spec import LaunchSpec, RestartPolicy
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.wording import last_error, sentence
from tests.unit.core.deciding import CORRUPT, MODEL, Server

SPEC = LaunchSpec(host="localhost", port=1, command=("llama-server",), args=())
FOR_EVER = Policy(restart=RestartPolicy(max_retries=2, max_backoff_ms=30_000, retry_forever=True))


class Mortal(Server):
    """A world in which each process has a pid of its own, 1, 2 and so on."""

    lives = 0

    def lives_and_dies(self, times: int = 1) -> Mortal:
        for _ in range(times):
            if self.state.phase is Phase.BACKOFF:
                self.to_next_deadline()
            self.lives += 1
            self.send(lifecycle.Start()).send(lifecycle.Inspected(self.state.attempt, None))
            born = Identity(pid=self.lives, start=1, boot_id="b")
            self.send(lifecycle.Spawned(self.state.attempt, born)).healthy()
            self.send(lifecycle.ModelsRead(self.state.attempt, (MODEL,))).dies(signal=11)
        return self

    def explained(self, *pids: int) -> Mortal:
        self.send(lifecycle.Explained(frozenset(pids)))
        return self

    @property
    def detail(self) -> str:
        return sentence(self.state, self.policy, SPEC)


@pytest.mark.parametrize(("pids", "left"), [((), 3), ((9,), 3), ((2,), 2), ((1, 2, 3), 0)])
def test_a_death_that_is_explained_gives_its_retry_back(pids, left):
    assert Mortal().lives_and_dies(3).explained(*pids).state.retries == left


def test_a_retry_is_given_back_once():
    assert Mortal().lives_and_dies(3).explained(1).explained(1).state.retries == 2


def test_the_pause_becomes_as_short_as_it_would_have_been():
    server = Mortal().lives_and_dies(4)
    assert server.state.retry_at - server.now == 8
    server.explained(1, 2, 3, 4)
    assert server.state.retry_at - server.now == 1
    assert server.detail.startswith("A request that killed it is in quarantine. ")
    assert server.detail.endswith("It starts again after 1 s.")


def test_an_explanation_that_comes_while_a_server_serves_changes_only_the_count():
    server = Mortal().lives_and_dies(2).to_next_deadline()
    before = server.where
    server.explained(1, 2)
    assert (server.where, server.state.retries, server.state.note) == (before, 0, "")


def test_a_server_that_was_given_up_starts_again_when_explained():
    server = Mortal(Policy(restart=RestartPolicy(max_retries=2))).lives_and_dies(3)
    assert server.where == (Status.ERROR, Phase.IDLE)
    server.explained(3)
    assert server.where == (Status.STARTING, Phase.INSPECTING)
    assert server.state.retries == 2
    assert "It died 1 time of it, which uses up no retry." in server.logs()[0]


def test_a_permanent_failure_is_not_explained_by_requests():
    server = Mortal().lives_and_dies(1).to_next_deadline()
    server.send(lifecycle.Inspected(server.state.attempt, None))
    server.send(lifecycle.SpawnFailed(server.state.attempt, CORRUPT))
    assert server.explained(1).where == (Status.ERROR, Phase.IDLE)


def test_deaths_of_a_time_before_are_not_counted():
    server = Mortal().lives_and_dies(2)
    server.send(lifecycle.Start())
    assert server.explained(1, 2).state.retries == 0
    assert not server.effects


def test_deaths_that_the_last_supervisor_counted_can_be_explained():
    server = Mortal().send(lifecycle.Continue(False, 2, None, (7, 8)))
    assert server.explained(7).state.retries == 1
    given_up = Mortal().send(lifecycle.Continue(True, 5, failure_of(FailureKind.EXITED), (6, 7, 8)))
    assert given_up.explained(8).where == (Status.STARTING, Phase.INSPECTING)


def test_a_server_to_be_tried_for_ever_is_tried_slowly_after_its_retries():
    server = Mortal(FOR_EVER).lives_and_dies(3)
    for _ in range(3):
        assert server.where == (Status.CRASHED, Phase.BACKOFF)
        assert server.state.retry_at - server.now == 300
        assert server.detail.endswith(
            "Its 2 retries are used up: it is tried again every 5 m (retry_forever)."
        )
        assert "🔄 It is tried again every 5 m (retry_forever)" in server.logs()
        assert "retry" not in (last_error(server.state, server.policy) or "")
        server.to_next_deadline()
        assert server.detail.startswith("Its 2 retries are used up, one more try: ")
        server.lives_and_dies()


def test_a_server_that_the_last_supervisor_gave_up_is_tried_slowly_too():
    server = Mortal(FOR_EVER).send(lifecycle.Continue(True, 2, failure_of(FailureKind.EXITED)))
    assert server.where == (Status.CRASHED, Phase.BACKOFF)
    assert Mortal(FOR_EVER).send(lifecycle.Continue(True, 2, None)).where == (Status.CRASHED, Phase.BACKOFF)
    assert Mortal(FOR_EVER).send(lifecycle.Continue(True, 0, CORRUPT)).where == (Status.ERROR, Phase.IDLE)


def test_a_permanent_failure_waits_for_its_cause_all_the_same():
    server = Mortal(FOR_EVER).send(lifecycle.Start()).send(lifecycle.Inspected(1, None))
    server.send(lifecycle.SpawnFailed(1, CORRUPT))
    assert server.where == (Status.ERROR, Phase.IDLE)
    assert server.state.cause_at is not None
