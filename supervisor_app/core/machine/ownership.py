"""Is this listening socket that of the process we watch? Blocking: not for the event loop.

Mostly it is simply seen: the process or a child of it has the socket open. Sometimes it cannot be seen (a
container behind an attached `docker run`, an executable with capabilities of its own, another pid namespace).
Then what fits together is enough, and people are told what was not seen. A socket that is seen to be somebody
else's is never taken for ours.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil

from supervisor_app.core.machine.family import family_of
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.listeners import endpoint_of, is_trusted
from supervisor_app.core.machine.sockets import holder_of_socket, sockets_of

if TYPE_CHECKING:
    from supervisor_app.core.machine.logs import LogFile
    from supervisor_app.core.sightings import Endpoint, Identity, ListeningSocket
    from supervisor_app.core.spec import LaunchSpec

SETTLED_SECONDS = 1.0
"""A llama-server whose port was taken by another in the last moment has ended by then."""


def own_endpoint(
    found: list[ListeningSocket], spec: LaunchSpec, identity: Identity, log: LogFile | None
) -> Endpoint | None:
    """Find the process's endpoint among the sockets `found`. `log`: the file to which our child writes."""
    if not found:
        return None
    # Mostly it listens itself, and there is no need to know its children.
    if (each := _held_by([identity.pid], found)) is not None:
        return endpoint_of(each)
    family = family_of(identity.pid, now=True)
    if (each := _held_by(family, found)) is not None:
        return endpoint_of(each)
    for each in found:
        unseen = _unless_strange(each, spec, identity, family, log)
        if unseen is not None:
            return endpoint_of(each, unseen)
    return None


def _held_by(pids: list[int], found: list[ListeningSocket]) -> ListeningSocket | None:
    return next((each for each in found if holder_of_socket(each, pids) is not None), None)


def _unless_strange(
    found: ListeningSocket, spec: LaunchSpec, identity: Identity, family: list[int], log: LogFile | None
) -> str | None:
    """Warn of what cannot be seen of a socket that may be ours; None: it is not ours.

    The port was free when the process was spawned, so whoever listens now came after it.
    """
    holder = holder_of_socket(found)
    if holder is not None and log is not None and log.is_written_by(holder):
        return ""  # it has left its family, but we spawned it
    if not is_trusted(found.uid, spec) or not has_lived(identity.pid, SETTLED_SECONDS):
        return None
    if holder is None:
        hidden = [pid for pid in family if sockets_of(pid) is None]
        what = f"what pid {hidden[0]} has open" if hidden else "which process has the socket"
        return f"It cannot be seen {what}, so its address is taken for its own because the port was free."
    if is_newer(holder, identity) and is_contained(holder):
        return (
            f"Pid {holder}, which listens, is in a container and no child of pid {identity.pid}; it is taken "
            "for its own because the port was free."
        )
    return None


def has_lived(pid: int, seconds: float) -> bool:
    try:
        return time.time() - psutil.Process(pid).create_time() >= seconds
    except psutil.Error:
        return False


def is_newer(pid: int, than: Identity) -> bool:
    born = identity_of(pid)
    return born is not None and born.start >= than.start


def is_contained(pid: int) -> bool:
    """Does it live among other processes or files than we do?"""
    for kind in ("pid", "mnt"):
        try:
            if os.stat(f"/proc/{pid}/ns/{kind}").st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:
                return True
        except OSError:
            return False
    return False
