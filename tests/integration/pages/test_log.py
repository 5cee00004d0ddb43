"""The page of a server's log: its lines in both directions, moments, searches, and the file itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from asgiref.sync import sync_to_async

from supervisor_app.api import logs as api_logs
from supervisor_app.fleet import log_lines
from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.roles.nudges import SupervisorConsumer
from tests.integration.pages.two_lives import BEGAN, LINES, get, log, stamped, texts

__all__ = ["log"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)


def runs():
    return [run.pk for run in Run.objects.order_by("pk")]


# --- Lines ---------------------------------------------------------------------------------------------


def test_the_end_comes_first_with_what_happened_between_lives(log, staff_client):
    page = get(staff_client)
    assert texts(page)[-3:] == ["failed", "the key is [redacted]", "listening"]
    (mark,) = [item for item in page["items"] if "started" in item]
    first, second = runs()
    assert (mark["ended"]["run"], mark["ended"]["title"], mark["started"]["run"]) == (
        first,
        "Out of memory",
        second,
    )
    assert mark["started"]["build"] == "b11669"
    assert page["items"][-1]["t"] == (BEGAN + 1006) * 1000
    assert page["newer"] is None
    assert page["tail"] is None


def test_older_lines_go_on_over_files_to_the_beginning(log, staff_client):
    page, seen = get(staff_client), []
    seen = texts(page)
    while page["older"]:
        page = get(staff_client, before=page["older"])
        seen = texts(page) + seen
    assert seen[:700] == [f"line {number}" for number in range(700)]


def test_newer_lines_go_on_to_the_end(log, staff_client):
    page = get(staff_client, at=datetime.fromtimestamp(BEGAN + 100, UTC).isoformat())
    seen = texts(page)
    while page["newer"]:
        page = get(staff_client, after=page["newer"])
        seen += texts(page)
    assert seen[-2:] == ["the key is [redacted]", "listening"]
    assert len(seen) == len(set(seen))


def test_a_moment_is_in_focus(log, staff_client):
    page = get(staff_client, at=(BEGAN + 100) * 1000)
    (focus,) = [item for item in page["items"] if item["c"] == page["focus"]]
    assert focus["s"].endswith("line 100")


def test_a_moment_that_is_not_kept_any_more_says_how_far_back_the_log_goes(log, staff_client):
    page = get(staff_client, at=(BEGAN - 100) * 1000)
    assert (page["keptFrom"], page["focus"]) == (BEGAN * 1000, page["items"][0]["c"])
    log.with_name("default.log.1").unlink()
    assert get(staff_client, at=(BEGAN + 100) * 1000)["keptFrom"] == (BEGAN + 600) * 1000
    assert "keptFrom" not in get(staff_client, at=(BEGAN + 600) * 1000)


def test_a_place_that_is_not_kept_any_more_says_so_too(log, staff_client):
    older = get(staff_client, at=(BEGAN + 100) * 1000)["focus"]
    assert "keptFrom" not in get(staff_client, around=older)
    log.with_name("default.log.1").unlink()
    assert get(staff_client, around=older)["keptFrom"] == (BEGAN + 600) * 1000


def test_the_line_that_told_why_a_run_died_is_in_focus(log, staff_client):
    Run.objects.filter(pk=runs()[0]).update(evidence={"decisive": "main: failed"})
    page = get(staff_client, run=runs()[0])
    (focus,) = [item for item in page["items"] if item["c"] == page["focus"]]
    assert focus["s"].endswith("failed")


def test_a_run_that_the_log_does_not_have_is_explained(log, staff_client):
    answer = staff_client.get(LINES, {"run": "999"})
    assert answer.status_code == 400
    assert "does not have run 999" in answer.json()["error"]["message"]


def test_a_search_says_how_far_it_looked(log, staff_client):
    page = get(staff_client, q="line 5", levels="I")
    assert texts(page)[0] == "line 5"
    assert page["searched"]["done"]
    assert page["searched"]["bytes"] == page["searched"]["total"] > 0


def test_a_search_in_pieces_finds_each_line_once(log, staff_client, monkeypatch):
    page = get(staff_client, q="line")
    assert len(page["items"]) == 500
    assert not page["searched"]["done"]
    assert page["searched"]["back"] <= page["items"][0]["t"]
    rest = get(staff_client, q="line", before=page["older"])
    assert texts(rest) + texts(page) == [f"line {number}" for number in range(700)]


def test_a_search_is_followed_from_the_end_of_the_log(log, staff_client):
    assert get(staff_client, q="line 5")["end"] == get(staff_client)["end"]


def test_a_secret_is_neither_shown_nor_found(log, staff_client):
    assert get(staff_client, q="swordfish")["items"] == []
    assert b"swordfish" not in staff_client.get("/servers/default/log/download").content


@pytest.mark.parametrize("query", [{"q": "(", "pattern": "1"}, {"before": "x"}, {"levels": "Q"}])
def test_a_query_without_sense_is_explained(query, log, staff_client):
    for path in (LINES, "/servers/default/log/download"):
        if "before" in query and path != LINES:
            continue
        assert staff_client.get(path, query).status_code == 400


def test_a_log_that_is_not_here_says_where_it_is(log, staff_client):
    log.unlink()
    log.with_name("default.log.1").unlink()
    answer = staff_client.get(LINES)
    assert answer.status_code == 404
    assert "node" in answer.json()["error"]["hint"]
    assert "llama logs default" in staff_client.get("/servers/default/log/").content.decode()
    assert staff_client.get("/servers/default/log/download").status_code == 404


def test_a_log_that_cannot_be_read_says_why(log, staff_client):
    log.unlink()
    log.mkdir()
    assert staff_client.get(LINES).status_code == 503


def test_the_log_is_for_staff(log, client, person_client):
    assert client.get(LINES).status_code == 401
    assert person_client.get(LINES).status_code == 403
    for path in ("/servers/default/log/", "/servers/default/log/download"):
        assert client.get(path).status_code == 302
        assert person_client.get(path).status_code == 403


def test_there_is_none_of_nobody(staff_client):
    for path in ("/servers/nobody/log/", "/servers/nobody/log/download", "/api/servers/nobody/log/lines"):
        assert staff_client.get(path).status_code == 404


# --- On another host -----------------------------------------------------------------------------------


async def answered(client, node, **query):
    """The answer of a web process on another host, while the supervisor of `node` listens."""
    deaf = dict.fromkeys(("nudge", "moved", "waits", "closed"), lambda *_: None)
    consumer = SupervisorConsumer(**deaf)
    layer = channel_layer()

    async def listen():
        await consumer.log_asked(await layer.receive(supervisor_channel(node)))

    listening = asyncio.create_task(listen())
    try:
        return await sync_to_async(client.get)(LINES, query)
    finally:
        listening.cancel()


@pytest.fixture
def elsewhere(log, monkeypatch):
    """The log of a server of the node `gpu-1`, which a process of another node does not see."""
    LlamaServer.objects.update(node="gpu-1")
    monkeypatch.setattr(api_logs, "lines_here", lambda server, given: (404, {}))
    return log


async def test_a_log_of_another_host_is_read_by_its_supervisor(elsewhere, staff_client):
    answer = await answered(staff_client, "gpu-1", q="failed")
    assert texts(answer.json()) == ["failed"]
    assert answer.json()["node"] == "gpu-1"


async def test_a_mistake_in_a_query_is_told_by_another_host_too(elsewhere, staff_client):
    answer = await answered(staff_client, "gpu-1", at="never")
    assert answer.status_code == 400


async def test_a_host_that_does_not_answer_is_named(elsewhere, staff_client, monkeypatch):
    monkeypatch.setattr(log_lines, "ANSWER_SECONDS", 0.2)
    answer = await answered(staff_client, "gpu-2")
    assert answer.status_code == 404
    assert "lies on node gpu-1" in answer.json()["error"]["message"]


# --- Download ------------------------------------------------------------------------------------------


def test_all_of_it_can_be_downloaded(log, staff_client):
    answer = staff_client.get("/servers/default/log/download")
    lines = answer.content.decode().splitlines()
    assert len(lines) == 600 + 1 + 100 + 1 + 1 + 2
    assert "attachment" in answer.headers["Content-Disposition"]


def test_lines_that_are_filtered_can_be_downloaded(log, staff_client):
    answer = staff_client.get("/servers/default/log/download", {"levels": "E"})
    assert answer.content.decode().splitlines() == [stamped(700, "failed", "E").strip()]


def test_a_download_that_is_cut_says_so(log, staff_client, monkeypatch):
    monkeypatch.setattr("supervisor_app.pages.log.DOWNLOAD_BYTES", 200)
    lines = staff_client.get("/servers/default/log/download").content.decode().splitlines()
    assert "Only the newest" in lines[0]
    assert lines[-1].endswith("listening")
