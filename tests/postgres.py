"""A throw-away PostgreSQL cluster."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


def binaries() -> Path | None:
    """The directory with initdb and postgres; None when PostgreSQL is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


class Postgres:
    """A cluster on a free port. PostgreSQL refuses to run as root, so root lends it another user."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self._programs = programs
        self._lend: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._lend = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.directory,
            check=True,
            capture_output=True,
            **self._lend,
        )

    def start(self) -> None:
        options = f"-F -p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def freeze(self) -> None:
        """Let it answer nothing: what is connected stays connected, and new connections wait."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        first = psutil.Process(int((self.directory / "data/postmaster.pid").read_text().split()[0]))
        for process in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def ask(self, sql: str, **options: Any) -> list[Any]:
        """The rows of a query. Raises psycopg.Error."""
        import psycopg

        with psycopg.connect(self.url, **options) as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def throwaway_cluster() -> Iterator[Postgres]:
    """Skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="pip install '.[postgres]'")
    programs = binaries()
    if programs is None:
        pytest.skip("install PostgreSQL (apt-get install postgresql)")
    # Not pytest's tmp_path, which other users may not enter; short, for the socket in it.
    directory = Path(tempfile.mkdtemp(prefix="lp-pg-"))
    try:
        if os.geteuid() == 0:
            _lend_to_postgres(directory)
        cluster = Postgres(directory, programs)
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _lend_to_postgres(directory: Path) -> None:
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root: add a user postgres")
    os.chown(directory, owner.pw_uid, owner.pw_gid)
