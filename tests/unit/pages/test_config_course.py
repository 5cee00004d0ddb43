"""The banner of a configuration: which step of a change is told."""

from __future__ import annotations

import pytest

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.status import FailureKind, LlamaStatus, Status
from supervisor_app.pages.presenters.config_course import Course, Step, course_of

CHANGED = 100.0
FAILED = failure_of(FailureKind.MODEL_MISSING)


def course(status, *, is_to_run=True, runs_it=True, **fields):
    named = LlamaStatus(name="chat", status=status, detail="What happens.", **fields)
    return course_of(named, is_to_run=is_to_run, runs_it=runs_it, changed_at=CHANGED)


@pytest.mark.parametrize("status", [Status.INITIAL, Status.STARTING, Status.STOPPING])
def test_a_server_on_its_way_restarts(status):
    assert course(status) == Course(step=Step.RESTARTING, why="What happens.")


def test_a_server_that_still_serves_as_before_is_about_to_restart():
    assert course(Status.READY, runs_it=False, started_at=1.0) == course(Status.STOPPING)


def test_a_process_of_after_the_change_is_ready_with_it():
    assert course(Status.READY, started_at=101.0, ready_at=102.0) == Course(step=Step.READY, since=102.0)


def test_a_change_that_the_process_of_before_serves_with_needed_no_restart():
    assert course(Status.READY, started_at=99.0, ready_at=99.5) == Course(step=Step.IN_FORCE)


@pytest.mark.parametrize("status", [Status.CRASHED, Status.ERROR])
def test_a_change_after_which_it_is_down_has_failed_and_says_why(status):
    assert course(status, failure=FAILED, can_roll_back=True) == Course(
        step=Step.FAILED, why="Model file missing"
    )
    assert course(status, can_roll_back=True) == Course(step=Step.FAILED, why="What happens")
    assert course(status, failure=FAILED) is None, "it was ready with this configuration once"


def test_a_server_that_does_not_run_has_it_from_the_next_start():
    waits = Course(step=Step.WAITS)
    assert course(Status.INITIAL, is_to_run=False) == waits
    assert course(Status.INITIAL, unloaded=True) == waits
