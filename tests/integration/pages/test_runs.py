"""The history of a server: its crashes by cause, what staff say of them, and the search among its runs."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from supervisor_app.fleet.models import CrashMark, Run
from supervisor_app.fleet.run_search import SHOWN
from tests.integration.building import OUT_OF_MEMORY, STARTED, at, make_run, make_server

pytestmark = pytest.mark.django_db

RUNS = "/servers/default/runs/"
ARGV = ["llama-server", "-m", "/srv/m.gguf", "-c", "8192"]


@pytest.fixture
def server():
    return make_server()


def died(server, line="failed to allocate CPU buffer of size 12", ago=1.0, **fields):
    """A run that died so many hours ago."""
    ended = timezone.now() - timedelta(hours=ago)
    told = {"failure_kind": "out_of_memory", "failure_title": OUT_OF_MEMORY.title, "failure_detail": line}
    return make_run(
        server,
        **{
            "started_at": ended - timedelta(minutes=1),
            "ended_at": ended,
            "exit_code": 1,
            "argv": ARGV,
            "build": "b11669",
            "evidence": {"decisive": line},
            **told,
            **fields,
        },
    )


def text(answer):
    assert answer.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


def mark(client, run, do, **said):
    return client.post(f"{RUNS}{run.pk}/mark", {"do": do, **said}, headers={"HX-Request": "true"})


# --- Groups --------------------------------------------------------------------------------------------


def test_crashes_of_one_cause_are_told_once_with_their_number_and_the_newest_card(server, staff_client):
    died(server, ago=50.0)
    newest = died(server, "failed to allocate CPU buffer of size 99")
    died(server, "CUDA error: unspecified launch failure", failure_kind="gpu_lost", failure_title="GPU lost")
    answer = staff_client.get(RUNS)
    page = text(answer)
    assert "Out of memory failed to allocate CPU buffer of size 99 2 times · first 2 d ago · last 1 h" in page
    assert "build b11669 · m.gguf" in page
    assert "1 time · last" in page
    assert f'<h3><a href="{RUNS}{newest.pk}/">Out of memory</a></h3>' in answer.content.decode()
    assert "2 in the last 30 days, at most 1 a day." in answer.content.decode()


def test_a_server_that_never_died_has_no_groups(server, staff_client):
    make_run(server)
    assert 'class="card panel crashes" hidden' in staff_client.get(RUNS).content.decode()


def test_a_cause_that_is_resolved_says_so_and_by_whom_and_comes_back_with_a_newer_build(server, staff_client):
    old = died(server)
    page = text(mark(staff_client, old, "resolve", build=" b11700 "))
    assert "resolved in b11700" in page
    assert "Resolved by boss," in page
    assert "Nothing is open" in page
    died(server, ago=-0.001, build="b11690")
    assert "again since" not in text(staff_client.get(RUNS))
    died(server, ago=-0.002, build="b11701")
    page = text(staff_client.get(RUNS))
    assert "again since" in page
    assert "boss said that it is resolved in b11700; it was seen again" in page
    mark(staff_client, old, "reopen")
    assert "resolved in" not in text(staff_client.get(RUNS))


def test_a_mute_says_how_many_there_are_and_whether_they_are_told(server, staff_client):
    run = died(server)
    page = text(mark(staff_client, run, "mute", above="1"))
    assert "Muted by boss until more than 1 a day: 1 in the last 24 hours. Alerts of it are not sent." in page
    died(server)
    assert "2 in the last 24 hours. Alerts of it are sent again." in text(staff_client.get(RUNS))
    assert "Muted by" not in text(mark(staff_client, run, "unmute"))


def test_each_act_is_in_the_log_of_the_admin(server, staff_client, staff):
    run = died(server)
    mark(staff_client, run, "resolve", build="b11700")
    mark(staff_client, run, "reopen")
    mark(staff_client, run, "mute", above="3")
    mark(staff_client, run, "unmute")
    assert CrashMark.objects.count() == 1
    assert list(LogEntry.objects.order_by("pk").values_list("user", "change_message")) == [
        (staff.pk, "Resolved in build b11700."),
        (staff.pk, "Not resolved any more."),
        (staff.pk, "Muted until more than 3 a day."),
        (staff.pk, "Not muted any more."),
    ]
    assert LogEntry.objects.first().object_repr.startswith("default: Out of memory: failed to allocate")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"do": "resolve", "build": " "}, "is no build"),
        ({"do": "resolve", "build": "b\n1"}, "is no build"),
        ({"do": "mute", "above": "many"}, "is no number of crashes a day"),
        ({"do": "delete"}, "is nothing to do"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(said, problem, server, staff_client):
    run = died(server)
    assert problem in text(mark(staff_client, run, **said))
    answer = staff_client.post(f"{RUNS}{run.pk}/mark", said)
    assert answer.status_code == 400
    assert problem in answer.content.decode()
    assert not CrashMark.objects.exists()


def test_without_script_the_page_comes_again(server, staff_client):
    answer = staff_client.post(f"{RUNS}{died(server).pk}/mark", {"do": "mute", "above": "3"})
    assert (answer.status_code, answer["Location"]) == (302, RUNS)


def test_only_staff_mark_and_only_by_a_post_with_the_token(
    server, client, person_client, staff_client, staff
):
    run = died(server)
    said = {"do": "mute", "above": "3"}
    path = f"{RUNS}{run.pk}/mark"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(staff)
    assert [each.post(path, said).status_code for each in (client, person_client, strict)] == [403, 403, 403]
    assert staff_client.get(path).status_code == 405
    assert not CrashMark.objects.exists()


def test_a_run_that_did_not_die_cannot_be_marked(server, staff_client):
    assert mark(staff_client, make_run(server), "mute", above="3").status_code == 404
    assert staff_client.post("/servers/other/runs/1/mark", {"do": "mute"}).status_code == 404


# --- The search ----------------------------------------------------------------------------------------


def listed(client, query=""):
    """Numbers of the runs that the page lists."""
    page = client.get(f"{RUNS}{query}").content.decode()
    return [int(number) for number in re.findall(r'<a href="/servers/default/runs/(\d+)/">\s+<span', page)]


def test_filters_choose_runs_and_the_address_keeps_them(server, staff_client):
    stopped = make_run(server)
    crashed = died(server)
    other = died(server, build="", failure_kind="hung", failure_title="Hung", ago=100.0)
    running = make_run(server, ended_at=None)
    assert listed(staff_client) == [running.pk, other.pk, crashed.pk, stopped.pk]
    assert listed(staff_client, "?outcome=failed") == [other.pk, crashed.pk]
    assert listed(staff_client, "?outcome=stopped") == [stopped.pk]
    assert listed(staff_client, "?outcome=running") == [running.pk]
    assert listed(staff_client, "?kind=hung") == [other.pk]
    assert listed(staff_client, "?build=b11669") == [crashed.pk]
    assert listed(staff_client, "?build=-&outcome=failed") == [other.pk]
    assert listed(staff_client, "?span=24h") == [running.pk, crashed.pk]
    assert listed(staff_client, f"?from={STARTED - 5:.0f}&to={STARTED + 5:.0f}") == [running.pk, stopped.pk]
    page = staff_client.get(f"{RUNS}?kind=hung&span=7d").content.decode()
    assert '<option value="hung" selected>Hung</option>' in page
    assert '<option value="7d" selected>' in page


def test_nonsense_filters_nothing_but_a_bad_time_is_refused(server, staff_client):
    run = died(server)
    assert listed(staff_client, "?outcome=x&kind=x&span=x&before=x") == [run.pk]
    answer = staff_client.get(f"{RUNS}?from=yesterday&to=5")
    assert (answer.status_code, answer.content.decode()[:17]) == (400, "from='yesterday' ")


def test_nothing_found_leads_back_to_all(server, staff_client):
    died(server)
    assert "No run is like that" in text(staff_client.get(f"{RUNS}?outcome=running"))


def test_a_run_tells_its_build_and_command(server, staff_client):
    died(server)
    assert "Build b11669 · llama-server -m /srv/m.gguf -c 8192" in text(staff_client.get(RUNS))


def test_a_long_list_has_pages_and_costs_the_same(server, staff_client, django_assert_num_queries):
    died(server)
    with django_assert_num_queries(11):
        assert len(listed(staff_client)) == 1
    times = {"started_at": at(STARTED), "ended_at": at(STARTED + 1)}
    Run.objects.bulk_create([Run(server=server, build="b1", **times) for _ in range(SHOWN + 1)])
    Run.objects.bulk_create(
        [
            Run(server=server, failure_kind="hung", failure_detail=str(n) * n, build="b1", **times)
            for n in range(9)
        ]
    )
    with django_assert_num_queries(11):
        assert len(listed(staff_client)) == SHOWN
    page = staff_client.get(f"{RUNS}?build=b1").content.decode()
    (older,) = map(html.unescape, re.findall(r'href="/servers/default/runs/(\?[^"]*before=[^"]+)"', page))
    assert len(listed(staff_client, older)) == 10
    assert (
        'href="/servers/default/runs/?build=b1">Newest' in staff_client.get(f"{RUNS}{older}").content.decode()
    )
