"""Which stage of a request may follow which: every pair is allowed or refused."""

from __future__ import annotations

import logging
from itertools import product

import pytest

from supervisor_app.gateway.plane import stages
from supervisor_app.gateway.plane.stages import FOLLOWS, IllegalStepError, IllegalSteps, Stage, step

ALLOWED = {
    ("HEAD", "DOOR"),
    ("HEAD", "OWN"),
    ("DOOR", "ROUTE"),
    ("DOOR", "ATTEMPT"),
    ("ROUTE", "GATE"),
    ("GATE", "GATE"),
    ("GATE", "ATTEMPT"),
    ("ATTEMPT", "GATE"),
    ("ATTEMPT", "ATTEMPT"),
    ("ATTEMPT", "LOST"),
    ("ATTEMPT", "COMMIT"),
    ("LOST", "ATTEMPT"),
    *((stage.name, "OVER") for stage in Stage if stage is not Stage.OVER),
}
PAIRS = list(product(Stage, Stage))


@pytest.fixture
def production(monkeypatch):
    """As it is where no test looks."""
    steps = IllegalSteps()
    monkeypatch.setattr(stages, "illegal_steps", steps)
    return steps


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda stage: stage.name)
def test_each_step_is_allowed_or_refused(before, after):
    if (before.name, after.name) in ALLOWED:
        assert step(before, after) is after
    else:
        with pytest.raises(IllegalStepError, match=f"{after.name} after {before.name}"):
            step(before, after)


def test_every_phase_is_in_the_table_and_can_be_reached():
    assert set(FOLLOWS) == set(Stage)
    assert {Stage.HEAD}.union(*FOLLOWS.values()) == set(Stage)


def test_nothing_follows_the_end_and_the_end_may_follow_everything_else():
    assert not FOLLOWS[Stage.OVER]
    assert all(Stage.OVER in FOLLOWS[stage] for stage in Stage if stage is not Stage.OVER)


def test_after_the_first_content_no_request_is_sent_again():
    assert FOLLOWS[Stage.COMMIT] == {Stage.OVER}


def test_in_production_an_illegal_step_is_taken_and_logged_once(production, caplog):
    with caplog.at_level(logging.ERROR):
        assert step(Stage.HEAD, Stage.COMMIT) is Stage.COMMIT
        assert step(Stage.HEAD, Stage.COMMIT) is Stage.COMMIT
    assert [record.message for record in caplog.records] == [
        "❌ [GATEWAY] A request went from HEAD to COMMIT. This is a mistake in llamaproxy."
    ]


def test_in_production_a_request_that_is_over_stays_over(production):
    assert step(Stage.OVER, Stage.ATTEMPT) is Stage.OVER
    assert step(Stage.OVER, Stage.OVER) is Stage.OVER
