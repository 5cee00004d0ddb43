"""The crash card: who may see it, what is on it, and the same as JSON and in the admin."""

from __future__ import annotations

import html
import re

import pytest

from supervisor_app.core.diagnosis.evidence import Trail
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Autopsy, GpuMemory, MemorySample
from supervisor_app.core.status import FailureKind
from supervisor_app.fleet.history import RunCard
from tests.integration.building import OUT_OF_MEMORY, STARTED, at, make_run, make_server, make_state

pytestmark = pytest.mark.django_db

GIB = 2**30
RUNS, API = "/servers/default/runs/", "/api/servers/default/runs/"
ARGV = ["llama-server", "-m", "m.gguf", "-c", "32768", "--mlock"]
GOOD_ARGV = ["llama-server", "-m", "m.gguf", "-c", "8192", "-ngl", "99"]
KERNEL = "Out of memory: Killed process 4242 (llama-server) anon-rss:5347738kB"
DECISIVE = "0.01 E gguf_init_from_reader: failed to read <magic>"


def evidence(**changes):
    """Make the evidence of a process that grew from 1 to 5 GiB in 8 seconds and died 2 seconds later."""
    trail = Trail(serving="3 of 4 slots were working on a request.")
    for second in range(0, 10, 2):
        sample = MemorySample(
            at=STARTED + 50 + second,
            anon=GIB + second * GIB // 2,
            swap=GIB // 4,
            host_total=16 * GIB,
            host_available=GIB,
            host_swap_free=2 * GIB,
            limit=8 * GIB,
            limit_used=7 * GIB,
            gpus=(GpuMemory(used=20 * GIB, total=24 * GIB), GpuMemory(used=3 * GIB, total=8 * GIB)),
        )
        trail.add(sample)
    told = trail.evidence(
        failure_of(FailureKind.KILLED_BY_SIGNAL),
        Autopsy(kernel=(KERNEL,)),
        at=STARTED + 60,
        decisive=DECISIVE,
        decisive_at=1,
        models=("qwen3.gguf",),
    )
    return {**told.as_json(), **changes}


def failed(server, **fields):
    return make_run(
        server,
        **{
            "failure_kind": "out_of_memory",
            "failure_title": OUT_OF_MEMORY.title,
            "failure_detail": OUT_OF_MEMORY.detail,
            "failure_hint": OUT_OF_MEMORY.hint,
            "exit_code": 1,
            "pid": 4242,
            "argv": ARGV,
            "last_lines": f"first\n{DECISIVE}\nlast & least",
            "evidence": evidence(),
            **fields,
        },
    )


@pytest.fixture
def server():
    return make_server()


def good(server, **fields):
    """Make a run that reached ready, long before."""
    times = {"started_at": at(STARTED - 900), "ready_at": at(STARTED - 890), "ended_at": at(STARTED - 800)}
    return make_run(server, **{**times, "argv": GOOD_ARGV, **fields})


