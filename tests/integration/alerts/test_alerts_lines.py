"""Lines of logs that people watch for: seen, told with their number, and never a secret or an old one."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.db import DatabaseError, connection

from supervisor_app.alerts import log_watcher
from supervisor_app.alerts.log_watcher import LogWatcher
from supervisor_app.alerts.models import Incident, LineWatch
from tests.integration.building import STARTED, at, make_run, make_server
from tests.unit.logs.writing import stamped

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("loud")]

ARGV = ["llama-server", "-m", "a.gguf"]
MARK = "--- 2025-06-15T15:06:40+00:00 starting: llama-server -m a.gguf\n"


@pytest.fixture
def watched(world, settings, tmp_path):
    """A log that is looked at for the first time, and a function that writes to it and looks again."""
    settings.DATA_DIR = tmp_path
    world.server.api_key = "swordfish"
    world.server.save()
    make_run(world.server, started_at=at(STARTED), ended_at=None, argv=ARGV)
    path = tmp_path / "logs" / "default.log"
    path.parent.mkdir()
    path.write_text(MARK + stamped(1, "slot stalled long ago"))
    watcher = LogWatcher("local", clock=world.clock)
    watch()
    watcher.look()

    def go_on(*lines, wait=0.0):
        with path.open("a") as file:
            file.writelines(lines)
        world.clock.now += wait
        watcher.look()
        world.look()
        return world.hook

    return go_on


def watch(pattern="stalled", **fields):
    return LineWatch.objects.create(name="Stalled slot", pattern=pattern, **fields)


def test_a_line_is_told_with_its_moment_and_old_ones_are_not(watched):
    assert watched().posts == []
    hook = watched(stamped(65, "slot 3 stalled"), stamped(66, "slot 4 moves"))
    (post,) = hook.posts
    assert (post.json["event"], post.json["title"]) == ("line", "default: Stalled slot")
    assert post.json["text"] == (
        "default wrote a line that “Stalled slot” watches for: 1.05.000.000 I slot 3 stalled\n"
        "See /servers/default/log/?at=2025-06-15T15:07:45.000Z."
    )
    assert post.json["incident"] == Incident.objects.get().pk


def test_a_flood_of_such_lines_is_one_message_a_minute_with_their_number(watched):
    watched(stamped(65, "slot 1 stalled"))
    for second in range(3):
        watched(stamped(66 + second, "stalled"), stamped(66 + second, "stalled"), wait=2)
    hook = watched(wait=60)
    assert len(hook.posts) == 2
    assert "(6 such lines since the last message)" in hook.texts[-1]
    assert len(watched(wait=600).posts) == 2


def test_a_half_written_line_is_looked_at_once_it_is_whole(watched):
    assert watched("1.05.000.000 I slot sta").posts == []
    assert len(watched("lled\n").posts) == 1


def test_a_log_that_grows_too_fast_is_read_from_its_end_and_says_so(watched, monkeypatch):
    monkeypatch.setattr(log_watcher, "LOOK_BYTES", 2000)
    noise = [stamped(70 + number, "noise " * 20) for number in range(100)]
    hook = watched(stamped(69, "stalled, unseen"), *noise, stamped(200, "stalled, seen"))
    (text,) = hook.texts
    assert "stalled, seen" in text
    assert "KiB were written too fast to be looked at." in text


def test_no_secret_is_found_or_told(watched):
    watch("swordfish")
    hook = watched(stamped(65, "key swordfish stalled"))
    (text,) = hook.texts
    assert "swordfish" not in text
    assert "key [redacted] stalled" in text


def test_readers_of_the_page_of_alerts_see_that_it_was_but_not_the_line(watched, client):
    watched(stamped(65, "prompt of somebody stalled"))
    page = client.get("/alerts/").content.decode()
    assert "Log: Stalled slot" in page
    assert "A moment, in which nothing was down." in page
    assert "prompt of somebody" not in page


def test_only_channels_that_want_lines_hear_of_them(world, watched):
    world.channel.on_line = False
    world.channel.save()
    assert watched(stamped(65, "stalled")).posts == []
    assert Incident.objects.count() == 1


def test_patterns_and_watches_of_one_server_are_kept_apart(world, watched):
    LineWatch.objects.all().delete()
    watch(r"stalled \d+ ms", is_pattern=True, server=world.server)
    watch("stalled", server=make_server("other"))
    watch("(", is_pattern=True)
    watch("stalled", enabled=False)
    assert len(watched(stamped(65, "stalled"), stamped(66, "stalled 12 ms")).posts) == 1


def test_a_database_that_is_away_is_reported_and_the_next_look_goes_on(watched, caplog):
    def fail(*args):
        raise DatabaseError("gone")

    with connection.execute_wrapper(fail):
        watched_again = LogWatcher("local")
        watched_again.look()
        watched_again.look()
    assert caplog.text.count("Logs cannot be watched (gone)") == 1
    watched_again.look()
    assert "Logs are watched again" in caplog.text


# --- On the page ---------------------------------------------------------------------------------------

WATCHES = "/servers/default/watches/"
SAID = {"name": "Stalled slot", "pattern": "stalled"}


@pytest.fixture
def server():
    return make_server()


def test_staff_make_and_delete_a_watch_on_the_page_of_the_log(server, staff_client):
    answer = staff_client.post(WATCHES, SAID)
    assert (answer.status_code, answer["Location"]) == (302, "/servers/default/log/")
    made = LineWatch.objects.get()
    assert (made.server, made.made_by, made.is_pattern) == (server, "boss", False)
    page = staff_client.get("/servers/default/log/").content.decode()
    assert "<b>Stalled slot</b> <code>stalled</code>" in page
    assert "Nobody is told" in page
    staff_client.post(f"{WATCHES}{made.pk}/delete")
    assert not LineWatch.objects.exists()
    assert [entry.object_repr for entry in LogEntry.objects.all()] == ["Stalled slot: stalled"] * 2


def test_a_watch_may_be_for_all_servers_and_a_pattern(server, staff_client):
    staff_client.post(WATCHES, {**SAID, "all": "1", "is_pattern": "1"})
    assert LineWatch.objects.filter(server=None, is_pattern=True).count() == 1


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"pattern": "("} | {"is_pattern": "1"}, "This is no pattern"),
        ({"pattern": "  "}, "Every line would do"),
        ({"pattern": ""}, "cannot be blank"),
        ({"name": ""}, "cannot be blank"),
        ({"pattern": "x" * 1001}, "1000"),
    ],
)
def test_a_watch_that_cannot_work_is_refused(said, problem, server, staff_client):
    answer = staff_client.post(WATCHES, SAID | said)
    assert answer.status_code == 400
    assert problem in answer.content.decode()
    assert not LineWatch.objects.exists()


def test_only_staff_watch_for_lines(server, client, person_client, staff_client):
    made = watch()
    for path in (WATCHES, f"{WATCHES}{made.pk}/delete"):
        assert [each.post(path, SAID).status_code for each in (client, person_client)] == [403, 403]
        assert staff_client.get(path).status_code == 405
    assert LineWatch.objects.count() == 1


def test_the_admin_makes_watches_too(server, staff_client):
    staff_client.post("/admin/alerts/linewatch/add/", {**SAID, "enabled": "on"})
    assert LineWatch.objects.get().made_by == "boss"
    assert "all" in staff_client.get("/admin/alerts/linewatch/").content.decode()
