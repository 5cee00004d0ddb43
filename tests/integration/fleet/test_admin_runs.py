"""The history of a server in the admin: to read, to filter, for nobody to write."""

from __future__ import annotations

import pytest
from django.forms.models import model_to_dict

from supervisor_app.fleet.models import Run
from tests.integration.admin_pages import RUNS, page_at
from tests.integration.building import (
    OUT_OF_MEMORY,
    long_ago,
    make_run,
    make_server,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def run():
    server = make_server()
    return make_run(
        server,
        exit_code=1,
        retry=2,
        pid=4242,
        argv=["llama-server", "--alias", "my model"],
        failure_kind="out_of_memory",
        failure_title=OUT_OF_MEMORY.title,
        failure_detail=OUT_OF_MEMORY.detail,
        failure_hint=OUT_OF_MEMORY.hint,
        last_lines="line one\n<script>alert('no')</script>\n\x1b[31mred\x1b[0m",
    )


def test_nobody_writes_history(run, staff_client):
    one = f"{RUNS}{run.pk}/"
    assert staff_client.get(f"{RUNS}add/").status_code == 403
    assert staff_client.post(f"{RUNS}add/").status_code == 403
    assert staff_client.post(f"{one}change/", model_to_dict(run, ["retry"])).status_code == 403
    assert staff_client.get(f"{one}delete/").status_code == 403
    assert staff_client.post(f"{one}delete/", {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"}
    staff_client.post(RUNS, data)
    assert Run.objects.exists()


def test_a_run_is_shown_with_all_that_explains_it(run, staff_client):
    shown = page_at(staff_client, f"{RUNS}{run.pk}/change/")
    for words in (
        "exit code 1",
        "Out of memory",
        "failed to allocate 5.1 GiB",
        "Try a smaller context (-c) or model.",
        "1 m 00 s",
        "llama-server --alias 'my model'",
        "line one",
        "4242",
    ):
        assert words in shown, words


def test_the_last_lines_are_shown_escaped(run, staff_client):
    raw = staff_client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "<script>alert" not in raw
    assert "&lt;script&gt;alert" in raw


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ended_at": None}, "runs"),
        ({"exit_code": 0}, "exit code 0"),
        ({"signal": 9}, "signal 9 (SIGKILL)"),
        ({"adopted": True}, "unknown"),  # not our child: nobody told us
    ],
)
def test_how_a_run_ended_in_words(fields, words, staff_client):
    run = make_run(make_server(), **fields)
    assert f'<td class="field-ended">{words}</td>' in page_at(staff_client, RUNS)
    assert words in page_at(staff_client, f"{RUNS}{run.pk}/change/")


def test_a_run_that_nobody_started_and_that_said_nothing(staff_client):
    shown = page_at(staff_client, f"{RUNS}{make_run(make_server(), adopted=True).pk}/change/")
    assert "not started by us" in shown
    assert "none" in shown


def test_the_uptime_of_an_open_run_goes_on(staff_client):
    make_run(make_server(), started_at=long_ago(), ended_at=None)
    assert "1 h 00 m" in page_at(staff_client, RUNS)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 3),
        ({"server__id__exact": "{server}"}, 2),
        ({"failure_kind__exact": "hung"}, 1),
        ({"adopted__exact": "1"}, 1),
        ({"signal": "9"}, 1),
        ({"exit_code": "1"}, 1),
        ({"started_at__year": "2025"}, 3),
        ({"started_at__gte": "2030-01-01 00:00:00+00:00"}, 0),
        ({"q": "needle"}, 1),
        ({"q": "no such words"}, 0),
    ],
)
def test_history_is_filtered_and_searched(query, count, staff_client):
    server = make_server()
    make_run(server, failure_kind="hung", last_lines="a needle in it")
    make_run(server, signal=9, adopted=True)
    make_run(make_server("other"), exit_code=1)
    query = {key: value.format(server=server.pk) for key, value in query.items()}
    answer = staff_client.get(RUNS, query)
    assert answer.status_code == 200
    assert answer.context["cl"].result_count == count


def test_a_long_history_costs_the_same(staff_client, django_assert_max_num_queries):
    server = make_server()
    for _ in range(50):
        make_run(server)
    with django_assert_max_num_queries(16):
        page_at(staff_client, RUNS)
