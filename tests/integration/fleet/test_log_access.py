"""Who reads a server's output, and what they see of it."""

from __future__ import annotations

import subprocess
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.open_log import MOVED, REMOVED
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.roles import log_command
from tests.integration.building import make_server, make_state

pytestmark = pytest.mark.django_db
URL = "/api/servers/default/log"


@pytest.fixture
def log(settings, tmp_path):
    """The log of the server `default`, whose key is `swordfish`."""
    settings.DATA_DIR = tmp_path
    make_server(api_key="swordfish")
    path = tmp_path / "logs" / "default.log"
    path.parent.mkdir()
    path.write_text("".join(f"line {number}\n" for number in range(200)) + "the key is swordfish\n")
    return path


def llama(*arguments):
    out = StringIO()
    call_command("llama", *arguments, stdout=out, no_color=True)
    return out.getvalue().splitlines()


def test_a_log_may_hold_prompts_so_it_is_for_staff(log, person_client):
    assert Client().get(URL).status_code == 401
    assert person_client.get(URL).status_code == 403


def test_the_end_of_a_log_is_told_without_secrets(log, staff_client):
    lines = staff_client.get(URL).json()["lines"]
    assert len(lines) == 100
    assert lines[-2:] == ["line 199", "the key is [redacted]"]


def test_a_key_of_the_config_file_is_hidden_too(log, staff_client, config_file):
    config_file.write_text('{"llama_api_key": "line"}')
    assert staff_client.get(URL + "?lines=2").json()["lines"] == [
        "[redacted] 199",
        "the key is swordfish",
    ]


def test_a_config_file_with_a_mistake_does_not_hide_the_log(log, staff_client, config_file):
    config_file.write_text("{")
    assert staff_client.get(URL + "?lines=1").json()["lines"] == ["the key is [redacted]"]


@pytest.mark.parametrize("lines", ["0", "-1", "x", "10001", "", "²"])
def test_a_number_of_lines_that_makes_no_sense_is_refused_by_name(log, staff_client, lines):
    answer = staff_client.get(URL, {"lines": lines})
    assert answer.status_code == 400
    assert repr(lines) in answer.json()["error"]["message"]


def test_a_log_that_is_elsewhere_is_said_to_be(log, staff_client):
    log.unlink()
    answer = staff_client.get(URL)
    assert answer.status_code == 404
    assert "node local" in answer.json()["error"]["hint"]
    assert staff_client.get("/api/servers/nope/log").status_code == 404


# The command


def test_the_command_shows_the_last_lines(log):
    assert llama("logs", "-n", "2") == ["line 199", "the key is [redacted]"]
    assert len(llama("logs", "default")) == 50


def test_escape_sequences_of_a_log_are_shown_and_not_obeyed(log):
    log.write_text("before \x1b[2Jafter\n")
    assert llama("logs") == [r"before \x1b[2Jafter"]


def test_secrets_among_the_flags_are_hidden_wherever_they_turn_up(log, staff_client, config_file):
    config_file.write_text('{"llama_server_args": ["--hf-token", "open-sesame"]}')
    log.write_text("downloading with open-sesame\n")
    assert staff_client.get(URL).json()["lines"] == ["downloading with [redacted]"]


def test_the_command_needs_a_name_where_there_are_several(log):
    make_server("other")
    with pytest.raises(CommandError, match="Name it: default, other"):
        llama("logs")


def test_the_command_says_where_a_missing_log_would_be(log):
    log.unlink()
    with pytest.raises(CommandError, match=r"default\.log does not exist: default runs on node local"):
        llama("logs")


def test_the_command_says_that_there_is_no_server():
    with pytest.raises(CommandError, match="No server is configured"):
        llama("logs")


def test_the_command_follows_until_it_is_interrupted(log, monkeypatch):
    looks = []

    def look(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            with log.open("a") as file:
                file.write("something new\n")
        elif len(looks) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(log_command.time, "sleep", look)
    assert llama("logs", "-f", "-n", "1") == ["the key is [redacted]", "something new"]


# --- A log that somebody has removed or moved away ------------------------------------------------------


@pytest.fixture
def writer(log):
    """A process that writes to it, as the one on record."""
    with log.open("ab") as output:
        child = subprocess.Popen(["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE, stderr=output)
        identity = identity_of(child.pid)
        fields = {"pid": child.pid, "process_start": identity.start, "boot_id": identity.boot_id}
        make_state(LlamaServer.objects.get(), "ready", **fields)
        yield output
        child.communicate()


def say(writer, words):
    writer.write(words)
    writer.flush()


GONE = {
    "removed": (lambda log: log.unlink(), REMOVED),
    "moved": (lambda log: log.rename(log.with_name("default.log.1")), MOVED),
    "rotated": (lambda log: (log.rename(log.with_name("default.log-2026")), log.touch()), MOVED),
}


@pytest.mark.parametrize("how", GONE)
def test_the_truth_is_told_of_a_log_that_is_gone(log, writer, staff_client, capsys, how):
    do, note = GONE[how]
    do(log)
    say(writer, b"after that\n")
    assert llama("logs", "-n", "2") == ["the key is [redacted]", "after that"]
    assert note in capsys.readouterr().err
    assert staff_client.get(f"{URL}?lines=1").json() == {
        "server": "default",
        "lines": ["after that"],
        "warning": note,
    }


def test_nothing_is_said_of_a_log_in_its_place(log, writer, staff_client, capsys):
    assert llama("logs", "-n", "1") == ["the key is [redacted]"]
    assert capsys.readouterr().err == ""
    assert "warning" not in staff_client.get(URL).json()


def test_a_server_that_writes_elsewhere_is_said_to(log, writer, capsys, tmp_path):
    log.rename(tmp_path / "elsewhere")
    with pytest.raises(CommandError, match=r"writes to .*/elsewhere, not to .*/default\.log"):
        llama("logs")


def test_a_log_that_goes_while_it_is_followed_is_followed_on(log, writer, monkeypatch, capsys):
    steps = [
        lambda: say(writer, b"half a "),
        lambda: say(writer, b"line\n"),
        lambda: (log.unlink(), say(writer, b"without a name\n")),
        lambda: say(writer, b"still there\n"),
        lambda: None,
    ]

    def look(seconds):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(log_command.time, "sleep", look)
    said = ["the key is [redacted]", "half a line", "without a name", "still there"]
    assert llama("logs", "-f", "-n", "1") == said
    assert capsys.readouterr().err.count(REMOVED) == 1
