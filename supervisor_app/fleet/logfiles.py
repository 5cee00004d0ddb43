"""The log of a server as people may see it. It lies on the host that runs the server."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from supervisor_app.common.redact import secrets_of
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.logs import LogFile, written_by
from supervisor_app.core.machine.open_log import what_became_of
from supervisor_app.core.machine.processes import server_log
from supervisor_app.fleet.conf import overlaid
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.snapshots import identity_of_row
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.history import History
from supervisor_app.logs.lives import Life
from supervisor_app.logs.shown import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINES = 10_000
KNOWN_LIVES = 300
"""Runs that are looked for in a log, the newest."""


def log_of(server: LlamaServer) -> LogFile:
    """Return a server's log, in which its own key and the secrets of its flags are hidden."""
    configured = overlaid(server, last_good())
    keys = (str(configured.get("api_key", server.api_key) or ""), server.own_key)
    args = configured.get("args", server.args)
    return server_log(Path(settings.DATA_DIR) / "logs", server.name, (*keys, *secrets_of(args)))


@dataclass(frozen=True)
class FoundLog:
    """The file to which a server writes right now, as far as it can be seen from here."""

    log: LogFile
    note: str = ""
    """Remark on the file, as a sentence: somebody has moved or removed it, or it is not written to."""
    inode: tuple[int, int] | None = None
    """Device and inode of the file, which stay the same when it is moved; None when there is none."""

    home: LogFile | None = None
    """The log by its own name, beside which the older files lie."""

    @property
    def exists(self) -> bool:
        return self.inode is not None

    def history(self) -> History:
        """Open the log with its older files. Raises OSError."""
        return History.open(self.home or self.log, self.log.path)


def find_log(server: LlamaServer) -> FoundLog:
    """Find a server's log file; if that was removed or moved while it runs, the one that it goes on with."""
    log, pid = log_of(server), _pid_here(server)
    file = written_by(pid, log) if pid is not None else None
    note = ""
    with suppress(OSError):
        if file is not None:
            note = what_became_of(file, log.path)
        elif pid is not None:
            target = os.readlink(f"/proc/{pid}/fd/2")
            note = f"It runs as pid {pid} and writes to {target}, not to {log.path}."
    path = file or log.path
    return FoundLog(replace(log, path=path), note, _inode(path), home=log)


@contextmanager
def reading(server: LlamaServer, found: FoundLog) -> Iterator[Reader]:
    """Open a server's log for a page. Raises OSError."""
    with found.history() as history:
        yield Reader.of(history, lives_of(server), Hider(found.log.secrets))


def lives_of(server: LlamaServer) -> list[Life]:
    """Return the lives of a server, as its log tells of them; the newest first."""
    rows = Run.objects.filter(server=server).values_list(
        "pk", "started_at", "ended_at", "failure_title", "argv", "evidence__decisive", "build"
    )
    return [
        Life(
            number=number,
            started_at=started_at.timestamp(),
            ended_at=None if ended_at is None else ended_at.timestamp(),
            title=title or ("" if ended_at is None else "Stopped"),
            failed=bool(title),
            argv=tuple(map(str, argv)),
            decisive=str(decisive or ""),
            build=build,
        )
        for number, started_at, ended_at, title, argv, decisive, build in rows[:KNOWN_LIVES]
    ]


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _pid_here(server: LlamaServer) -> int | None:
    """Return the pid of the server's process, if that runs on this machine."""
    state = ServerState.objects.filter(server=server).first()
    identity = identity_of_row(state) if state else None
    return identity.pid if identity is not None and identity_of(identity.pid) == identity else None
