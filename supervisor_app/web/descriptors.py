"""Shares of one process's listeners in its file descriptors, with a reserve for supervision."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor_app.core.machine.file_limit import raise_file_limit

RESERVED_FILES = 512
"""Descriptors for supervision, the database, log files and the program itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Numbers of connections of a process's listeners; 0 of a listener that it does not have."""

    web: int
    gateway: int


def connection_shares(wanted: Shares) -> Shares:
    """Numbers of connections that the listeners of this process may take."""
    return shares_of(raise_file_limit(), wanted)


def shares_of(files: int, wanted: Shares) -> Shares:
    """Divide so many file descriptors: a reserve goes to supervision, and the rest to the listeners.

    A connection of the gateway counts twice: another one leads to a server.
    """
    free = files - min(RESERVED_FILES, files // 2)
    for_web = min(wanted.web, free // 4 if wanted.gateway else free)
    for_gateway = min(wanted.gateway, (free - for_web) // 2)
    return Shares(web=for_web, gateway=for_gateway)
