"""Bars on pages and in JSON, from rows in the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet import retention
from supervisor_app.fleet.availability import availability_of, bars_of
from supervisor_app.fleet.models import Span
from supervisor_app.fleet.uptime import Tally, Window
from tests.integration.building import make_run, make_server, make_state

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def ready(name):
    server = make_server(name, node="local")
    make_state(server, "ready")
    return server


def span(server, state, hours_ago, hours=None, **fields):
    began = NOW - timedelta(hours=hours_ago)
    ended = began + timedelta(hours=hours) if hours is not None else None
    down = state in (SpanState.CRASHED, SpanState.HUNG)
    return Span.objects.create(
        server=server, state=state, down=down, began_at=began, ended_at=ended, **fields
    )


@pytest.fixture
def crashed():
    """A server that crashed yesterday and 40 days ago."""
    server = ready("default")
    run = make_run(server, started_at=NOW - timedelta(hours=48), ended_at=NOW - timedelta(hours=10))
    span(server, SpanState.READY, 2000, 1040)
    span(server, SpanState.CRASHED, 960, 1, reason="Exited")
    span(server, SpanState.READY, 959, 949)
    span(server, SpanState.CRASHED, 10, 0.1, reason="Out of memory", run=run)
    span(server, SpanState.READY, 9.9)
    return server


def prune():
    while retention.prune("local", NOW):
        pass


@pytest.mark.parametrize("summed", [False, True])
def test_bars_are_the_same_before_and_after_their_days_are_summed(crashed, summed):
    if summed:
        prune()
    found = availability_of("default", NOW)
    day, month, year = (found.bars[window].tally for window in Window)
    assert (day.downtimes, month.downtimes, year.downtimes) == (1, 1, 2)
    assert day.down == pytest.approx(360)
    assert year.down == pytest.approx(3960)
    months = Tally.total(part.tally for part in found.months)
    assert months.downtimes == 2
    assert months.ready == pytest.approx(2000 * 3600 - 3960)
    assert [len(found.bars[window].slices) for window in Window] == [48, 30, 52]


def test_a_slice_knows_the_run_that_ended_in_it(crashed):
    bar = bars_of(["default"], Window.DAY, NOW)["default"]
    told = {(part.state, part.reason, part.run) for part in bar.slices if part.down}
    assert told == {(SpanState.CRASHED, "Out of memory", crashed.runs.get().pk)}


def test_time_of_which_nobody_reports_is_unknown():
    server = make_server("default")
    make_state(server, "ready", seen_at=NOW - timedelta(hours=3))
    span(server, SpanState.READY, 5)
    bar = bars_of(["default"], Window.DAY, NOW)["default"]
    assert bar.slices[-2].state is SpanState.UNKNOWN
    assert bar.tally.ready == pytest.approx(7200)
    assert bar.uptime == 1.0


@pytest.mark.parametrize("window", Window)
def test_bars_of_many_servers_cost_as_many_queries_as_of_one(window, crashed, django_assert_max_num_queries):
    names = ["default"]
    for number in range(20):
        server = ready(f"s{number}")
        span(server, SpanState.READY, 300, 100)
        span(server, SpanState.CRASHED, 200, 1)
        span(server, SpanState.READY, 199)
        names.append(server.name)
    prune()
    with django_assert_max_num_queries(4):
        bars = bars_of(names, window, NOW)
    assert bars.keys() == set(names)


def test_a_server_that_does_not_exist_has_no_bar():
    assert bars_of(["nobody"], Window.YEAR, NOW) == {}
    assert availability_of("nobody", NOW) is None


def test_a_server_without_spans_has_an_empty_bar(client):
    ready("default")
    assert bars_of(["default"], Window.YEAR, NOW)["default"].uptime is None
    assert b"It was not to be ready" in client.get("/servers/default/availability").content


def test_staff_are_led_to_the_run_and_everybody_sees_the_bar(crashed, client, staff_client):
    run = f"/servers/default/runs/{crashed.runs.get().pk}/"
    for path in ("/servers/default/", "/servers/default/availability"):
        assert f'href="{run}"' in staff_client.get(path).content.decode()
        shown = client.get(path).content.decode()
        assert run not in shown
        assert "1 downtime, 6 m, " in shown
    history = staff_client.get("/servers/default/runs/").content.decode()
    assert "By month" in history


def test_the_history_shows_the_runs_of_a_time(crashed, staff_client):
    day = 86400
    at = int(NOW.timestamp())
    then = staff_client.get(f"/servers/default/runs/?from={at - 2 * day}&to={at}").content.decode()
    assert "Those that lived between" in then
    assert f"/runs/{crashed.runs.get().pk}/" in then
    before = staff_client.get(
        f"/servers/default/runs/?from={at - 9 * day}&to={at - 8 * day}"
    ).content.decode()
    assert "No run is like that" in before


@pytest.mark.parametrize("query", ["from=x&to=2", "from=1", "to=99999999999&from=1"])
def test_a_time_that_is_none_is_refused_in_words(crashed, staff_client, query):
    answer = staff_client.get(f"/servers/default/runs/?{query}")
    assert answer.status_code == 400
    assert b"is no time" in answer.content


def test_programs_get_the_figures(crashed, client):
    answer = client.get("/api/servers/default/availability").json()
    assert answer["server"] == "default"
    assert answer["day"]["downtimes"] == 1
    assert answer["day"]["downSeconds"] == pytest.approx(360, abs=1)
    assert answer["day"]["sentence"].startswith("1 downtime, 6 m, ")
    assert answer["year"]["mttrSeconds"] == pytest.approx(1980, abs=1)
    assert {part["state"] for part in answer["day"]["slices"]} == {"ready", "crashed"}
    assert answer["months"][0]["downtimes"] in (0, 1)
    missing = client.get("/api/servers/nobody/availability")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_such_server")
    assert client.get("/servers/nobody/availability").status_code == 404
