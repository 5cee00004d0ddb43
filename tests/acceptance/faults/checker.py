"""Checks of a server under a fault: what is told of it, what is on record, what is left behind."""

from __future__ import annotations

import html
import os
import re
import shutil
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from supervisor_app.engine.resolve import LAUNCHER
from tests.acceptance.children import wait_for
from tests.acceptance.faults.recovery_checks import KEPT
from tests.acceptance.harness import command_line
from tests.deadline import DEADLINE
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.acceptance.harness import Proxy

RUNS = """
    SELECT run.* FROM supervisor_app_run AS run JOIN supervisor_app_llamaserver AS server ON server.id = server_id
    WHERE server.name = '{name}' ORDER BY run.id
"""
LOOKS = 20
"""Number of looks at what a process holds open: what it opens for a moment is in some of them only."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The facts that must be seen of a fault."""

    status: str
    """Status in which the fault is told."""
    kind: str = ""
    """Kind of the failure; empty when there must be none."""
    died_of: str | None = None
    """The kind in the history, where that is another one."""
    code: int | None = None
    signal: int | None = None
    says: tuple[str, ...]
    """Phrases of the sentence."""

    @property
    def ending(self) -> tuple[str, int | None, int | None]:
        """Return the end of the run as the history has it."""
        return (self.kind if self.died_of is None else self.died_of, self.code, self.signal)


class Patient:
    """The server `name` of a supervisor with pages. `staff`: a client that may control it."""

    def __init__(self, proxy: Proxy, *, name: str, port: int, staff: requests.Session | None = None) -> None:
        self.proxy = proxy
        self.name = name
        self.port = port
        self.pid = 0
        """Pid of the process that was ready last; `before`: of the one before it."""
        self.before = 0
        self.marker = proxy.directory / f"{name}-is-ill"
        """File whose existence lets a scripted server misbehave."""
        self.model = proxy.directory / f"{name}.gguf"
        self._staff = staff
        self.events = proxy.events(f"format=json&server={name}")
        self._fragments = proxy.events(f"server={name}")

    def close(self) -> None:
        self.events.close()
        self._fragments.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.proxy.data_dir / "logs" / f"{self.name}.log"

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Return the server's history, oldest first."""
        return self.proxy.query(RUNS.format(name=self.name))

    def ask(self, command: str) -> None:
        assert self._staff is not None, "it was not made to be asked"
        answer = self._staff.post(f"{self.proxy.url}/api/servers/{self.name}/{command}", timeout=DEADLINE)
        assert answer.status_code == 202, answer.text

    def asks(self, path: str, seconds: float) -> requests.Response:
        """Return what the server itself answers. Raises requests.RequestException."""
        with requests.Session() as session:
            session.trust_env = False
            headers = self.proxy.headers_of(self.name)
            return session.get(self.url + path, headers=headers, timeout=seconds)

    def until_ready(self) -> None:
        """Wait until another process is ready than the last time."""
        self.before, self.pid = self.pid, self.events.wait_for_new_pid(self.pid)["pid"]

    def until_stable(self) -> None:
        """Wait until its retries count from 0 again."""
        if self.events.messages[-1]["data"]["retries"]:
            self.events.wait_for("no retries", lambda message: not message["data"]["retries"])

    def until_stopped(self) -> None:
        self.events.wait_for_status("initial")

    # What must be seen

    def check_what_is_told(self, expected: Expected) -> None:
        """The state, and the same sentence for programs and for people."""

        def fits(message: Any) -> bool:
            told = message["data"]
            kind = told["failure"]["kind"] if told["failure"] else ""
            state = (told["status"], kind)
            return state == (expected.status, expected.kind) and says(told["detail"], expected)

        def shows(fragment: Any) -> bool:
            return f'data-status="{expected.status}"' in fragment and says(text_of(fragment), expected)

        self.events.wait_for(f"{expected}", fits)
        self._fragments.wait_for(f"{expected}", shows)

    def check_that_nothing_happened(self, expected: Expected) -> None:
        """The same process serves, its life is the only one, and nobody is told anything else."""

        def agrees() -> bool:
            told = self.proxy.get(f"/api/servers/{self.name}/").json()
            return (told["status"], told["pid"], told["failure"]) == (
                expected.status,
                self.pid,
                None,
            ) and says(told["detail"], expected)

        # A slow save is published before it is saved (`recorder.PUBLISH_ANYWAY_SECONDS`), the API reads what is saved.
        self.proxy.wait_for(f"{expected} is saved", agrees)
        assert says(text_of(self.proxy.get(f"/servers/{self.name}/").text), expected)
        (run,) = self.runs
        assert (run["pid"], run["ended_at"]) == (self.pid, None)

    def check_history(self, expected: Expected) -> None:
        """The life that the fault ended is closed and tells why; the one that goes on is open."""
        runs = self.proxy.wait_for("one life goes on", self._lives)
        ended = next(run for run in runs if self.before in (0, run["pid"]))
        assert (ended["failure_kind"], ended["exit_code"], ended["signal"]) == expected.ending
        assert bool(ended["failure_hint"]) == bool(expected.ending[0])
        assert all(run["ended_at"] for run in runs[:-1])
        assert runs[-1]["pid"] == self.pid

    def _lives(self) -> list[dict[str, Any]]:
        runs = self.runs
        return runs if runs and runs[-1]["ready_at"] and not runs[-1]["ended_at"] else []


