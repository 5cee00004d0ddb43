"""The world outside a gateway, as far as it needs that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.gateway.records.record import QuarantineEntry, Record


class Outside(Protocol):
    """What the gateway asks of the world; none of it blocks."""

    def wake(self, server: str) -> None:
        """Somebody asks for a server that was stopped because nobody did."""

    def record(self, record: Record) -> None: ...

    def quarantined(self, entry: QuarantineEntry) -> None:
        """Tell the other gateways, and people."""

    async def metrics(self) -> bytes:
        """Prometheus' text."""

    async def read_models(self, *, now: bool = False, reload: bool = False) -> None:
        """Ask servers that have several which these are, unless they just were asked. `now`: also then;
        `reload`: they are to look for new ones first.
        """

    def models_changed(self, server: str) -> None:
        """Somebody has it load, unload or fetch one."""
