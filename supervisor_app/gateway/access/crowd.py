"""All connections by whom they belong to, so that one client cannot have them all. Pure.

A connection is a stranger's until its first request was let in; then it belongs to the owner of that: an API
key or, while there is none, an address. When connections run out, idle ones of strangers go first, and of
those the oldest of the address that has the most.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

NOBODY = 0
"""Owner of what comes from this machine's programs, which may be a reverse proxy, without an API key."""


class CountedConnection(Protocol):
    address: str
    """The address of the other side; empty for this machine's own programs."""

    @property
    def is_idle(self) -> bool:
        """Does it wait for no answer?"""


C = TypeVar("C", bound=CountedConnection)
K = TypeVar("K", int, str)


class Crowd(Generic[C]):
    """Strangers by address, all others by owner; each group in the order of joining."""

    def __init__(self) -> None:
        self._number = 0
        self._strangers: dict[str, dict[C, None]] = {}
        self._known: dict[int, dict[C, None]] = {}
        self._owners: dict[C, int] = {}

    def join(self, client: C, limit: int) -> tuple[bool, C | None]:
        """Say if it may stay, and which one has to go for it. `limit`: of all connections."""
        group = self._strangers.setdefault(client.address, {})
        if client.address and len(group) >= strangers_per_address(limit):
            return False, None
        leaving = None
        if self._number >= limit:
            leaving = self._first_to_go()
            if leaving is None:
                return False, None
            self.leave(leaving)
        self._strangers.setdefault(client.address, {})[client] = None
        self._number += 1
        return True, leaving

    def trust(self, client: C, owner: int, limit: int) -> bool:
        """A request of it was let in. False: its owner has too many connections already."""
        group = self._strangers.get(client.address, {})
        if client not in group:
            return True
        known = self._known.setdefault(owner, {})
        if owner != NOBODY and len(known) >= connections_per_owner(limit):
            return False
        self._drop(self._strangers, client.address, client)
        known[client] = None
        self._owners[client] = owner
        return True

    def leave(self, client: C) -> None:
        owner = self._owners.pop(client, None)
        if owner is not None:
            self._drop(self._known, owner, client)
        elif client in self._strangers.get(client.address, {}):
            self._drop(self._strangers, client.address, client)
        else:
            return
        self._number -= 1

    def _first_to_go(self) -> C | None:
        """Choose the connection that has to go first; None: nobody is idle."""
        groups: Iterable[dict[C, None]] = (*_largest_first(self._strangers), *_largest_first(self._known))
        return next((client for group in groups for client in group if client.is_idle), None)

    @staticmethod
    def _drop(groups: dict[K, dict[C, None]], name: K, client: C) -> None:
        del groups[name][client]
        if not groups[name]:
            del groups[name]


def _largest_first(groups: dict[K, dict[C, None]]) -> list[dict[C, None]]:
    return sorted(groups.values(), key=len, reverse=True)


def strangers_per_address(limit: int) -> int:
    return max(1, limit // 8)


def connections_per_owner(limit: int) -> int:
    return max(1, limit * 3 // 4)


def address_of(peer: object) -> str:
    """Reduce a `peername` to what counts as one client: an IPv6 network has as many addresses as it likes."""
    return _network_of(str(peer[0])) if isinstance(peer, tuple) and peer else ""


@lru_cache(maxsize=1024)  # to read an address takes as long as the rest of a connection's beginning
def _network_of(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback:
        return ""
    return str(mapped) if mapped.version == 4 else mapped.exploded[:19]


def owner_of(key: int | None, address: str) -> int:
    """A number for whoever asks: that of the API key or, without one, of the address."""
    if key is not None:
        return key
    return -1 - crc32(address.encode()) if address else NOBODY
