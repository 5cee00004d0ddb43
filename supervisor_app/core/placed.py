"""The configuration of a server at the port of its process, which a restart without a gap has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.core.server_config import ServerConfig


class PlacedConfig:
    """The choice of people, and the port that was chosen since."""

    def __init__(self, given: ServerConfig, port: int | None) -> None:
        self.given = given
        """Configuration as it came: with the port that was chosen first."""
        self.port = port if given.spare_ports else None
        """Port of the newest process that took another's place; None: the first one that was chosen."""

    @property
    def config(self) -> ServerConfig:
        if self.port is None:
            return self.given
        return replace(self.given, spec=self.given.spec.on_port(self.port))

    def take(self, given: ServerConfig) -> None:
        """Take a new configuration. Another port of its own, or a fixed one, holds at once."""
        if not given.spare_ports or given.spec.port != self.given.spec.port:
            self.port = None
        self.given = given
