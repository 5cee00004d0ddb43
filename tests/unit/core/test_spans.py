"""How long a server was what, as its supervisor tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.changes import Remembered
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.spans import SpanLog, SpanState, span_of
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config, make_spec, stranger
from tests.unit.core.supervising import SURVIVOR, bench

HUNG = failure_of(FailureKind.HUNG, "nothing moved")
EXITED = failure_of(FailureKind.EXITED, "exit code 1")


def spans(b):
    return [span for change in b.store.changes for span in change.spans]


def states(b) -> list[str]:
    return [span.state.value for span in spans(b)]


@pytest.mark.parametrize(
    ("status", "failure", "unloaded", "expected"),
    [
        (Status.READY, None, False, (SpanState.READY, False)),
        (Status.STARTING, None, False, (SpanState.STARTING, False)),
        (Status.STARTING, EXITED, False, (SpanState.STARTING, True)),
        (Status.CRASHED, EXITED, False, (SpanState.CRASHED, True)),
        (Status.ERROR, EXITED, False, (SpanState.CRASHED, True)),
        (Status.CRASHED, None, False, (SpanState.CRASHED, True)),
        (Status.CRASHED, HUNG, False, (SpanState.HUNG, True)),
        (Status.STOPPING, None, False, (SpanState.STOPPED, False)),
        (Status.INITIAL, EXITED, False, (SpanState.STOPPED, False)),
        (Status.INITIAL, None, True, (SpanState.UNLOADED, False)),
        (Status.STOPPING, None, True, (SpanState.UNLOADED, False)),
    ],
)
def test_a_status_means_a_span(status, failure, unloaded, expected):
    began = span_of(status, failure, unloaded=unloaded, at=7.0)
    assert (began.state, began.down) == expected
    assert began.at == 7.0


async def test_a_crash_and_its_restart_are_downtime_with_the_reason():
    async with bench() as b:
        await b.crash_and_recover()
        assert states(b) == ["starting", "ready", "crashed", "starting", "ready"]
        assert [span.down for span in spans(b)] == [False, False, True, True, False]
        assert spans(b)[2].reason == spans(b)[3].reason == "Ended by a signal"


def down_since(log, *steps):
    """Follow statuses, a minute after each other, with the failure of those that have one."""
    for minute, (status, failure) in enumerate(steps, start=1):
        log.follow(status, failure, unloaded=False, now=60.0 * minute)
    return log.down_since


START, REFUSED = (Status.STARTING, None), (Status.ERROR, EXITED)


def test_a_server_that_never_ran_is_down_since_it_was_refused():
    assert down_since(SpanLog(), START, REFUSED) == 120.0


def test_tries_that_get_nowhere_do_not_end_the_time_in_which_it_is_down():
    again = (Status.STARTING, EXITED)
    assert down_since(SpanLog(), (Status.CRASHED, EXITED), again, (Status.CRASHED, EXITED), again) == 60.0
    assert down_since(SpanLog(), START, REFUSED, START, REFUSED) == 120.0
    assert down_since(SpanLog(down_since=7.0), START, REFUSED) == 7.0


@pytest.mark.parametrize("end", [Status.READY, Status.STOPPING, Status.INITIAL])
def test_a_server_that_is_ready_or_stopped_is_not_down(end):
    assert down_since(SpanLog(), REFUSED, (end, None)) is None
    assert down_since(SpanLog(), REFUSED, (end, None), START, REFUSED) == 240.0


def refusing(b) -> None:
    b.processes.spawn_failure = failure_of(FailureKind.BINARY_MISSING, "llama-server")


async def test_everybody_is_told_since_when_a_server_is_down_also_by_the_next_supervisor():
    async with bench(prepare=refusing) as b:
        assert b.status.status is Status.ERROR
        since = b.status.down_since
        assert since is not None
    async with bench(remembered=Remembered(status=Status.ERROR, down_since=since), prepare=refusing) as b:
        assert (b.status.status, b.status.down_since) == (Status.ERROR, since)


def remembered(**changes) -> Remembered:
    values = {
        "status": Status.READY,
        "generation": 1,
        "identity": SURVIVOR,
        "run_open": True,
        "argv": make_spec().argv,
        "seen_at": 500.0,
    }
    return Remembered(**{**values, **changes})


async def test_a_process_that_lives_on_was_ready_all_the_time():
    def survivor(b) -> None:
        b.processes.survivors[SURVIVOR] = stranger(llama=True, pid=77)

    async with bench(remembered=remembered(), prepare=survivor) as b:
        assert states(b) == ["ready"]
        assert spans(b)[0].unknown_since is None


async def test_a_survivor_that_is_gone_a_moment_later_is_not_called_ready():
    def just_gone(b) -> None:
        b.processes.survivors[SURVIVOR] = replace(stranger(llama=True, pid=77), command="gone")

    async with bench(remembered=remembered(), prepare=just_gone) as b:
        assert states(b) == ["crashed", "starting"]


async def test_nobody_knows_what_was_until_a_process_that_ended_unseen_is_replaced():
    async with bench(remembered=remembered()) as b:
        assert states(b) == ["starting", "ready"]
        assert [span.unknown_since for span in spans(b)] == [500.0, None]


async def test_a_server_without_a_process_stayed_what_it_was():
    stopped = remembered(run_open=False, identity=None, status=Status.INITIAL)
    async with bench(make_config(desired_running=False), stopped) as b:
        assert states(b) == ["stopped"]
        assert spans(b)[0].unknown_since is None
