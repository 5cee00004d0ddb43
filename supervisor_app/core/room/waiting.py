"""Gateways that were heard of, and the requests that wait in them for servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FRESH_SECONDS = 5.0
"""A gateway that says nothing for so long has ended: each tells every two seconds how many wait there."""


@dataclass
class Waiting:
    """Gateway -> when it told last, and what."""

    _told: dict[str, tuple[float, Mapping[str, int]]] = field(default_factory=dict)

    def tell(self, gateway: str, counts: Mapping[str, int], now: float) -> None:
        """`counts`: server -> requests, of all for which any wait."""
        self._told = {name: told for name, told in self._told.items() if now < told[0] + FRESH_SECONDS}
        self._told[gateway] = now, counts

    def gateways(self, now: float) -> frozenset[str]:
        """Return the names of those that were heard of lately."""
        return frozenset(name for name, (at, _) in self._told.items() if now < at + FRESH_SECONDS)

    def for_server(self, name: str, now: float) -> int:
        return sum(counts.get(name, 0) for at, counts in self._told.values() if now < at + FRESH_SECONDS)
