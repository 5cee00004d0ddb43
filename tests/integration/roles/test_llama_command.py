"""`manage.py llama`: what it says, and the wish that it shares with pages, API and admin."""

from __future__ import annotations

import json
import time
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.utils import timezone

from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.commands import ask, nudge, server_named
from supervisor_app.fleet.lease import NodeLease
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import OUT_OF_MEMORY, long_ago, make_ready_server, make_server, make_state


def llama(*arguments):
    """What `manage.py llama …` says on stdout and stderr."""
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("llama", *arguments, stdout=out, stderr=err, no_color=True)
    except SystemExit as ended:
        code = ended.code
    return out.getvalue(), err.getvalue(), code


def supervised(node="local"):
    return NodeLease.objects.create(
        node=node, holder="1 2 machine host", token="t", renewed_at=timezone.now()
    )


# --- manage.py llama -----------------------------------------------------------------------------------


@pytest.mark.django_db
class TestLlama:
    @pytest.fixture(autouse=True)
    def supervisor(self):
        return supervised()

    def test_status_is_a_line_for_each_server(self):
        make_ready_server("one", started_at=long_ago())
        make_server("two", node="gpu-7")
        said, complained, _ = llama("status")
        assert said.splitlines() == [
            "one: ready, up 1 h 00 m. Serving 1 model.",
            "two: initial. No supervisor looks after it. Run manage.py runsupervisor on node gpu-7.",
        ]
        assert complained == "No supervisor runs on node gpu-7: start manage.py runsupervisor there.\n"

    def test_in_the_first_moment_of_a_server_its_supervisor_is_not_missed(self):
        make_server()
        assert llama("status")[0] == "default: initial. Its supervisor is about to look after it.\n"

    @pytest.mark.parametrize(("status", "code"), [("ready", 0), ("crashed", 1), ("error", 1), ("initial", 1)])
    def test_status_ends_with_1_while_a_server_is_down(self, status, code):
        make_ready_server("one")
        if status == "ready":
            make_ready_server("two")
        else:
            make_state(make_server("two"), status)
        assert llama("status")[2] == llama("status", "--json")[2] == llama("status", "two")[2] == code
        assert llama("status", "one")[2] == 0
        assert llama("restart")[2] == 0

    def test_status_of_one_server(self):
        make_ready_server("one")
        make_ready_server("two")
        assert llama("status", "two")[0].startswith("two: ready")
        assert "one" not in llama("status", "two")[0]

    def test_status_of_a_failure_says_what_to_do(self):
        make_state(make_server(), "error", detail="Out of memory.", failure=OUT_OF_MEMORY.as_json())
        assert llama("status")[0].splitlines() == [
            "default: error. Out of memory.",
            "  Try a smaller context (-c) or model.",
        ]

    def test_status_of_a_server_that_recovered_does_not_repeat_the_hint(self):
        make_ready_server(failure=OUT_OF_MEMORY.as_json())
        assert "smaller context" not in llama("status")[0]

    def test_a_silent_supervisor_is_told_on_stderr(self):
        make_ready_server(seen_at=long_ago())
        NodeLease.objects.update(renewed_at=long_ago())
        said, complained, code = llama("status")
        assert complained.strip() == "No supervisor runs on node local: start manage.py runsupervisor there."
        assert said.startswith("default: unknown. No supervisor has reported since ")
        assert code == 1

    @pytest.mark.parametrize("word", ["start", "stop", "restart"])
    def test_a_wish_that_nobody_hears_says_so(self, word, supervisor):
        make_ready_server()  # seen a moment ago, and then its supervisor was stopped
        supervisor.delete()
        said, complained, _ = llama(word)
        assert said == f"default: asked to {word}\n"
        assert complained.endswith("Nothing happens until then.\n")

    @pytest.mark.parametrize(
        ("word", "running", "restart_generation"),
        [("start", True, 0), ("stop", False, 0), ("restart", True, 2)],
    )
    def test_a_wish_is_noted_and_told(self, word, running, restart_generation):
        make_server()
        assert llama(word)[0] == f"default: asked to {word}\n"
        server = LlamaServer.objects.get()
        assert (server.generation, server.desired_running) == (2, running)
        assert server.restart_generation == restart_generation

    def test_a_wish_without_a_name_is_for_all(self):
        make_server("one")
        make_server("two")
        assert llama("stop")[0].splitlines() == ["one: asked to stop", "two: asked to stop"]
        assert not LlamaServer.objects.filter(desired_running=True).exists()

    def test_a_wish_with_a_name_is_for_that_one(self):
        make_server("one")
        make_server("two")
        llama("stop", "two")
        assert LlamaServer.objects.get(desired_running=False).name == "two"

    def test_an_option_may_stand_before_a_name(self):
        make_server("one")
        make_server("two")
        assert llama("stop", "--now", "one")[0] == "one: asked to stop\n"
        assert LlamaServer.objects.get(name="one").at_once

    @pytest.mark.parametrize("count", ["-5", "x", "1.5"])
    def test_a_number_of_lines_that_is_none_is_refused(self, count):
        with pytest.raises(CommandError, match=f"'{count}' is no number of lines. Write 0 or more."):
            llama("logs", f"--lines={count}", "default")

    def test_no_maintenance_is_told(self):
        assert llama("maintenance")[0] == "Nothing is in maintenance.\n"

    def test_json_is_what_the_api_says(self, client):
        make_ready_server("one", started_at=long_ago())
        make_server("two")
        said = json.loads(llama("status", "--json")[0])
        assert said == client.get("/api/servers/").json()["servers"]
        assert json.loads(llama("stop", "one", "--json")[0])[0]["name"] == "one"

    def test_an_unknown_server_is_answered_with_those_that_exist(self):
        make_server("one")
        make_server("two")
        with pytest.raises(CommandError, match=r"There is no server 'three'. Servers: one, two.") as raised:
            llama("start", "three")
        assert raised.value.returncode == 2

    def test_the_command_says_what_to_run_when_there_is_no_server(self):
        with pytest.raises(CommandError, match=r"Run manage.py runsupervisor") as raised:
            llama("status")
        assert raised.value.returncode == 2
        with pytest.raises(CommandError, match=r"There is no server 'x'. Servers: none yet."):
            llama("status", "x")

    def test_an_unknown_word_is_answered_with_those_that_exist(self):
        with pytest.raises(CommandError, match=r"start.*stop.*restart.*status"):
            llama("explode")

    def test_a_database_that_fails_is_one_line(self):
        def fail(*args):
            raise DatabaseError("could not connect to server")

        with (
            connection.execute_wrapper(fail),
            pytest.raises(CommandError, match=r"^The database cannot be used: could not connect to server$"),
        ):
            llama("status")


