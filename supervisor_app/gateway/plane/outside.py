"""The world outside a gateway, as far as it needs that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.gateway.records.record import QuarantineEntry, Record


class Outside(Protocol):
    """The world outside the gateway. Nothing here blocks."""

    def wake(self, server: str) -> None:
        """Start a server that was stopped as idle: a request waits for it."""

    def server_lost(self) -> None:
        """Look for news of servers soon: a request has lost its own, and waits for the verdict."""

    def record(self, record: Record) -> None: ...

    def quarantined(self, entry: QuarantineEntry) -> None:
        """Tell the other gateways, and people."""

    async def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""

    async def read_models(self, *, now: bool = False, reload: bool = False) -> None:
        """Ask servers with several models which these are, unless they just were asked.

        `now`: also then; `reload`: they are to look for new models first.
        """

    def models_changed(self, server: str) -> None:
        """Note that a request has a server load, unload or fetch a model."""
