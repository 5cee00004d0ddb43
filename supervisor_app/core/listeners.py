"""Who listens on a port of this machine. Blocking: not for the event loop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from supervisor_app.core.identity import command_line, identity_of
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import PortHolder
from supervisor_app.core.spec import LaunchSpec

LONGEST_NAME = 64
"""Characters of a program's name: anybody may call a process whatever it likes."""
WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104


def _addresses(host: str) -> set[str]:
    """None for a name that does not exist. Raises ShortageError."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104
    except OSError as error:
        raise_shortage(error)
        return set()


def listening_pids(spec: LaunchSpec) -> list[int | None]:
    """Of all sockets that listen where the spec wants to; None for one whose process we may not see."""
    wanted = _addresses(spec.host)
    pids: list[int | None] = []
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:  # macOS, not root: the connection attempt below decides
        return pids
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port != spec.port:
            continue
        address = connection.laddr.ip.removeprefix("::ffff:")
        if address in wanted or address in WILDCARDS or wanted & WILDCARDS:
            pids.append(connection.pid)
    return pids


def answers(spec: LaunchSpec) -> bool:
    """Does anybody accept a connection there? Raises ShortageError."""
    try:
        with socket.create_connection((spec.probe_host, spec.port), timeout=1):
            return True
    except OSError as error:
        raise_shortage(error)
        return False


def holder_of(pid: int | None, is_llama: Callable[[list[str]], bool]) -> PortHolder | None:
    identity = None if pid is None else identity_of(pid)
    if pid is not None and identity is None:
        return None  # it has just gone
    if identity is None:
        return PortHolder(identity=None, command="", is_llama_server=is_llama([]))
    argv = command_line(identity.pid)
    try:
        started_at = psutil.Process(identity.pid).create_time()
    except psutil.Error:
        started_at = None
    command = Path(argv[0]).name[:LONGEST_NAME] if argv and argv[0] else "unknown program"
    return PortHolder(
        identity=identity,
        command=command,
        is_llama_server=is_llama(argv),
        argv=tuple(argv),
        started_at=started_at,
    )
