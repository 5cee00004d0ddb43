"""llamaproxy as its user has it: a process in a directory of its own, looked at from outside.

Nothing here imports the product. What a `Proxy` started, and what that started in turn, carries its data
directory in the environment: by that `close` finds and ends all of it, whatever became of the supervisor.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "manage.py"
FAKE = ROOT / "tests" / "fake_llama_server.py"
DEADLINE = 40.0
"""Seconds. Everything takes a moment; on a busy machine a long one."""
OUR_VARIABLES = (
    "LLAMA",
    "DATABASE_URL",
    "REDIS_URL",
    "DJANGO_",
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
    "CSRF_",
)
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], evidence: Callable[[], str] = str) -> T:
    """What `look` returns, as soon as that is true. `evidence` is what a failure shows."""
    deadline = time.monotonic() + DEADLINE
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {DEADLINE:g} s never: {what}; last seen: {seen!r}\n{evidence()}")
        time.sleep(0.05)
    return seen


def free_port() -> int:
    """Not one that the kernel gives to outgoing connections, which could take it before we do."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what would change how the product behaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **changes}


class Child:
    """One process that we started; its output goes to a file."""

    def __init__(
        self, command: list[str], log: Path, *, cwd: Path, env: dict[str, str] | None = None
    ) -> None:
        self.command = command
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env or environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(DEADLINE)
        raise AssertionError(f"{self.command} did not end within {DEADLINE:g} s\n{self.output}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Events:
    """One WebSocket and all that came over it: parsed where it is JSON, else HTML."""

    def __init__(self, url: str, **options: Any) -> None:
        self._stack = ExitStack()
        opening = connect(url, open_timeout=DEADLINE, close_timeout=1, proxy=None, **options)
        self._socket = self._stack.enter_context(opening)
        self.messages: list[Any] = []
        self.closed_with: int | None = None

    @property
    def story(self) -> list[tuple[str, Any]]:
        """Status and pid as they were told, without repetitions."""
        told = [(message["data"]["status"], message["data"]["pid"]) for message in self.messages]
        return [now for now, before in zip(told, [None, *told], strict=False) if now != before]

    def send(self, text: str | bytes) -> None:
        self._socket.send(text)

    def next(self, seconds: float = DEADLINE) -> Any:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        try:
            text = self._socket.recv(seconds)
        except ConnectionClosed as error:
            self.closed_with = error.rcvd.code if error.rcvd else 1006
            raise
        with suppress(ValueError):
            text = json.loads(text)
        self.messages.append(text)
        return text

    def wait_for(self, what: str, fits: Callable[[Any], bool]) -> Any:
        """The next message that fits; those before it stay in `messages`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                message = self.next(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, ConnectionClosed) as error:
                got = "\n".join(str(message)[:300] for message in self.messages[-20:])
                raise AssertionError(f"no event: {what} ({error!r}); the last were\n{got}") from error
            if fits(message):
                return message

    def wait_for_status(self, status: str) -> Any:
        """The data of the next event with this status."""
        found = self.wait_for(status, lambda message: message.get("data", {}).get("status") == status)
        return found["data"]

    def wait_for_new_pid(self, old: int) -> Any:
        """The data of the next event that shows another process ready."""

        def fits(message: Any) -> bool:
            return message["data"]["status"] == "ready" and message["data"]["pid"] != old

        return self.wait_for(f"ready with another pid than {old}", fits)["data"]

    def until_closed(self) -> int:
        """The close code, after everything before it."""
        while self.closed_with is None:
            with suppress(ConnectionClosed):
                self.next()
        return self.closed_with

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Proxy:
    """`manage.py runsupervisor` in `directory`, with its own data, ports and config file."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.directory = directory
        self.data_dir = directory / "var"
        self.log = directory / "console.log"
        self.web_port = free_port()
        self.engine_port = free_port()
        self.env = environment(LLAMAPROXY_DATA_DIR=str(self.data_dir))
        self.config: dict[str, Any] = {}
        self.child: Child | None = None
        self.expects_traceback = False
        self._has_web = True
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
        """Let the scripted fake be the llama-server, under that name and with these flags."""
        binary = self.directory / "llama-server"
        binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{FAKE}" "$@"\n')
        binary.chmod(0o755)
        self.configure(llama_server_binary=str(binary), llama_server_args=list(flags), **changes)

    # Starting and ending

    def start(self, *options: str, web: bool = True) -> Proxy:
        self._has_web = web
        where = ["--bind", f"127.0.0.1:{self.web_port}"] if web else ["--no-web"]
        self.child = self.run("runsupervisor", *where, *options)
        return self

    def start_web(self) -> Child:
        """The pages in a process of their own, as in production."""
        self._has_web = True
        where = ("-b", "127.0.0.1", "-p", str(self.web_port))
        daphne = (sys.executable, "-m", "daphne", *where, "llamaproxy.asgi:application")
        return self.beside(*daphne, port=self.web_port)

    def run(self, *arguments: str) -> Child:
        """`manage.py …`, its output on the console."""
        command = [sys.executable, str(MANAGE), *arguments]
        self._others.append(Child(command, self.log, cwd=self.directory, env=self.env))
        return self._others[-1]

    def beside(self, *command: str, port: int = 0) -> Child:
        """Another program, ended with this proxy; with `port`, once it listens there."""
        child = Child(
            list(command), self.directory / f"{len(self._others)}.log", cwd=self.directory, env=self.env
        )
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
        """End everything, and hold that the console showed no traceback to the very end."""
        ending = [child for child in self._others if child.alive and str(MANAGE) in child.command]
        for child in ending:
            child.signal(signal.SIGTERM)
        self._kill({child.pid for child in ending})
        for child in ending:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(10)
        self._kill(set())
        for child in self._others:
            child.kill()
        for client in self._clients:
            client.close()
        print(self.evidence())
        assert self.expects_traceback or "Traceback" not in self.console, self.evidence()

    def _kill(self, spared: set[int]) -> None:
        for process in self.family():
            if process.pid not in spared:
                with suppress(psutil.Error):
                    process.kill()

    def family(self) -> list[psutil.Process]:
        """All processes that descend from ours, also those that have lost their parent."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("LLAMAPROXY_DATA_DIR") == str(self.data_dir)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def engines(self) -> list[psutil.Process]:
        """What descends from us and is not ours itself: llama-servers and their children."""
        ours = {child.pid for child in self._others}
        return [process for process in self.family() if process.pid not in ours]

    # Looking

    @property
    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def said(self, text: str) -> list[str]:
        """The console's lines that hold it."""
        return [line for line in self.console.splitlines() if text in line]

    def wait_for_line(self, text: str, times: int = 1) -> str:
        return self.wait_for(f"the console says {text!r}", lambda: self.said(text)[times - 1 :])[0]

    def wait_for(self, what: str, look: Callable[[], T]) -> T:
        return wait_for(what, look, self.evidence)

    def evidence(self) -> str:
        state = ""
        with suppress(sqlite3.Error):
            state = "\n".join(str(row) for row in self.query("SELECT * FROM supervisor_app_serverstate"))
        beside = "".join(
            f"--- {child.log}\n{child.output}" for child in self._others if child.log != self.log
        )
        return f"--- console of {self.directory}\n{self.console}{beside}--- database\n{state}\n"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def get(self, path: str) -> requests.Response:
        return self._http.get(self.url + path, timeout=DEADLINE)

    def status(self) -> dict[str, Any]:
        """Of the server `default`, from the API or, without pages, from the database; {} if there is none."""
        if self._has_web:
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
            seen = self.status()
            fits = seen.get("status") == status and all(seen[key] == value for key, value in fields.items())
            return seen if fits else {}

        return self.wait_for(f"status {status} {fields or ''}", look)

    def wait_for_new_pid(self, old: int) -> dict[str, Any]:
        """The LlamaStatus, as soon as another process is ready."""

        def look() -> dict[str, Any]:
            seen = self.status()
            return seen if seen.get("status") == "ready" and seen["pid"] != old else {}

        return self.wait_for(f"ready with another pid than {old}", look)

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """Somebody else writes, and does not come to an end."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=DEADLINE)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.rollback()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the database."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=DEADLINE)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql)]

    def runs(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        return self.query("SELECT * FROM supervisor_app_run ORDER BY id")

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
        """What they print in `manage.py shell`."""
        done = self.manage("shell", "--verbosity", "0", "--command", "; ".join(statements))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def server(self, name: str = "default", **changes: Any) -> None:
        """Change a server's row, or add one, as the admin does."""
        self.python(
            "from supervisor_app.models import LlamaServer",
            f"LlamaServer.objects.update_or_create(name={name!r}, defaults={changes!r})",
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(MANAGE), *arguments]
        return subprocess.run(
            command, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=DEADLINE
        )

    def llama(self, *arguments: str) -> str:
        """`manage.py llama …`: what it said."""
        done = self.manage("llama", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def generating(port: int) -> Iterator[None]:
    """A client in the middle of a streamed answer that has no end."""
    body = {"messages": [{"role": "user", "content": "go on"}], "max_tokens": 10**6, "stream": True}
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with session.post(url, json=body, stream=True, timeout=DEADLINE) as answer:
            begun = threading.Event()

            def read() -> None:
                with suppress(requests.RequestException, AttributeError):
                    for line in answer.iter_lines():
                        if b'"content":"' in line.replace(b" ", b""):
                            begun.set()

            reader = threading.Thread(target=read)
            reader.start()
            assert begun.wait(DEADLINE), "it generates nothing"
            yield
            # The connection ends with the server.
            reader.join(DEADLINE)
            assert not reader.is_alive(), "the stream goes on"