def text(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", answer.content.decode()))


# --- Who may see it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [False, True])
def test_the_pages_are_for_staff_because_output_may_hold_prompts(
    one, server, client, person_client, staff_client
):
    path = f"{RUNS}{failed(server).pk}/" if one else RUNS
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")
    assert person_client.get(path).status_code == 403
    assert staff_client.get(path).status_code == 200
    assert staff_client.post(path).status_code == 405


def test_a_card_as_json_is_for_staff(server, client, person_client, staff_client):
    path = f"{API}{failed(server).pk}/"
    assert client.get(path).status_code == 401
    assert person_client.get(path).status_code == 403
    assert staff_client.get(path).status_code == 200


def test_the_endings_of_runs_are_for_everybody_without_the_lines_they_wrote(server, client):
    run = failed(server, retry=2, ready_at=at(STARTED + 1))
    answer = client.get(API)
    assert answer.json() == {
        "server": "default",
        "runs": [
            {
                "id": run.pk,
                "kind": "out_of_memory",
                "title": "Out of memory",
                "exitCode": 1,
                "signal": None,
                "uptime": 60,
                "retry": 2,
                "adopted": False,
                "startedAt": "2025-06-15T15:06:40.000Z",
                "readyAt": "2025-06-15T15:06:41.000Z",
                "endedAt": "2025-06-15T15:07:40.000Z",
            }
        ],
    }


def test_where_the_status_is_private_so_are_the_runs(server, client, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    assert client.get(API).status_code == 401


def test_the_link_is_on_the_servers_page_for_staff(server, client, staff_client):
    make_state(server)
    for path in ("/", "/servers/default/"):
        assert RUNS not in text(client, path)
        assert f'<a href="{RUNS}">Why did it die? All runs</a>' in text(staff_client, path)
    make_server("other")
    assert RUNS not in text(staff_client, "/"), "each has its own page"


# --- What is not there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/servers/none/runs/", "/servers/none/runs/1/", f"{RUNS}999/"])
def test_the_page_of_an_unknown_run_is_404(path, server, staff_client):
    assert staff_client.get(path).status_code == 404


def test_a_run_of_another_server_is_not_there(server, staff_client):
    run = failed(make_server("other"))
    assert staff_client.get(f"{RUNS}{run.pk}/").status_code == 404
    answer = staff_client.get(f"{API}{run.pk}/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_run")


def test_an_unknown_server_is_named_in_the_json(client):
    answer = client.get("/api/servers/none/runs/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_server")


# --- The list ------------------------------------------------------------------------------------------


def test_the_list_leads_to_every_card(server, staff_client):
    older = good(server, note="The configuration changed.")
    newer = failed(server, signal=None)
    page = text(staff_client, RUNS)
    assert page.index(f'href="{RUNS}{newer.pk}/"') < page.index(f'href="{RUNS}{older.pk}/"')
    for words in ("Out of memory", "exit code 1", "1 m 00 s", "The configuration changed.", "Stopped"):
        assert words in page


def test_a_server_that_has_not_run_says_so(server, staff_client):
    assert "It has not run yet" in text(staff_client, RUNS)


# --- The card ------------------------------------------------------------------------------------------


def test_the_card_tells_all_that_is_known(server, staff_client):
    before = good(server)
    run = failed(server, ready_at=at(STARTED + 2), retry=3)
    page = text(staff_client, f"{RUNS}{run.pk}/")
    for words in (
        "Out of memory",
        OUT_OF_MEMORY.detail,
        OUT_OF_MEMORY.hint,
        "It was ready and lived for 1\xa0m\xa000\xa0s, then died: exit code 1.".replace("\xa0", " "),
        "15 Jun 2025, 15:06:40 UTC",
        "Memory 2.0 s before the end",
        "5.2 GiB",
        "256 MiB of it swapped out",
        "1.0 GiB<small>of 8.0 GiB",
        "of 16.0 GiB, and 2.0 GiB of swap",
        "20.0 GiB<small>of 24.0 GiB",
        "Used of GPU 1",
        "From 1.2 GiB to 5.2 GiB in its last 8 s.",
        "qwen3.gguf",
        "3 of 4 slots were working on a request.",
        KERNEL,
        "The kernel's log says that its OOM killer ended this process.",
        "-c 8192 → 32768",
        "added --mlock",
        "removed -ngl 99",
        f'href="{RUNS}{before.pk}/"',
        "llama-server -m m.gguf -c 32768 --mlock",
        "4242",
    ):
        assert words in page.replace("\xa0", " "), words


def test_the_decisive_line_is_marked_among_the_last_ones(server, staff_client):
    page = staff_client.get(f"{RUNS}{failed(server).pk}/").content.decode()
    assert "<mark>0.01 E gguf_init_from_reader: failed to read &lt;magic&gt;</mark>" in page
    assert "last &amp; least" in page
    assert "The decisive line" not in page


def test_a_decisive_line_that_is_older_than_the_last_ones_is_shown_itself(server, staff_client):
    run = failed(server, last_lines="a backtrace", evidence=evidence(decisiveAt=None))
    page = text(staff_client, f"{RUNS}{run.pk}/")
    assert f'<p class="evidence">{DECISIVE}</p>' in page


def test_a_run_without_evidence_is_shown_without(server, staff_client):
    page = text(staff_client, f"{RUNS}{failed(server, evidence={}, last_lines='', argv=[], pid=None).pk}/")
    assert "Memory" not in page
    assert "It was not started by llamaproxy" in page
    assert "It wrote nothing" in page


def test_a_run_that_was_asked_to_end_says_why(server, staff_client):
    note = "It used 5.5 GiB, over its limit of 5.0 GiB."
    page = text(staff_client, f"{RUNS}{make_run(server, note=note, exit_code=0).pk}/")
    assert note in page
    assert "It was asked to end." in page


def test_an_open_run_is_still_alive(server, staff_client):
    page = text(staff_client, f"{RUNS}{make_run(server, ended_at=None, argv=ARGV).pk}/")
    for words in ("It has been running for", "it lives", "Kept when it ends", "No run before it got ready"):
        assert words in page


def test_the_runs_around_a_run_are_one_click_away(server, staff_client):
    first = make_run(server, started_at=at(STARTED))
    middle = make_run(server, started_at=at(STARTED + 1))
    last = make_run(server, started_at=at(STARTED + 2))
    make_run(make_server("other"), started_at=at(STARTED + 3))
    page = text(staff_client, f"{RUNS}{middle.pk}/")
    assert f'href="{RUNS}{first.pk}/">← The one before' in page
    assert f'href="{RUNS}{last.pk}/">The one after →' in page
    assert "The one after" not in text(staff_client, f"{RUNS}{last.pk}/")


# --- What changed --------------------------------------------------------------------------------------


def test_a_failed_run_is_compared_with_the_newest_earlier_run_that_got_ready(server):
    good(server, started_at=at(STARTED - 2000), argv=["llama-server", "-c", "1"])
    before = good(server)
    good(server, started_at=at(STARTED - 10), ready_at=None)
    good(server, started_at=at(STARTED - 5), argv=[], adopted=True)
    good(make_server("other"), started_at=at(STARTED - 1))
    run = failed(server)
    good(server, started_at=at(STARTED + 5))
    card = RunCard(run)
    assert card.good == before
    assert card.changes == ("-c 8192 -> 32768", "added --mlock", "removed -ngl 99")


def test_the_same_command_line_is_told_as_such(server, staff_client):
    good(server, argv=ARGV)
    assert "The same as" in text(staff_client, f"{RUNS}{failed(server).pk}/")


# --- The chart -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "history",
    [[], [[2.0, 5], [0.0, 5]], [[0.0, 5], [0.0, 5], [0.0, 5]], [[2.0, 0], [1.0, 0], [0.0, 0]]],
)
def test_a_history_without_anything_to_see_has_no_chart(history, server):
    assert RunCard(failed(server, evidence=evidence(history=history))).chart == []


def test_a_chart_goes_from_left_to_right_and_its_highest_point_is_the_most(server):
    chart = RunCard(failed(server)).chart
    assert [point.x for point in chart] == [0.0, 20.0, 40.0, 60.0, 80.0]
    assert min(point.y for point in chart) == chart[-1].y == 8.0


def test_a_run_without_a_look_does_not_say_how_long_before_the_end_it_was(server):
    assert RunCard(failed(server, evidence={})).before_end is None


# --- JSON ----------------------------------------------------------------------------------------------


def test_the_json_of_a_card_has_everything(server, staff_client):
    before = good(server)
    run = failed(server)
    card = staff_client.get(f"{API}{run.pk}/").json()
    assert card["failure"]["hint"] == OUT_OF_MEMORY.hint
    assert card["argv"] == ARGV
    assert (card["changedSince"], len(card["changes"])) == (before.pk, 3)
    assert card["lastLines"] == ["first", DECISIVE, "last & least"]
    assert card["evidence"] == evidence()
    assert (card["note"], card["pid"], card["uptime"]) == ("", 4242, 60)


def test_a_run_without_failure_has_none_in_the_json(server, staff_client):
    card = staff_client.get(f"{API}{make_run(server).pk}/").json()
    assert (card["failure"], card["kind"], card["changedSince"]) == (None, None, None)


# --- The card for everybody ----------------------------------------------------------------------------


def test_everybody_reads_the_memory_that_a_crashed_server_had_used(server, client):
    told = {"failure_kind": "killed_by_signal", "failure_title": "Ended by a signal", "failure_detail": "x"}
    failure = {"kind": "killed_by_signal", "title": "Ended by a signal", "detail": "x", "hint": "y"}
    failed(server, **told, failure_hint="y")
    make_state(server, "crashed", failure=failure)
    assert "It used 5.2 GiB; 1.0 GiB of 16.0 GiB were free." in text(client, "/servers/default/")


def test_warnings_are_on_the_card(server, client):
    make_state(server, "ready", warnings=["It computes on the <CPU>."])
    page = client.get("/servers/default/").content.decode()
    assert "<li>It computes on the &lt;CPU&gt;.</li>" in page


# --- The admin -----------------------------------------------------------------------------------------


def test_the_admin_shows_the_same(server, staff_client):
    good(server)
    page = text(staff_client, f"/admin/supervisor_app/run/{failed(server).pk}/change/")
    for words in (
        "Why did it die?",
        "5.2 GiB of its own, 1.0 GiB of 16.0 GiB free on the machine, limit 8.0 GiB",
        "20.0 GiB of 24.0 GiB used on a GPU",
        KERNEL,
        "qwen3.gguf. 3 of 4 slots were working on a request.",
        "-c 8192 -> 32768",
        DECISIVE,
    ):
        assert words in page, words


def test_the_admin_shows_a_run_without_evidence(server, staff_client):
    page = text(staff_client, f"/admin/supervisor_app/run/{make_run(server).pk}/change/")
    assert "unknown" in page
