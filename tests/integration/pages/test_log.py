"""The page of a server's log: its lines in both directions, moments, filters, and what follows."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from asgiref.sync import sync_to_async

from supervisor_app.api import logs as api_logs
from supervisor_app.fleet import log_lines
from supervisor_app.fleet.events import supervisor_channel
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.pages import log_socket
from supervisor_app.roles.nudges import SupervisorConsumer
from tests.deadline import DEADLINE
from tests.integration.building import at, db, eventually, make_run, make_server, make_state, push, socket_to

pytestmark = pytest.mark.django_db(transaction=True)
LINES = "/api/servers/default/log/lines"
BEGAN = 1_700_000_000
ARGV = ["llama-server", "-m", "a.gguf"]


def started(seconds):
    when = datetime.fromtimestamp(BEGAN + seconds, UTC).isoformat()
    return f"--- {when} starting: llama-server -m a.gguf\n"


def stamped(second, text, level="I"):
    return f"{second // 60}.{second % 60:02}.000.000 {level} srv  main: {text}\n"


@pytest.fixture
def log(settings, tmp_path):
    """Two lives of the server `default`, of which the first one died."""
    settings.DATA_DIR = tmp_path
    server = make_server(api_key="swordfish")
    make_state(server, "ready", version=1)
    dead = {"ended_at": at(BEGAN + 900), "failure_kind": "out-of-memory", "failure_title": "Out of memory"}
    evidence = {"decisive": "line 350"}
    make_run(server, started_at=at(BEGAN), argv=ARGV, evidence=evidence, **dead)
    make_run(server, started_at=at(BEGAN + 1000), argv=ARGV, ended_at=None, build="b11669")
    path = tmp_path / "logs" / "default.log"
    path.parent.mkdir()
    path.with_name("default.log.1").write_text(
        started(0) + "".join(stamped(second, f"line {second}") for second in range(600))
    )
    path.write_text(
        "".join(stamped(second, f"line {second}") for second in range(600, 700))
        + stamped(700, "failed", "E")
        + started(1000)
        + stamped(5, "the key is swordfish")
        + stamped(6, "listening")
    )
    return path


def runs():
    return [run.pk for run in Run.objects.order_by("pk")]


def get(client, **query):
    answer = client.get(LINES, query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def texts(page):
    return [item["s"].rpartition(": ")[2] for item in page["items"] if "s" in item]


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


# --- Following -----------------------------------------------------------------------------------------


def cookie(client):
    return [(b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())]


SOCKET = "/llamaproxws/log?server=default"


def append(log, text):
    with log.open("a") as file:
        file.write(text)


async def told(client):
    return json.loads(await client.receive_from(timeout=DEADLINE))


@asynccontextmanager
async def following(client, query=""):
    """A socket of a page that has told how the last life ended."""
    page = await db(get, client)
    async with socket_to(f"{SOCKET}&after={page['end']}{query}", cookie(client)) as socket:
        assert await told(socket) == {"tail": None}
        yield socket


async def closed_with(client):
    return (await client.receive_output(timeout=DEADLINE))["code"]


async def test_a_new_line_is_pushed(log, staff_client):
    async with following(staff_client, "&q=n&levels=E") as client:
        await asyncio.to_thread(append, log, stamped(7, "new") + stamped(8, "none", "E"))
        assert texts(await told(client)) == ["none"]


def test_a_long_push_goes_in_messages_that_a_socket_takes():
    items = [{"c": f"n.{number}", "s": "\u00e9" * 500} for number in range(300)]
    news = {"items": items, "skipped": 5, "skippedBytes": 50, "end": "n.300", "tail": None}
    told = [json.loads(message) for message in log_socket.messages(news)]
    assert max(len(message) for message in log_socket.messages(news)) <= log_socket.MESSAGE_BYTES
    assert [item for part in told for item in part["items"]] == items
    assert sum(part["skipped"] for part in told) == 5
    assert [part["end"] for part in told] == [*(part["items"][0]["c"] for part in told[1:]), "n.300"]


async def test_nothing_more_is_pushed_until_the_page_has_taken_it(log, staff_client):
    async with following(staff_client) as client:
        append(log, stamped(7, "one"))
        assert texts(await told(client)) == ["one"]
        append(log, stamped(8, "two"))
        assert await client.receive_nothing(0.6)
        await client.send_to(text_data="ok")
        assert texts(await told(client)) == ["two"]


async def test_a_page_that_was_away_gets_what_it_missed(log, staff_client):
    page = await db(get, staff_client)
    append(log, stamped(7, "meanwhile"))
    async with socket_to(f"{SOCKET}&after={page['end']}", cookie(staff_client)) as client:
        await told(client)
        assert texts(await told(client)) == ["meanwhile"]


async def test_a_log_that_appears_is_told_from_its_first_line(log, staff_client):
    for path in (log, log.with_name("default.log.1")):
        path.unlink()
    async with socket_to(SOCKET, cookie(staff_client)) as client:
        await told(client)
        (page,) = log_socket.pages_open
        await eventually(lambda: page.follower.place is not None)
        append(log, stamped(0, "first"))
        assert texts(await told(client)) == ["first"]


async def test_the_end_of_a_life_is_told_at_once(log, staff_client):
    async with following(staff_client) as client:
        await db(lambda: Run.objects.open().update(ended_at=at(BEGAN + 2000)))
        async with asyncio.timeout(DEADLINE):
            while True:
                await push()
                if not await client.receive_nothing(0.2):
                    break
        assert (await told(client))["tail"]["title"] == "Stopped"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/llamaproxws/log?server=nobody", 4000),
        ("/llamaproxws/log", 4000),
        (f"{SOCKET}&after=x", 4000),
        (f"{SOCKET}&q=(&pattern=1", 4000),
    ],
)
async def test_a_socket_that_cannot_follow_is_closed(path, code, log, staff_client):
    async with socket_to(path, cookie(staff_client)) as client:
        assert await closed_with(client) == code


async def test_strangers_and_people_without_rights_hear_nothing(log, person_client):
    for headers in (None, cookie(person_client)):
        async with socket_to(SOCKET, headers) as client:
            assert await closed_with(client) == 4003


async def test_more_pages_than_there_are_places_are_refused(log, staff_client, monkeypatch):
    monkeypatch.setattr(log_socket, "LOG_SOCKETS", 1)
    async with socket_to(SOCKET, cookie(staff_client)):
        await eventually(lambda: len(log_socket.pages_open) == 1)
        async with socket_to(SOCKET, cookie(staff_client)) as second:
            assert await closed_with(second) == 4008


async def test_somebody_who_has_logged_out_is_let_go(log, staff_client, monkeypatch):
    monkeypatch.setattr("supervisor_app.fleet.hub.HEARTBEAT_SECONDS", 0.1)
    async with following(staff_client) as client:
        assert await told(client) == {"beat": True}
        await db(staff_client.logout)
        async with asyncio.timeout(DEADLINE):
            while (output := await client.receive_output(timeout=DEADLINE))["type"] != "websocket.close":
                pass
        assert output["code"] == 4003


async def test_nothing_stays_of_a_page_that_has_left(log, staff_client):
    async with socket_to(SOCKET, cookie(staff_client)):
        await eventually(lambda: len(log_socket.pages_open) == 1)
    await eventually(lambda: not log_socket.pages_open)