def says(text: str, expected: Expected) -> bool:
    return all(phrase in text for phrase in expected.says)


def text_of(fragment: str) -> str:
    """Return the words that are read of a fragment."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", fragment)).split())


# --- What is left behind -------------------------------------------------------------------------------


def open_files(pid: int) -> list[str]:
    """List what a process keeps open, without what each of its threads opens when it first needs it.

    That is the database, and a socket for questions to the kernel (netlink). Only Linux tells.
    """
    return min((_open_now(pid) for _ in range(LOOKS)), key=len)


def _open_now(pid: int) -> list[str]:
    found = []
    table = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()
    netlink = {f"socket:[{line.split()[9]}]" for line in table[1:]}
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            found.append(os.readlink(descriptor))
    return sorted(name for name in found if "/db.sqlite3" not in name and name not in netlink)


def listening(proxy: Proxy) -> frozenset[int]:
    """Ports of the supervisor and all that descends from it."""
    ports: set[int] = set()
    for process in proxy.family():
        with suppress(psutil.Error):
            connections = process.net_connections("tcp")
            ports |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return frozenset(ports)


def strange_files(proxy: Proxy) -> list[str]:
    """List what lies in the data directory and does not belong there."""
    names = [str(path.relative_to(proxy.data_dir)) for path in proxy.data_dir.rglob("*") if not path.is_dir()]
    return [name for name in names if not KEPT.fullmatch(name)]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Resources that a supervisor and all that descends from it hold."""

    processes: int
    ports: frozenset[int]
    """Ports on which they listen."""
    files: int
    """Number of files that the supervisor has open."""

    def with_engines(self, processes: int, *ports: int) -> Traces:
        """Add so many more processes, which listen on these ports."""
        return replace(self, processes=self.processes + processes, ports=self.ports | {*ports})


def traces(proxy: Proxy) -> Traces:
    return Traces(
        processes=sum("--version" not in command_line(process) for process in proxy.family()),
        ports=listening(proxy),
        files=len(open_files(proxy.supervisor.pid)),
    )


def check_nothing_is_left(proxy: Proxy, expected: Traces) -> None:
    """Check that there are no more processes, ports and files than expected."""
    seen: list[object] = []

    def look() -> bool:
        seen[:] = [traces(proxy), *proxy.family(), *open_files(proxy.supervisor.pid)]
        now: Any = seen[0]
        return replace(now, files=0) == replace(expected, files=0) and now.files <= expected.files

    wait_for(f"no more than {expected}", look, lambda: "\n".join(map(str, seen)))
    assert strange_files(proxy) == []


class Ward:
    """A supervisor with pages and the servers that fall ill under it: name and fields of each."""

    def __init__(self, proxy: Proxy, servers: Mapping[str, Mapping[str, Any]]) -> None:
        self.proxy = proxy
        self._ports = {name: free_port() for name in servers}
        real = shutil.which("llama-server") or f"{sys.executable} -I {LAUNCHER}"
        proxy.configure(llama_server_binary=str(proxy.write_script(real)))
        rows = [
            {"name": name, "port": self._ports[name], "host": "127.0.0.1", "desired_running": False, **fields}
            for name, fields in servers.items()
        ]
        proxy.python(
            "from supervisor_app.fleet.models import LlamaServer",
            f"[LlamaServer.objects.create(**row) for row in {rows!r}]",
        )
        proxy.start().wait_for_line("[WEB]")
        self._staff = proxy.login("staff")

    @contextmanager
    def admitted(self, name: str) -> Iterator[Patient]:
        """Stopped in the end, whatever became of it."""
        with closing(Patient(self.proxy, name=name, port=self._ports[name], staff=self._staff)) as patient:
            try:
                yield patient
            finally:
                patient.ask("stop")
                patient.until_stopped()
