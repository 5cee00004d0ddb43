"""Seats of one server: that of its own process, and the one beside it during a restart without a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle
from supervisor_app.core.seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.surroundings import Surroundings


class Seats:
    """Seats of the processes of one server, its own first: who iterates has those of that moment."""

    def __init__(self, config: ServerConfig, surroundings: Callable[[Seat], Surroundings]) -> None:
        self._surroundings = surroundings
        self.own = self.new(config)
        """Seat of the server's own process."""
        self.beside: Seat | None = None
        """Seat of the second process, which `core.succession` begins and ends."""

    def new(self, config: ServerConfig) -> Seat:
        """Make a seat, which is none of the server's yet."""
        return Seat(config, self._surroundings)

    def __iter__(self) -> Iterator[Seat]:
        return iter((self.own,) if self.beside is None else (self.own, self.beside))

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of the processes."""
        return tuple(pid for seat in self for pid in seat.pids)

    @property
    def deadline(self) -> float | None:
        """Earliest deadline, in monotonic seconds; None: there is none."""
        return min((due for seat in self if (due := seat.state.deadline) is not None), default=None)

    @property
    def have_process(self) -> bool:
        return any(seat.state.phase in lifecycle.HAS_PROCESS for seat in self)

    @property
    def are_spawning(self) -> bool:
        """Is a process being spawned or adopted?"""
        return any(seat.state.phase is lifecycle.Phase.SPAWNING for seat in self)

    @property
    def are_at_rest(self) -> bool:
        """Is there no process, and nothing planned?"""
        return self.own.state.phase is lifecycle.Phase.IDLE and self.beside is None

    def moved(self) -> None:
        """Note that content of an answer of the server has passed a gateway."""
        for seat in self:
            if seat.watched is not None:
                seat.watched.moved = True

    def surveyed(self, survey: Survey) -> None:
        """Note what each process was seen to use of each device."""
        for seat in self:
            if seat.watched is not None:
                for pid in seat.pids:
                    seat.watched.surveyed(survey.used_by(pid))

    def let_go(self) -> None:
        """Let go of all processes, which live on."""
        for seat in self:
            seat.let_go()
