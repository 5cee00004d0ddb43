"""Spans on a real database: one story with the state, days that are summed, rows that are bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from supervisor_app.core.spans import SpanBegan, SpanState
from supervisor_app.fleet import retention, span_record
from supervisor_app.fleet.models import Span, SpanDay
from tests.integration.building import at, make_run, make_server

pytestmark = pytest.mark.django_db

DAY = 86400.0
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
NOON = NOW.timestamp()
READY, CRASHED, STARTING = SpanState.READY, SpanState.CRASHED, SpanState.STARTING


@pytest.fixture
def server():
    return make_server(node="local")


def began(state, when, **fields):
    return SpanBegan(at=when, state=state, down=state is CRASHED, **fields)


def told(server):
    return [
        (span.state, span.began_at.timestamp(), span.ended_at and span.ended_at.timestamp())
        for span in server.spans.all()
    ]


def prune(now=NOW):
    while retention.prune("local", now):
        pass


def test_spans_follow_each_other(server):
    span_record.record(server, [began(STARTING, 100), began(READY, 103), began(CRASHED, 200)])
    assert told(server) == [("starting", 100, 103), ("ready", 103, 200), ("crashed", 200, None)]


def test_a_server_has_one_open_span(server):
    span_record.record(server, [began(READY, 100)])
    with pytest.raises(IntegrityError), transaction.atomic():
        server.spans.create(state=READY, began_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        server.spans.create(state=READY, began_at=NOW, ended_at=NOW - timedelta(seconds=1))


def test_a_crash_names_the_run_that_ended_so(server):
    run = make_run(server, started_at=at(50), ended_at=at(199.99), failure_kind="exited")
    span_record.record(server, [began(READY, 100), began(CRASHED, 200, reason="Exited")])
    down = server.spans.open().get()
    assert (down.run, down.reason) == (run, "Exited")
    run.delete()
    assert server.spans.open().get().run is None


def test_a_start_without_a_process_names_no_run(server):
    make_run(server, started_at=at(50), ended_at=at(90))
    span_record.record(server, [began(STARTING, 100), began(CRASHED, 200)])
    assert server.spans.open().get().run is None


def test_a_clock_that_was_ahead_is_set_right(server):
    ahead = NOON + 400 * DAY
    span_record.record(server, [began(READY, NOON - 60), began(CRASHED, ahead), began(READY, ahead + 5)])
    span_record.record(server, [began(CRASHED, NOON)])
    assert told(server) == [("ready", NOON - 60, NOON), ("crashed", NOON, None)]


def test_days_that_are_over_are_summed_once(server):
    midnight = NOON - DAY / 2
    span_record.record(
        server,
        [
            began(READY, midnight - 3 * DAY + 10),
            began(CRASHED, midnight - DAY - 60, reason="Exited"),
            began(READY, midnight - DAY + 60),
            began(CRASHED, midnight + 5),
        ],
    )
    prune()
    prune()
    days = [
        (day.day.day, day.worst, day.downtimes, round(day.down_seconds))
        for day in SpanDay.objects.order_by("day")
    ]
    assert days == [(7, "ready", 0, 0), (8, "crashed", 1, 60), (9, "crashed", 0, 60)]
    assert [span.summed for span in server.spans.all()] == [True, True, False, False]
    assert SpanDay.objects.get(day__day=7).seconds == {"ready": DAY - 10}
    prune(NOW + timedelta(days=1))
    assert SpanDay.objects.count() == 4


def test_days_are_summed_again_when_they_were_told_wrongly(server):
    """The supervisor was away for two days, and the first thing it did was to sum them."""
    span_record.record(server, [began(READY, NOON - 3 * DAY)])
    prune()
    assert SpanDay.objects.get(day__day=9).worst == "ready"
    span_record.record(server, [began(STARTING, NOON, unknown_since=NOON - 2 * DAY)])
    prune()
    assert [day.worst for day in SpanDay.objects.order_by("day")] == ["ready", "unknown", "unknown"]


def test_days_of_a_clock_that_was_ahead_are_forgotten(server):
    span_record.record(server, [began(READY, NOON)])
    prune(NOW + timedelta(days=30))
    assert SpanDay.objects.count() == 30
    prune(NOW)
    assert SpanDay.objects.count() == 0


def test_a_server_that_flaps_every_second_fills_no_table(server, monkeypatch):
    monkeypatch.setattr(span_record, "CROWD", 10)
    for second in range(0, 400, 2):
        span_record.record(server, [began(CRASHED, NOON + second), began(READY, NOON + second + 1)])
    assert server.spans.count() <= 12
    span_record.record(server, [began(CRASHED, NOON + 500)])
    assert told(server)[-2:] == [("ready", NOON + 399, NOON + 500), ("crashed", NOON + 500, None)]


def test_old_spans_and_too_many_are_deleted(server, monkeypatch):
    monkeypatch.setattr(span_record, "SPANS_KEPT", 5)
    span_record.record(server, [began(READY, NOON - 500 * DAY), began(CRASHED, NOON - 450 * DAY)])
    for hours in range(100, 0, -2):
        span_record.record(
            server, [began(READY, NOON - 3600 * hours), began(CRASHED, NOON - 3600 * hours + 1800)]
        )
    prune()
    assert SpanDay.objects.order_by("day").first().day == (NOW - timedelta(days=400)).date()
    kept = Span.objects.filter(server=server)
    assert not kept.filter(ended_at__lt=NOW - timedelta(days=1), summed=False).exists()
    assert not kept.filter(began_at__lt=NOW - timedelta(days=2)).exists()


def test_another_node_s_spans_are_left_alone(server):
    other = make_server("other", node="elsewhere")
    span_record.record(other, [began(READY, NOON - 3 * DAY)])
    prune()
    assert not SpanDay.objects.exists()
