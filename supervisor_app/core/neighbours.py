"""Other servers of the node, of which a process may still have the port of a server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from supervisor_app.core import lifecycle
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.core.seat import Seat
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.sightings import Identity

PROCESS = lifecycle.HAS_PROCESS | {lifecycle.Phase.SPAWNING}


class Neighbour(Protocol):
    """The supervisor of another server of the node."""

    @property
    def config(self) -> ServerConfig: ...
    @property
    def leaving(self) -> bool:
        """True once the server was deleted or has another name: its process is to end."""

    @property
    def has_begun(self) -> bool:
        """True once it has found out what the last supervisor left."""

    @property
    def seats(self) -> Iterable[Seat]:
        """Seats of its processes."""


Neighbours = Mapping[str, Neighbour]
"""Supervisors of the other servers of the node, by name."""


def judge(
    found: lifecycle.Inspected, port: int, neighbours: Neighbours
) -> lifecycle.Inspected | lifecycle.PortAwaited:
    """Return what a look at the port of a server means beside its neighbours.

    A process of theirs that is to end is waited for, whether it listens yet or not, and none is adopted.
    """
    holder = found.holder
    owner = holder.server or owner_of(holder.identity, neighbours) if holder is not None else ""
    for name, neighbour in neighbours.items():
        for seat in neighbour.seats:
            if _goes(neighbour, seat, port) and (name == owner or seat.config.spec.port == port):
                return lifecycle.PortAwaited(found.attempt, _why(port, name, seat))
    if holder is None or not holder.is_llama_server or holder.ours:
        return found
    if not all(neighbour.has_begun for neighbour in neighbours.values()):
        return lifecycle.PortAwaited(found.attempt, f"Looking whose process listens on port {port}.")
    return replace(found, holder=replace(holder, server=owner))


def owner_of(identity: Identity | None, neighbours: Neighbours) -> str:
    """Return the name of the server whose process this is; empty: it is nobody's."""
    if identity is None:
        return ""
    owners = (
        name
        for name, neighbour in neighbours.items()
        if any(seat.state.identity == identity for seat in neighbour.seats)
    )
    return next(owners, "")


def _goes(neighbour: Neighbour, seat: Seat, port: int) -> bool:
    """Tell whether a process of a neighbour is to leave this port."""
    is_to_end = neighbour.leaving or seat.state.status is Status.STOPPING
    return seat.state.phase in PROCESS and (is_to_end or neighbour.config.spec.port != port)


def _why(port: int, name: str, seat: Seat) -> str:
    process = f"pid {seat.pids[0]}" if seat.pids else "a process"
    return f"Waiting for port {port}: {process} of the server {name} has it until it has ended."
