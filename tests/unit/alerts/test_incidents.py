"""What one incident is, what is told of it and in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.alerts.rules import (
    DOWN,
    GIVE_UP_SECONDS,
    IT_IS_DOWN,
    Alert,
    AlertEvent,
    Incident,
    IncidentEnd,
    Step,
    choose,
    follow,
    hold_back,
    is_muted,
    retry_delay,
    write,
    write_test,
)
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.status import FailureKind, LlamaStatus, Status

NOW = 1_750_000_000.0
CRASHED, HUNG, GIVEN_UP, RECOVERED = (
    AlertEvent.CRASHED,
    AlertEvent.HUNG,
    AlertEvent.GIVEN_UP,
    AlertEvent.RECOVERED,
)
DEATH = failure_of(FailureKind.OUT_OF_MEMORY, "failed to allocate 5.1 GiB")
HANG = failure_of(FailureKind.HUNG, "it missed 3 health checks in a row")
ALL = frozenset({CRASHED, HUNG, GIVEN_UP, RECOVERED})


def snapshot(status, failure=None, **fields):
    if failure is None and status in DOWN:
        failure = DEATH
    return LlamaStatus(name="default", status=status, failure=failure, **fields)


def step(incident, status, *, now=NOW, wanted=True, failure=None, stable=60.0, **more):
    fields = {name: more.pop(name) for name in ("ready_at", "detail", "retries") if name in more}
    return follow(
        incident, snapshot(status, failure, **fields), now=now, wanted=wanted, stable_seconds=stable, **more
    )


def after(*statuses, incident=None, now=NOW):
    """The incident after these, a second apart."""
    for number, status in enumerate(statuses):
        incident = step(incident, status, now=now + number).incident
    return incident


# --- When it begins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.INITIAL, Status.STARTING, Status.READY, Status.STOPPING])
@pytest.mark.parametrize("wanted", [True, False])
def test_while_nothing_is_wrong_there_is_no_incident(status, wanted):
    assert step(None, status, wanted=wanted).incident is None


def test_a_crash_opens_one():
    opened = step(None, Status.CRASHED)
    assert opened.due == (CRASHED,)
    assert (opened.incident.opened_at, opened.incident.failure) == (NOW, DEATH)
    assert (opened.incident.worst, opened.ending) == (Status.CRASHED, None)


def test_a_hang_opens_one_by_its_own_name():
    assert step(None, Status.CRASHED, failure=HANG).due == (HUNG,)


def test_a_permanent_failure_is_down_and_given_up_at_once():
    opened = step(None, Status.ERROR)
    assert opened.due == (CRASHED, GIVEN_UP)
    assert opened.incident.worst is Status.ERROR


def test_a_crash_of_an_unknown_cause_is_one_too():
    opened = follow(
        None, LlamaStatus(name="x", status=Status.CRASHED), now=NOW, wanted=True, stable_seconds=60
    )
    assert (opened.due, opened.incident.failure) == ((CRASHED,), None)


def test_a_death_that_no_snapshot_shows_opens_one_at_its_own_time():
    opened = step(None, Status.READY, death=DEATH, died_at=NOW - 10, ready_at=NOW - 4)
    assert opened.due == (CRASHED,)
    assert (opened.incident.opened_at, opened.incident.recovered_at) == (NOW - 10, NOW - 4)
    assert opened.incident.lasted(NOW) == 6


def test_a_death_of_a_server_that_nobody_wants_to_run_opens_no_incident():
    assert step(None, Status.INITIAL, wanted=False, death=DEATH, died_at=NOW).incident is None


# --- How it goes on ------------------------------------------------------------------------------------


def test_nothing_is_said_twice_however_often_a_server_flaps():
    incident = after(Status.CRASHED)
    for number in range(10):
        for status in (Status.STARTING, Status.READY, Status.CRASHED):
            now = NOW + number
            went_on = step(incident, status, now=now)
            incident = went_on.incident
            assert (went_on.due, went_on.ending) == ((), None)
    assert incident.opened_at == NOW


def test_given_up_is_said_once():
    first = step(after(Status.CRASHED), Status.ERROR)
    assert first.due == (GIVEN_UP,)
    again = after(Status.STARTING, Status.CRASHED, incident=first.incident)
    assert step(again, Status.ERROR).due == ()


def test_the_latest_failure_is_kept():
    assert step(after(Status.CRASHED), Status.CRASHED, failure=HANG).incident.failure is HANG


def test_the_worst_status_stays():
    assert after(Status.CRASHED, Status.ERROR, Status.STARTING, Status.CRASHED).worst is Status.ERROR


@pytest.mark.parametrize("relapse", [Status.STARTING, Status.CRASHED, Status.ERROR])
def test_ready_begins_a_wait_that_ends_when_the_server_is_down_again(relapse):
    up = after(Status.CRASHED, Status.STARTING, Status.READY)
    assert (up.recovered_at, up.closes_at) == (NOW + 2, NOW + 62)
    down = step(up, relapse, now=NOW + 10).incident
    assert (down.recovered_at, down.closes_at) == (None, None)


def test_staying_ready_does_not_begin_the_wait_again():
    up = after(Status.CRASHED, Status.READY)
    assert step(up, Status.READY, now=NOW + 30).incident == up


def test_an_incident_is_settled_once_its_server_was_ready_for_long_enough():
    up = after(Status.CRASHED, Status.READY)
    assert [up.settled(NOW + 60.9), up.settled(NOW + 61)] == [False, True]
    assert not after(Status.CRASHED).settled(NOW + 10**6)


@pytest.mark.parametrize("status", [Status.STOPPING, Status.INITIAL])
def test_a_restart_or_the_end_of_the_supervisor_does_not_end_an_incident(status):
    down = after(Status.CRASHED)
    assert step(down, status, wanted=True) == step(down, status, wanted=True)
    assert step(down, status, wanted=True).incident == down


# --- How it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.STOPPING, Status.INITIAL])
def test_a_stop_while_a_server_is_down_ends_its_incident_in_silence(status):
    stopped = step(after(Status.CRASHED), status, wanted=False)
    assert (stopped.due, stopped.ending) == ((), IncidentEnd.STOPPED)


def test_a_stop_just_after_a_server_came_up_ends_its_incident_as_recovered():
    stopped = step(after(Status.CRASHED, Status.READY), Status.STOPPING, wanted=False)
    assert (stopped.due, stopped.ending) == ((RECOVERED,), IncidentEnd.RECOVERED)


def test_an_incident_lasted_until_its_server_was_ready():
    assert after(Status.CRASHED, Status.STARTING, Status.READY).lasted(NOW + 60) == 2
    assert after(Status.CRASHED).lasted(NOW + 60) == 60


def test_a_clock_that_was_set_back_makes_no_negative_time():
    assert after(Status.CRASHED).lasted(NOW - 60) == 0
    assert step(after(Status.CRASHED), Status.READY, ready_at=NOW - 60).incident.recovered_at == NOW


# --- Whom to tell --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "wants", "heard", "told"),
    [
        ([CRASHED], ALL, [], CRASHED),
        ([CRASHED], {RECOVERED}, [], None),
        ([CRASHED, GIVEN_UP], ALL, [], GIVEN_UP),
        ([CRASHED, GIVEN_UP], {CRASHED, RECOVERED}, [], CRASHED),
        ([GIVEN_UP], ALL, [CRASHED], GIVEN_UP),
        ([GIVEN_UP], ALL, [GIVEN_UP], None),
        ([HUNG], ALL, [CRASHED], None),
        ([CRASHED], ALL, [HUNG], None),
        ([CRASHED], ALL, [GIVEN_UP], None),
        ([RECOVERED], ALL, [CRASHED, GIVEN_UP], RECOVERED),
        ([RECOVERED], ALL, [RECOVERED], None),
        ([], ALL, [], None),
    ],
)
def test_a_channel_hears_the_heaviest_that_it_wants_and_does_not_know(due, wants, heard, told):
    assert choose(due, wants, heard) is told


# --- Whatever happens ----------------------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(list(Status)),
        st.sampled_from([DEATH, HANG]),
        st.booleans(),  # wanted
        st.booleans(),  # it also died in between
        st.integers(0, 90),  # seconds since the last
    ),
    max_size=60,
)
WISHES = st.frozensets(st.sampled_from(sorted(ALL)))


@given(MOVES, WISHES)
def test_in_every_incident_each_event_is_told_once_at_most_and_in_order(moves, wants):
    now, incident, told = NOW, None, []
    for status, failure, wanted, died, seconds in moves:
        now += seconds
        if incident is not None and incident.settled(now):
            told.append(choose([RECOVERED], wants, told))
            check(told, wants)
            incident, told = None, []
        died_at = now if died else None
        death = failure if died else None
        taken = step(incident, status, failure=failure, now=now, wanted=wanted, death=death, died_at=died_at)
        incident = taken.incident
        told.append(choose(taken.due, wants, told))
        check(told, wants)
        if taken.ending is not None:
            assert not wanted
            incident, told = None, []
        if status in DOWN and (wanted or incident is not None):
            assert incident is not None, "what is down has an incident"
            assert incident.recovered_at is None
        if incident is not None:
            assert (incident.recovered_at is None) == (incident.closes_at is None)
            assert incident.opened_at <= now


def check(told, wants):
    heard = [event for event in told if event is not None]
    assert len(heard) == len(set(heard)), "each once"
    assert sum(event in IT_IS_DOWN for event in heard) <= 1, "down is said once"
    assert set(heard) <= wants
    if RECOVERED in heard:
        assert heard[-1] is RECOVERED, "nothing after the good news"


# --- Trying again --------------------------------------------------------------------------------------


def test_the_pause_between_tries_doubles_from_a_minute_to_an_hour():
    minutes = [retry_delay(attempts) / 60 for attempts in range(1, 10)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert retry_delay(10**6) == 3600
    assert GIVE_UP_SECONDS == 86400


# --- Words ---------------------------------------------------------------------------------------------


def alert(event, status=Status.CRASHED, *, incident=None, now=NOW, secrets=(), **fields) -> Alert:
    incident = incident or Incident(opened_at=NOW - 130, failure=DEATH, worst=status)
    return write(
        event, incident, snapshot(status, **fields), number=7, node="local", now=now, secrets=secrets
    )


def test_down_says_why_what_happens_next_and_what_to_do():
    said = alert(CRASHED, detail="Out of memory: failed. Retry 2 of 5 after 4 s.")
    assert said.title == "default is down"
    assert said.text == f"default is down: Out of memory: failed. Retry 2 of 5 after 4 s.\n{DEATH.hint}"


def test_down_that_is_over_already_says_both():
    said = alert(HUNG, Status.STARTING, detail="Starting llama-server.")
    assert said.title == "default went down"
    assert said.text.startswith(f"default went down: {DEATH.sentence}. Now: Starting llama-server.")


@pytest.mark.parametrize(
    ("retries", "words"), [(5, "after 5 retries"), (1, "after 1 retry"), (0, "without a retry")]
)
def test_given_up_counts_the_retries(retries, words):
    said = alert(GIVEN_UP, Status.ERROR, retries=retries)
    assert said.text == f"default was given up {words}: {DEATH.sentence}.\n{DEATH.hint}"


def test_a_recovery_says_how_long_the_server_was_down():
    over = Incident(opened_at=NOW - 200, failure=DEATH, worst=Status.CRASHED, recovered_at=NOW - 70)
    said = alert(RECOVERED, Status.READY, incident=over)
    assert (said.text, said.duration_seconds) == ("default is up again after 2 m 10 s.", 130)


def test_still_down_says_for_how_long():
    said = alert(AlertEvent.STILL_DOWN, now=NOW - 130 + 7500)
    assert said.text.startswith("default is still down, for 2 h 05 m now: Out of memory")


def test_a_cause_that_nobody_knows_is_no_obstacle():
    unknown = Incident(opened_at=NOW, failure=None, worst=Status.ERROR)
    assert alert(GIVEN_UP, incident=unknown).text == "default was given up without a retry: Nobody knows why."
    assert alert(GIVEN_UP, incident=unknown).as_json()["failure"] is None


def test_a_failure_without_a_hint_ends_with_its_sentence():
    bare = Incident(opened_at=NOW, failure=replace(DEATH, hint=""), worst=Status.ERROR)
    assert alert(GIVEN_UP, incident=bare).text.endswith("5.1 GiB.")


def test_secrets_in_the_decisive_line_do_not_leave_the_house():
    leaky = replace(DEATH, detail="error: --api-key sesame-open was refused, token=abcdefgh")
    said = alert(
        GIVEN_UP,
        incident=Incident(opened_at=NOW, failure=leaky, worst=Status.ERROR),
        secrets=["sesame-open"],
    )
    assert "sesame" not in str(said.as_json())
    assert "abcdefgh" not in str(said.as_json())


def test_the_body_of_the_webhook():
    body = alert(CRASHED, detail="D.").as_json()
    assert body == {
        "event": "crashed",
        "server": "default",
        "node": "local",
        "incident": 7,
        "status": "crashed",
        "failure": DEATH.as_json(),
        "since": "2025-06-15T15:04:30.000Z",
        "at": "2025-06-15T15:06:40.000Z",
        "duration_seconds": 130,
        "url": "",
        "title": "default is down",
        "text": f"default is down: D.\n{DEATH.hint}",
    }


def test_the_test_says_that_nothing_is_wrong():
    body = write_test("ops", node="local", now=NOW).as_json()
    assert (body["event"], body["incident"], body["failure"]) == ("test", None, None)
    assert "ops" in body["text"]
    assert "Nothing is wrong" in body["text"]


# --- What people have muted ----------------------------------------------------------------------------


@pytest.mark.parametrize(("today", "above", "muted"), [(1, 5, True), (5, 5, True), (6, 5, False)])
def test_a_crash_is_muted_up_to_the_number_of_a_day(today, above, muted):
    assert is_muted(today, above) is muted


def test_a_crash_that_is_held_back_may_be_told_the_next_time():
    held = hold_back(step(None, Status.CRASHED))
    assert (held.due, held.incident.said) == ((), frozenset())
    assert step(held.incident, Status.CRASHED).due == (CRASHED,)


def test_giving_up_is_never_held_back():
    held = hold_back(step(None, Status.ERROR))
    assert (held.due, held.incident.said) == ((GIVEN_UP,), {GIVEN_UP})


def test_where_nothing_has_happened_nothing_is_held_back():
    assert hold_back(Step(incident=None)) == Step(incident=None)
