"""llamaproxy as its user has it: a process in a directory of its own, looked at from outside.

Nothing here imports the product. What a `Proxy` started, and what that started in turn, carries its data
directory in the environment: by that `close` finds and ends all of it, whatever became of the supervisor.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import requests

from tests.acceptance.children import FAKE, MANAGE, Child, completed, environment, listens, wait_for
from tests.acceptance.clients import Events
from tests.deadline import DEADLINE
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.acceptance.forking import Forked, Template

T = TypeVar("T")
DAPHNE = Path(sysconfig.get_path("scripts"), "daphne")


class Proxy:
    """`manage.py runsupervisor` in `directory`, with its own data, ports and config file."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.directory = directory
        self.data_dir = directory / "var"
        self.log = directory / "console.log"
        self.web_port = free_port()
        self.gateway_port = free_port()
        self.engine_port = free_port()
        self.env = environment(LLAMAPROXY_DATA_DIR=str(self.data_dir))
        self.config: dict[str, Any] = {}
        self.child: Child | None = None
        self.has_web = True
        self.template: Template | None = None
        """Starts manage.py without loading it anew."""
        self.before: Sequence[str] = ()
        """A command that runs what it is given, before each of ours."""
        self._clients: list[requests.Session] = []
        self._http = self._client()
        self._others: list[Child] = []
        self.log.touch()
        if config:
            self.configure(llama_server_host="127.0.0.1", llama_server_port=self.engine_port, **config)

    # Setting up

    @property
    def config_file(self) -> Path:
        return self.directory / ".llama-proxy-config.json"

    def configure(self, **changes: Any) -> None:
        """Change keys of the config file, in one step as an editor does; None removes one."""
        merged = {**self.config, **changes}
        self.config = {key: value for key, value in merged.items() if value is not None}
        draft = self.config_file.with_suffix(".draft")
        draft.write_text(json.dumps(self.config))
        draft.replace(self.config_file)

    def script(self, *flags: str, **changes: Any) -> None:
        """Let the scripted fake be the llama-server, with these flags."""
        binary = self.write_script()
        # The fake reads no model. If none were there, its crashes would be taken for the lack of one.
        model = self.directory / "models" / "model.gguf"
        model.parent.mkdir(exist_ok=True)
        model.write_bytes(b"GGUF")
        self.configure(llama_server_binary=str(binary), llama_server_args=list(flags), **changes)

    def write_script(self, real: str = "") -> Path:
        """The scripted fake as an executable, there in one step and under llama-server's name.

        `real`: the command that runs instead where no flag is for the fake.
        """
        draft, binary = self.directory / "draft", self.directory / "llama-server"
        fake = f'exec "{sys.executable}" -IS "{FAKE}" "$@"'
        choice = f'case "$*" in *--fake-*) {fake} ;; *) exec {real} "$@" ;; esac' if real else fake
        draft.write_text(f"#!/bin/sh\n{choice}\n")
        draft.chmod(0o755)
        return draft.replace(binary)

    # Starting and ending

    def start(
        self, *options: str, web: bool = True, through: Sequence[str] = (), loaded: bool = False
    ) -> Proxy:
        """`through`: a script, with its arguments, that runs manage.py.

        `loaded`: the script has its effect, or is seen to have none, also where the product's modules are loaded before it.
        """
        self.has_web = web
        pages = ["--bind", f"127.0.0.1:{self.web_port}", "--gateway", f"127.0.0.1:{self.gateway_port}"]
        where = pages if web else ["--no-web"]
        self.child = self.run("runsupervisor", *where, *options, through=through, loaded=loaded)
        return self

    def start_web(self) -> Child:
        """The pages in a process of their own, as in production."""
        self.has_web = True
        where = ("-b", "127.0.0.1", "-p", str(self.web_port))
        daphne = (sys.executable, str(DAPHNE), *where, "llamaproxy.asgi:application")
        return self.beside(*daphne, port=self.web_port, start=self._starter())

    def start_gateway(self, *options: str) -> Child:
        """The gateway in processes of its own, as in production."""
        where = ("--bind", f"127.0.0.1:{self.gateway_port}")
        gateway = self.run("rungateway", *where, *options)
        self.wait_for("the gateway listens", lambda: listens(self.gateway_port))
        return gateway

    def run(self, *arguments: str, through: Sequence[str] = (), loaded: bool = False) -> Child:
        """`manage.py …`, its output on the console."""
        command = [*self.before, sys.executable, *through, str(MANAGE), *arguments]
        start = self._starter(self.before or (() if loaded else through))
        self._others.append(Child(command, self.log, cwd=self.directory, env=self.env, start=start))
        return self._others[-1]

    def _starter(self, first: Sequence[str] = ()) -> Callable[..., subprocess.Popen[bytes] | Forked]:
        """Return what starts manage.py in our environment; `first`: what has to run before it."""
        has_loaded = self.template is not None and self.template.suits(self.env) and not first
        return self.template.start if has_loaded else subprocess.Popen

    def beside(
        self,
        *command: str,
        port: int = 0,
        start: Callable[..., subprocess.Popen[bytes] | Forked] = subprocess.Popen,
    ) -> Child:
        """Start another program, ended with this proxy; with `port`, wait until it listens there."""
        log = self.directory / f"{len(self._others)}.log"
        child = Child(list(command), log, cwd=self.directory, env=self.env, start=start)
        self._others.append(child)
        if port:
            wait_for(f"{command[0]} listens on {port}", lambda: listens(port), lambda: child.output)
        return child

    @property
    def supervisor(self) -> Child:
        assert self.child is not None, "not started"
        return self.child

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        self.supervisor.signal(number)
        return self.supervisor.wait()

    def close(self) -> None:
        """End everything, and hold that our own processes showed no traceback to the very end."""
        ours = [child for child in self._others if {str(MANAGE), str(DAPHNE)}.intersection(child.command)]
        for child in ours:
            if child.alive:
                child.signal(signal.SIGTERM)
        self._kill({child.pid for child in ours})
        for child in ours:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(10)
        self._kill(set())
        for child in self._others:
            child.kill()
        for client in self._clients:
            client.close()
        print(self.evidence())
        assert not [child for child in ours if "Traceback" in child.output], self.evidence()

    def _kill(self, spared: set[int]) -> None:
        for process in self.family():
            if process.pid not in spared:
                with suppress(psutil.Error):
                    process.kill()

    def family(self) -> list[psutil.Process]:
        """All processes that descend from ours, also those that have lost their parent."""
        found = []
        # A fork of the template shows the template's environment.
        started = {child.pid for child in self._others if child.alive}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("LLAMAPROXY_DATA_DIR") == str(self.data_dir)
                if (ours or process.pid in started) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def engines(self) -> list[psutil.Process]:
        """List what descends from us and is not ours itself: llama-servers and their children.

        One that is asked for its version serves nobody, and ends in a moment.
        """
        ours = {child.pid for child in self._others}
        others = [process for process in self.family() if process.pid not in ours]
        return [process for process in others if "--version" not in command_line(process)]

    # Looking

    @property
    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def said(self, text: str) -> list[str]:
        """The console's lines that hold it."""
        return [line for line in self.console.splitlines() if text in line]

    def wait_for_line(self, text: str, times: int = 1) -> str:
        return self.wait_for(f"the console says {text!r}", lambda: self.said(text)[times - 1 :])[0]

    def wait_for(self, what: str, look: Callable[[], T], pause: float = 0.05) -> T:
        return wait_for(what, look, self.evidence, pause)

    def evidence(self) -> str:
        state = ""
        with suppress(sqlite3.Error):
            state = "\n".join(str(row) for row in self.query("SELECT * FROM supervisor_app_serverstate"))
        beside = "".join(
            f"--- {child.log}\n{child.output}" for child in self._others if child.log != self.log
        )
        return f"--- console of {self.directory}\n{self.console}{beside}--- database\n{state}\n"

    @property
    def engine_url(self) -> str:
        return f"http://127.0.0.1:{self.engine_port}"

    @property
    def engine_headers(self) -> dict[str, str]:
        """Return headers with the key that its llama-server asks for."""
        return self.headers_of("default")

    def headers_of(self, name: str) -> dict[str, str]:
        """Return headers with the key that was made for this server."""
        (row,) = self.query(f"SELECT own_key FROM supervisor_app_llamaserver WHERE name = '{name}'")
        return {"Authorization": f"Bearer {row['own_key']}"}

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def get(self, path: str) -> requests.Response:
        return self._http.get(self.url + path, timeout=DEADLINE)

    def status(self) -> dict[str, Any]:
        """Return the status of the server `default`, from the API or, without pages, from the database; {} if there is none."""
        if self.has_web:
            with suppress(requests.ConnectionError):
                answer = self.get("/api/servers/default/")
                return dict(answer.json()) if answer.ok else {}
            return {}
        with suppress(sqlite3.Error):
            for row in self.query("SELECT * FROM supervisor_app_serverstate"):
                parsed = {
                    "failure": json.loads(row["failure"] or "null"),
                    "models": json.loads(row["served"]),
                }
                return {**row, **parsed}
        return {}

    def wait_for_status(self, status: str, **fields: Any) -> dict[str, Any]:
        """The LlamaStatus, as soon as it has this status and these fields."""

        def look() -> dict[str, Any]:
            if self._saved_status() not in (None, status):
                return {}
            seen = self.status()
            fits = seen.get("status") == status and all(seen[key] == value for key, value in fields.items())
            return seen if fits else {}

        return self.wait_for(f"status {status} {fields or ''}", look)

    def _saved_status(self) -> str | None:
        """Return the word in the database; None where that is none of ours, or says nothing yet.

        To wait by asking pages for it twenty times a second would keep a quarter of a core busy.
        """
        with suppress(sqlite3.Error):
            for row in self.query("SELECT status FROM supervisor_app_serverstate"):
                return str(row["status"])
        return None

    def wait_for_new_pid(self, old: int) -> dict[str, Any]:
        """The LlamaStatus, as soon as another process is ready."""

        def look() -> dict[str, Any]:
            if self._saved_status() not in (None, "ready"):
                return {}
            seen = self.status()
            return seen if seen.get("status") == "ready" and seen["pid"] != old else {}

        return self.wait_for(f"ready with another pid than {old}", look)

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """Keep the database locked, as by somebody who writes and does not come to an end."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=DEADLINE)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.rollback()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the database."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=DEADLINE)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql)]

    def write(self, sql: str) -> None:
        """Write behind the back of all that use the database."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=DEADLINE)) as database, database:
            database.execute(sql)

    def runs(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        return self.query("SELECT * FROM supervisor_app_run ORDER BY id")

    def records(self, condition: str = "TRUE") -> list[dict[str, Any]]:
        """Return the records of requests, oldest first; each is there within a second of its end."""
        return self.query(f"SELECT * FROM supervisor_app_requestrecord WHERE {condition} ORDER BY id")

    @contextmanager
    def recording(self, number: int = 1) -> Iterator[list[dict[str, Any]]]:
        """Filled, at the end, with the records of what was asked meanwhile, once there are so many."""
        found: list[dict[str, Any]] = []
        began = f"at >= '{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}'"
        yield found

        def look() -> list[dict[str, Any]]:
            records = self.records(began)
            return records if len(records) >= number else []

        found.extend(self.wait_for(f"{number} records", look))

    def events(self, query: str = "format=json", **options: Any) -> Events:
        return Events(f"ws://127.0.0.1:{self.web_port}/llamaproxws?{query}", **options)

    def _client(self) -> requests.Session:
        self._clients.append(requests.Session())
        self._clients[-1].trust_env = False
        return self._clients[-1]

    # Asking

    def login(self, name: str, *, staff: bool = True) -> requests.Session:
        """A client with the session of a new user, who sends the CSRF token along."""
        key = self.python(
            "from django.contrib.auth.models import User; from django.test import Client; client = Client()",
            f"client.force_login(User.objects.create_user({name!r}, is_staff={staff}))",
            "print(client.cookies['sessionid'].value)",
        )
        client = self._client()
        client.cookies.set("sessionid", key)
        client.get(self.url, timeout=DEADLINE)
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        return client

    def python(self, *statements: str) -> str:
        """Return what statements print in `manage.py shell`."""
        done = self.manage("shell", "--verbosity", "0", "--command", "; ".join(statements))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def server(self, name: str = "default", **changes: Any) -> None:
        """Change a server's row, or add one, as the admin does."""
        self.python(
            "from supervisor_app.fleet.models import LlamaServer",
            f"LlamaServer.objects.update_or_create(name={name!r}, defaults={changes!r})",
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(MANAGE), *arguments]
        return completed(command, cwd=self.directory, env=self.env, start=self._starter())

    def llama(self, *arguments: str) -> str:
        """`manage.py llama …`: what it said."""
        done = self.manage("llama", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def command_line(process: psutil.Process) -> list[str]:
    """Its words; none when it has just ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []
