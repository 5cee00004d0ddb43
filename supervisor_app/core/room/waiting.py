"""Requests that wait for servers, as gateways tell of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FRESH_SECONDS = 5.0
"""A gateway that tells of no more requests for so long has ended, or nobody waits there any more."""


@dataclass
class Waiting:
    """Gateway -> when it told last, and what."""

    _told: dict[str, tuple[float, Mapping[str, int]]] = field(default_factory=dict)

    def tell(self, gateway: str, counts: Mapping[str, int], now: float) -> None:
        """`counts`: server -> requests, of all for which any wait."""
        self._told[gateway] = now, counts

    def for_server(self, name: str, now: float) -> int:
        return sum(counts.get(name, 0) for at, counts in self._told.values() if now < at + FRESH_SECONDS)
