"""Sockets as the kernel tells of them: who listens on a port, and who is at the other end of a connection.

Nothing here sends a byte to anybody. Everything is read from Linux (`/proc/net`, sock_diag); elsewhere psutil
tells what it can.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from supervisor_app.core.machine.identity import boot_id
from supervisor_app.core.machine.sock_diag import listeners, owner
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Endpoint, ListeningSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

PROC = Path("/proc")
GONE = "a process that has gone meanwhile"
_LISTEN = "0A"


@cache
def realm() -> str:
    """Return the space in which addresses, ports and uids mean the same: this boot, network and users."""
    try:
        inodes = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("net", "user")]
    except OSError:
        inodes = []
    return "/".join([boot_id(), *map(str, inodes)])


def listening(port: int) -> list[ListeningSocket]:
    """All sockets of this machine that listen on `port`, whoever owns them. Raises OSError."""
    if not sys.platform.startswith("linux"):
        return _listening_by_psutil(port)
    try:
        listens = listeners(port)
    except OSError:  # a sandbox that has no sock_diag
        return _listening_by_table(port)
    return [
        ListeningSocket(address=plain(each.address), port=port, uid=each.uid, inode=each.inode)
        for each in listens
    ]


def is_surely_free(port: int) -> bool:
    """Is `port` free at every address? Asked of the kernel alone: nothing for a thread.

    False when that cannot be told so.
    """
    try:
        return sys.platform.startswith("linux") and not listeners(port)
    except OSError:
        return False


def _listening_by_table(port: int) -> list[ListeningSocket]:
    lines = [line for name in ("tcp", "tcp6") for line in _table(PROC / "net" / name)]
    return [found for line in lines if (found := _listener(line, port)) is not None]


def _table(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except FileNotFoundError:  # no IPv6 here
        return []


def _listener(line: str, port: int) -> ListeningSocket | None:
    """The socket of one line of `/proc/net/tcp`, if it listens on `port`."""
    fields = line.split()
    if fields[3] != _LISTEN:
        return None
    address, _, number = fields[1].rpartition(":")
    if int(number, 16) != port:
        return None
    return ListeningSocket(address=_address(address), port=port, uid=int(fields[7]), inode=int(fields[9]))


def _address(text: str) -> str:
    """`0100007F` is 127.0.0.1: words of 32 bits, each in the order of this machine."""
    words = bytes.fromhex(text)
    raw = b"".join(
        int.from_bytes(words[at : at + 4], sys.byteorder).to_bytes(4, "big") for at in range(0, len(words), 4)
    )
    return plain(socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw))


def plain(address: str) -> str:
    """An IPv4 address that IPv6 has wrapped, as itself."""
    return address.removeprefix("::ffff:") if "." in address else address


def _listening_by_psutil(port: int) -> list[ListeningSocket]:
    found = []
    with contextlib.suppress(psutil.Error):  # macOS tells root alone
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr:
                continue
            if connection.laddr.port == port:
                found.append(
                    ListeningSocket(
                        address=plain(connection.laddr.ip),
                        port=port,
                        uid=uid_of(connection.pid) if connection.pid else None,
                        inode=0,
                        pid=connection.pid,
                    )
                )
    return found


def uid_of(pid: int) -> int | None:
    """The effective user of a process; None when it is gone or hidden."""
    try:
        return int(psutil.Process(pid).uids().effective)
    except psutil.Error:
        return None


# --- Which process has a socket ------------------------------------------------------------------------


def sockets_of(pid: int) -> set[int] | None:
    """Inodes of the sockets that a process has open; None when that cannot be seen."""
    try:
        names = os.listdir(PROC / str(pid) / "fd")
        targets = [target for name in names if (target := link_target(pid, name))]
    except OSError as error:
        raise_shortage(error)
        return None
    return {int(target[8:-1]) for target in targets if target.startswith("socket:[")}


def link_target(pid: int, name: str) -> str:
    """Target of a descriptor; empty when it was closed meanwhile. Raises OSError: it may not be seen."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(PROC / str(pid) / "fd" / name)
    return ""


def holder_of_socket(found: ListeningSocket, pids: Sequence[int] | None = None) -> int | None:
    """The process that has it open, of `pids` or of all; None when none is seen to."""
    candidates = psutil.pids() if pids is None else pids
    if not found.inode:
        return found.pid if found.pid in candidates else None
    return next((pid for pid in candidates if found.inode in (sockets_of(pid) or ())), None)


# --- Who is at the other end ---------------------------------------------------------------------------


def stranger_behind(connection: socket.socket, uid: int) -> str:
    """Name whom a fresh connection within this machine has reached, if not a process of `uid`; else empty.

    Asked between connecting and the first byte. A connection that nobody has accepted yet ends with the
    socket that listens for it: one that still waits has waited there since before the first look. Raises
    ShortageError.
    """
    try:
        here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    except OSError:
        return GONE
    here, there = (plain(here[0]), here[1]), (plain(there[0]), there[1])
    try:
        listener = owner(there)
        reached = owner(there, here)
    except OSError as error:
        raise_shortage(error)
        return _stranger_by_table(there, uid)
    if reached is not None and reached.inode and not reached.listens:
        holder = reached
    elif listener is None or reached is None or (reached.listens and reached != listener):
        return GONE
    else:
        holder = listener
    return "" if holder.uid == uid else _words(holder.uid)


def stranger_at(endpoint: Endpoint) -> str:
    """Name who listens there, if not a process of the user that was proved to; else empty.

    Asked before connecting, so that strangers do not even hear of us. Raises ShortageError.
    """
    there = (endpoint.address, endpoint.port)
    if endpoint.uid is None:
        return ""
    try:
        listener = owner(there)
    except OSError as error:
        raise_shortage(error)
        return _stranger_by_table(there, endpoint.uid)
    return _words(listener.uid) if listener is not None and listener.uid != endpoint.uid else ""


def _stranger_by_table(there: tuple[str, int], uid: int) -> str:
    """Find a stranger as `stranger_behind` does, where sock_diag is not to be had."""
    others = [
        found.uid
        for found in listening(there[1])
        if found.address in (there[0], "0.0.0.0", "::") and found.uid not in (None, uid)  # noqa: S104
    ]
    return _words(others[0]) if others else ""


def _words(uid: int | None) -> str:
    return f"a process of another user ({name_of(uid)})"


def name_of(uid: int | None) -> str:
    """`root, uid 0`, as people know a user."""
    try:
        return "unknown" if uid is None else f"{pwd.getpwuid(uid).pw_name}, uid {uid}"
    except KeyError:
        return f"uid {uid}"
