"""One file for all servers, while everything runs."""

from __future__ import annotations

import signal
from contextlib import suppress

import psutil
import pytest
import requests

from tests.ports import free_port

CHAT, EMBED, CODER = "chat", "embed", "coder"


class Fleet:
    """A proxy with `llamaproxy.toml`, whose llama-server is the scripted fake."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.binary = proxy.write_script()
        self.file = proxy.directory / "llamaproxy.toml"
        self.first_port = free_port()
        (proxy.directory / "model.gguf").write_bytes(b"GGUF")

    def writes(self, *names, head="", **lines):
        """Write the file in one step: a table for each name, with the lines given for it."""
        tables = [
            f'[engines.fake]\nbinary = "{self.binary}"',
            '[defaults]\nengine = "fake"\nhost = "127.0.0.1"',
            f'ports = "{self.first_port}-{self.first_port + 9}"',
        ]
        tables += [f'[servers.{name}]\nmodel_path = "model.gguf"\n{lines.get(name, "")}' for name in names]
        draft = self.file.with_suffix(".draft")
        draft.write_text("\n".join([*tables, head]))
        draft.replace(self.file)

    def status(self, name):
        """The LlamaStatus; {} while there is none, or no page yet."""
        with suppress(requests.ConnectionError):
            answer = self.proxy.get(f"/api/servers/{name}/")
            return answer.json() if answer.ok else {}
        return {}

    def ready(self, *names):
        """Their LlamaStatus, once all are ready."""

        def look():
            seen = {name: self.status(name) for name in names}
            return seen if all(one.get("status") == "ready" for one in seen.values()) else {}

        return self.proxy.wait_for(f"{names} are ready", look)

    def ports(self):
        return {
            row["name"]: row["port"] for row in self.proxy.query("SELECT * FROM supervisor_app_llamaserver")
        }


@pytest.fixture
def fleet(make_proxy):
    return Fleet(make_proxy())


def test_servers_come_change_and_go_with_the_file_and_a_mistake_changes_nothing(fleet):
    port = free_port()
    fleet.writes(CHAT, EMBED, chat=f"port = {port}")
    fleet.proxy.start()
    first = fleet.ready(CHAT, EMBED)
    assert fleet.ports()[CHAT] == port
    assert set(fleet.ports()) == {CHAT, EMBED}, "no server that nobody asked for"

    fleet.writes(
        CHAT, EMBED, CODER, chat=f'port = {port}\nargs = ["-c", "512"]\nenvironment = {{ PLACE = "x" }}'
    )
    fleet.proxy.wait_for(
        "chat runs anew", lambda: fleet.status(CHAT).get("pid") not in (None, first[CHAT]["pid"])
    )
    second = fleet.ready(CHAT, EMBED, CODER)
    assert second[EMBED]["pid"] == first[EMBED]["pid"], "it has not changed"
    changed = psutil.Process(second[CHAT]["pid"])
    assert "512" in changed.cmdline()
    assert changed.environ()["PLACE"] == "x"
    (told,) = fleet.proxy.said("coder: added")
    assert "chat: args none → -c 512" in told

    fleet.writes(EMBED, CODER)
    fleet.proxy.wait_for("chat is gone", lambda: not fleet.status(CHAT))
    fleet.proxy.wait_for("its process, too", lambda: not changed.is_running())

    fleet.writes(EMBED, CODER, head="[servers.bad]\nmodel_pat = 1")
    said = fleet.proxy.wait_for_line("there is no such key")
    line = 1 + fleet.file.read_text().splitlines().index("model_pat = 1")
    assert f"llamaproxy.toml, line {line}: servers.bad.model_pat: " in said
    assert "Did you mean model_path?" in said
    assert "Going on with what it said before." in said
    third = fleet.ready(EMBED, CODER)
    assert {name: one["pid"] for name, one in third.items()} == {
        name: second[name]["pid"] for name in (EMBED, CODER)
    }
    checked = fleet.proxy.manage("llama", "config", "check")
    assert (checked.returncode, f"line {line}" in checked.stderr) == (2, True)


def test_after_a_killed_supervisor_the_servers_are_taken_over_on_their_ports(fleet):
    fleet.writes(CHAT, EMBED)
    fleet.proxy.start()
    before, ports = fleet.ready(CHAT, EMBED), fleet.ports()
    fleet.proxy.stop(signal.SIGKILL)
    fleet.proxy.start()
    fleet.proxy.wait_for_line("[WEB] http", times=2)
    after = fleet.ready(CHAT, EMBED)
    assert fleet.ports() == ports
    assert [after[name]["pid"] for name in ports] == [before[name]["pid"] for name in ports]


def test_a_server_whose_port_a_stranger_takes_gets_another(fleet):
    fleet.writes(CHAT)
    fleet.proxy.start()
    fleet.ready(CHAT)
    port = fleet.ports()[CHAT]
    fleet.proxy.llama("stop", CHAT)
    fleet.proxy.wait_for("it is stopped", lambda: fleet.status(CHAT)["status"] == "initial")
    fleet.proxy.beside("python3", "-m", "http.server", "--bind", "127.0.0.1", str(port), port=port)
    fleet.proxy.llama("start", CHAT)
    fleet.proxy.wait_for_line(f"Port {port} of chat is taken: it gets")
    fleet.ready(CHAT)
    assert fleet.ports()[CHAT] != port


def test_both_files_end_the_start_with_one_line_that_names_them(fleet):
    fleet.writes(CHAT)
    fleet.proxy.config_file.write_text("{}")
    fleet.proxy.start(web=False)
    assert fleet.proxy.supervisor.wait() == 2
    assert f"There are {fleet.file} and {fleet.proxy.config_file}. Keep one of them" in fleet.proxy.console


def engine(name, binary, place):
    return f'[engines.{name}]\nbinary = "{binary}"\nenvironment = {{ PLACE = "{place}" }}'


def test_a_server_that_people_made_runs_on_the_engine_that_it_names(fleet):
    """The second engine is another program; one that is described no more ends nothing that runs."""
    other = fleet.proxy.directory / "other-engine"
    other.write_text(f'#!/bin/sh\nexec "{fleet.binary}" "$@" --fake-token-seconds 0.01\n')
    other.chmod(0o755)
    fleet.writes(head=engine("other", other, "there"))
    fleet.proxy.start()
    port = free_port()
    fleet.proxy.server("mine", model_path="model.gguf", host="127.0.0.1", port=port, engine="other")
    first = fleet.ready("mine")["mine"]
    process = psutil.Process(first["pid"])
    assert process.environ()["PLACE"] == "there"
    assert process.cmdline()[-2:] == ["--fake-token-seconds", "0.01"]

    fleet.writes()
    told = fleet.proxy.wait_for_line("has no [engines.other] any more")
    assert "mine goes on with what it said before" in told
    assert fleet.status("mine")["pid"] == first["pid"]

    fleet.proxy.server("mine", engine="later")
    down = fleet.proxy.wait_for(
        "it is down", lambda: fleet.status("mine")["status"] == "error" and fleet.status("mine")
    )
    assert down["failure"]["title"] == "Its engine is not described"
    for part in ("mine is to run on the engine later", "llamaproxy.toml has no [engines.later]"):
        assert part in down["failure"]["detail"]
    fleet.writes(head=engine("later", other, "here"))
    second = fleet.ready("mine")["mine"]
    assert psutil.Process(second["pid"]).environ()["PLACE"] == "here"
