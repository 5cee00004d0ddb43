"""Servers on other hosts, which can vanish without a word: power, cable, kernel. Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supervisor_app.common.words import iso
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Endpoint
    from supervisor_app.gateway.servers.facts import ServerFacts


def is_elsewhere(url: str, endpoint: Endpoint | None, realm: str) -> bool:
    """Is the server reached over a network that may fail? `realm`: ours (`core.machine.sockets.realm`).

    A server in another container of this host is not: it goes with us.
    """
    host = urlsplit(url).hostname or ""
    if not host or _is_loopback(host):
        return False
    boot, here = (endpoint.realm if endpoint else "").partition("/")[0], realm.partition("/")[0]
    return not boot or boot != here


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def as_reached(facts: ServerFacts, answers: bool | None) -> ServerFacts:
    """Decide what to make of a server whose supervisor may be silent.

    `answers`: the server takes connections, or refuses to; None: that was not tried.

    A supervisor that was killed leaves its servers behind, and they go on serving: silence alone takes
    none out of use. On this host its own words and refused connections tell enough.
    """
    since = facts.silent_since
    if since is None or not facts.is_elsewhere or (facts.status is Status.READY and answers is not False):
        return facts
    what = "Its host does not answer, and no" if facts.status is Status.READY else "No"
    return replace(facts, away=True, detail=f"{what} supervisor has reported since {iso(since)}.")