# --- The same for pages, API, admin and CLI ------------------------------------------------------------


@pytest.mark.django_db
def test_a_wish_reaches_each_node_with_one_of_the_servers(monkeypatch):
    nudged = []
    monkeypatch.setattr("supervisor_app.fleet.commands.nudge", nudged.append)
    make_server("one", node="a")
    make_server("two", node="a", port=1)
    make_server("three", node="b")
    assert ask(Wish.STOP, LlamaServer.objects.all()) == 3
    assert sorted(nudged) == ["a", "b"]


@pytest.mark.django_db
def test_a_wish_for_nobody_nudges_nobody(monkeypatch):
    monkeypatch.setattr("supervisor_app.fleet.commands.nudge", pytest.fail)
    assert ask(Wish.STOP, server_named("nobody")) == 0


@pytest.mark.django_db
def test_a_supervisor_is_nudged_once_it_can_see_what_was_changed(
    monkeypatch, django_capture_on_commit_callbacks
):
    nudged = []
    monkeypatch.setattr("supervisor_app.fleet.commands.nudge_now", nudged.append)
    make_server("one", node="a")
    with django_capture_on_commit_callbacks(execute=True):
        ask(Wish.STOP, LlamaServer.objects.all())
        assert nudged == [], "the transaction may still be rolled back"
    assert nudged == ["a"]


@pytest.mark.parametrize("node", ["local", "no such name allowed", "x" * 200])
def test_a_nudge_never_raises(node):
    nudge(node)


async def test_a_nudge_out_of_a_running_event_loop_is_lost_and_never_raises():
    nudge("local")


def test_a_nudge_takes_no_time_without_a_listener():
    began = time.monotonic()
    for _ in range(200):  # more than a channel holds
        nudge("local")
    assert time.monotonic() - began < 5
