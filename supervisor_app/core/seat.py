"""A seat for one process of a server: its state, and what belongs to the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.surroundings import Surroundings
    from supervisor_app.core.watched import WatchedProcess


class Seat:
    """Most often a server has one. During a restart without a gap there are two (`core.succession`)."""

    def __init__(self, config: ServerConfig, surroundings: Callable[[Seat], Surroundings]) -> None:
        self.config = config
        """Configuration with which its process was started, or is to be."""
        self.state = lifecycle.State()
        self.watched: WatchedProcess | None = None
        self.withheld: list[lifecycle.Historic] = []
        """History of a process beside the server's own, which is written once it takes the other's place."""
        self.around = surroundings(self)

    @property
    def pids(self) -> tuple[int, ...]:
        """Pid of its process; empty while there is none."""
        return () if self.state.identity is None else (self.state.identity.pid,)

    def let_go(self) -> None:
        """Throw away all that belongs to the process, whether it has ended or lives on."""
        if self.watched is not None:
            self.watched.close()
        self.watched = None
