"""Two runs side by side: what differs is shown, what is equal is folded."""

from __future__ import annotations

import html
import re

import pytest

from supervisor_app.fleet.models import Run
from tests.integration.building import STARTED, at, make_run, make_server

pytestmark = pytest.mark.django_db

COMPARE = "/servers/default/runs/compare"


@pytest.fixture
def two():
    server = make_server()
    good = make_run(
        server,
        ready_at=at(STARTED + 9),
        signal=15,
        build="b11600",
        argv=["llama-server", "-m", "/srv/m.gguf", "-c", "8192"],
        environment={"CUDA_VISIBLE_DEVICES": "0", "GGML_X": "1"},
        launch={"args": ["-c", "8192"], "keep_context": False},
    )
    bad = make_run(
        server,
        started_at=at(STARTED + 100),
        ended_at=at(STARTED + 160),
        exit_code=1,
        failure_kind="out_of_memory",
        failure_title="Out of memory",
        failure_detail="failed to allocate",
        build="b11669",
        argv=["llama-server", "-m", "/srv/m.gguf", "-c", "32768", "--mlock"],
        environment={"CUDA_VISIBLE_DEVICES": "1", "GGML_X": "1"},
        launch={"args": ["-c", "32768"], "keep_context": True},
        evidence={"history": [[4.0, 2**30], [2.0, 5 * 2**30]]},
    )
    return good, bad


def address(*runs):
    return f"{COMPARE}?{'&'.join(f'run={run.pk}' for run in runs)}"


def rows(page):
    """Return the parts that the page shows as different, and those that it folds."""
    shown = re.findall(r'<tr><th scope="row">(.*?)</th><td[^>]*>(.*?)</td>\s*<td[^>]*>(.*?)</td>', page)
    folded = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {name: (before, after) for name, before, after in shown}, dict(folded)


def test_the_older_run_stands_first_and_only_differences_are_open(two, staff_client):
    good, bad = two
    answer = staff_client.get(address(bad, good))
    assert answer.status_code == 200
    shown, folded = rows(html.unescape(answer.content.decode()))
    assert shown == {
        "Outcome": ("stopped", "Out of memory"),
        "Why": ("not there", "failed to allocate"),
        "Ended with": ("signal 15 (SIGTERM)", "exit code 1"),
        "Ready after": ("9.0 s", "never"),
        "Build": ("b11600", "b11669"),
        "Peak memory seen": ("not there", "5.0 GiB"),
        "-c": ("8192", "32768"),
        "--mlock": ("not there", "set"),
        "CUDA_VISIBLE_DEVICES": ("0", "1"),
        "keep_context": ("false", "true"),
    }
    assert folded == {
        "Lived": "1 m 00 s",
        "Model": "m.gguf",
        "program": "llama-server",
        "-m": "/srv/m.gguf",
        "GGML_X": "1",
    }


def test_the_card_of_a_crash_leads_to_the_comparison_with_the_last_good_run(two, staff_client):
    good, bad = two
    page = staff_client.get(f"/servers/default/runs/{bad.pk}/").content.decode()
    assert address(good, bad) in html.unescape(page)


def test_two_runs_are_compared_and_no_other_number(two, staff_client):
    good, bad = two
    third = make_run(good.server)
    other = make_run(make_server("other"))
    for runs in ([], [good], [good, good], [good, bad, third], [good, other], [good, Run(pk=10**30)]):
        answer = staff_client.get(address(*runs))
        assert answer.status_code == 400
        assert "Choose two runs of default to compare them" in answer.content.decode()
    assert staff_client.get(f"{COMPARE}?run=x&run=-1").status_code == 400


def test_a_comparison_is_for_staff(two, client, person_client):
    assert client.get(address(*two)).status_code == 302
    assert person_client.get(address(*two)).status_code == 403
