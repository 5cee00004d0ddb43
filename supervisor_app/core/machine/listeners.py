"""Processes that listen where a server wants to, and whether they may be adopted. Blocking."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import psutil

from supervisor_app.common.addresses import WILDCARDS
from supervisor_app.core.command_line.moved_door import moved_door
from supervisor_app.core.machine.identity import command_line, identity_of, is_llama_command
from supervisor_app.core.machine.sockets import holder_of_socket, listening, name_of, realm, uid_of
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Endpoint, ListeningSocket, PortHolder
from supervisor_app.core.spec import LaunchSpec

LONGEST_NAME = 64
"""Characters of a program's name: anybody may call a process whatever it likes."""
Recognise = Callable[[LaunchSpec], bool | None]
"""Does whoever listens at `spec.endpoint` answer as llama-server does? None: it does not answer at all."""


def addresses_of(host: str) -> set[str]:
    """Resolve a host to its addresses; None for a name that does not exist. Raises ShortageError."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104
    except OSError as error:
        raise_shortage(error)
        return set()


def in_the_way(spec: LaunchSpec) -> list[ListeningSocket]:
    """All sockets that listen where the spec wants to."""
    wanted = addresses_of(spec.host)
    return [
        found
        for found in listening(spec.port)
        if found.address in wanted or found.address in WILDCARDS or wanted & WILDCARDS
    ]


def is_blocked(spec: LaunchSpec, found: list[ListeningSocket]) -> bool:
    """Tell whether no address is left: llama-server takes the first of a name's addresses that it gets."""
    wanted, taken = addresses_of(spec.host), {each.address for each in found}
    return bool(taken) and (bool((wanted | taken) & WILDCARDS) or not wanted - taken)


def answers(spec: LaunchSpec) -> bool:
    """Does anybody accept a connection there? Raises ShortageError."""
    try:
        with socket.create_connection((spec.probe_host, spec.port), timeout=1):
            return True
    except OSError as error:
        raise_shortage(error)
        return False


def is_trusted(uid: int | None, spec: LaunchSpec) -> bool:
    """May a process of this user have our requests and our key? Ours, root's, and whom people have named."""
    return uid in {os.geteuid(), 0, *spec.trusted_uids}


def endpoint_of(found: ListeningSocket, unseen: str = "") -> Endpoint:
    return Endpoint(address=found.reachable_at, port=found.port, uid=found.uid, realm=realm(), unseen=unseen)


def holder_of(
    found: ListeningSocket, spec: LaunchSpec, recognise: Recognise, is_ours: Callable[[int], bool]
) -> PortHolder | None:
    """Find the process that has this socket; None when it has just gone.

    A process of a user whom nobody trusts is not asked anything: whatever it says or calls itself proves
    nothing. `is_ours`: a supervisor of ours spawned the process with this pid for this server.
    """
    pid = holder_of_socket(found)
    ours = pid is not None and is_ours(pid)
    users = [found.uid] if pid is None else [found.uid, uid_of(pid)]
    strangers = [] if ours else [uid for uid in users if not is_trusted(uid, spec)]
    endpoint = endpoint_of(found)
    argv = [] if pid is None else command_line(pid)
    problem = _problem(pid, argv)
    may_serve = not strangers and not problem
    is_llama = ours or (may_serve and _is_llama(recognise(spec.at(endpoint)), argv))
    seen = seen_process(pid, is_llama=is_llama)
    if seen is None:
        return None
    foreign = name_of(strangers[0]) if strangers else ""
    return PortHolder(
        identity=seen.identity,
        command=seen.command,
        is_llama_server=is_llama,
        argv=seen.argv,
        started_at=seen.started_at,
        ours=ours,
        foreign_user=foreign,
        problem=problem,
        endpoint=endpoint,
    )


def _problem(pid: int | None, argv: list[str]) -> str:
    """Why a process whose user is trusted can serve nothing all the same; empty when it may."""
    if pid == os.getpid():
        return "llamaproxy itself listens on it, with its pages or its gateway"
    door = moved_door(argv) if is_llama_command(argv) else ""
    return f"pid {pid} (llama-server) listens on it, but {door}" if door else ""


def why_not_bindable(spec: LaunchSpec) -> str:
    """Why llama-server could not listen there although nobody is seen to; empty when it could."""
    try:
        wanted = socket.getaddrinfo(spec.host or "0.0.0.0", spec.port, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        raise_shortage(error)
        return f"the host {spec.host} is not known here ({error.strerror})"
    said = ""
    for family, kind, protocol, _, address in wanted:
        try:
            with socket.socket(family, kind, protocol) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                attempt.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise_shortage(error)
            if error.errno == errno.EACCES and _has_own_rights(spec):
                return ""
            said = said or unbindable(error, spec, str(address[0]))
        else:
            return ""
    return said


def unbindable(error: OSError, spec: LaunchSpec, address: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"a process has taken port {spec.port} of {address} without listening on it"
    if error.errno == errno.EACCES:
        return f"port {spec.port} is for root alone: ports below 1024 are (or need CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is no address of this machine"
    return f"{address} port {spec.port}: {error.strerror}"


def _has_own_rights(spec: LaunchSpec) -> bool:
    """The executable may have rights that we do not have: capabilities of its file, or its owner's."""
    program = Path(spec.cwd, spec.command[0]) if spec.command else None
    if program is None:
        return False
    try:
        return bool(program.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)) or bool(
            os.getxattr(program, "security.capability")
        )
    except (OSError, AttributeError):  # none, or no such thing on this system
        return False


def _is_llama(answer: bool | None, argv: list[str]) -> bool:
    """Recognise by its name a process that says nothing (it hangs, or loads), if its user is trusted."""
    return is_llama_command(argv) if answer is None else answer


def seen_process(pid: int | None, *, is_llama: bool) -> PortHolder | None:
    """A process as it looks from outside; None when it has just gone."""
    if pid is None:
        return PortHolder(identity=None, command="", is_llama_server=is_llama)
    identity = identity_of(pid)
    if identity is None:
        return None
    argv = command_line(pid)
    try:
        started_at = psutil.Process(pid).create_time()
    except psutil.Error:
        started_at = None
    command = Path(argv[0]).name[:LONGEST_NAME] if argv and argv[0] else "unknown program"
    return PortHolder(
        identity=identity,
        command=command,
        is_llama_server=is_llama,
        argv=tuple(argv),
        started_at=started_at,
    )
