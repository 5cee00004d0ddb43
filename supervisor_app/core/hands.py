"""Work that decisions ask for and that takes time: look at a port, spawn, adopt, look at a cause.

Each runs in a task of its own and comes back as an event.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from supervisor_app.core import launch, lifecycle
from supervisor_app.core.diagnosis.cause_watch import CauseWatch
from supervisor_app.core.neighbours import judge
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.status import FailureKind
from supervisor_app.core.survivor import argv_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.neighbours import Neighbours
    from supervisor_app.core.ports import Processes, RoomDesk
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.seats import Seats
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.succession import Succession
    from supervisor_app.core.tasks import Tasks
    from supervisor_app.core.watch.loading import LoadWatch
    from supervisor_app.core.watched import WatchedProcess

Work = lifecycle.InspectPort | lifecycle.Spawn | lifecycle.Adopt | lifecycle.CheckCause
"""Effects that are done here."""


class Host(Protocol):
    """The steps of the server."""

    config: ServerConfig
    load: LoadWatch

    @property
    def next_config(self) -> ServerConfig:
        """Configuration of its next process."""

    def tell(self, event: lifecycle.Event) -> None:
        """Take an event of the server's own process."""


class Hands:
    """Do the work for the seats of one server."""

    def __init__(
        self,
        host: Host,
        seats: Seats,
        *,
        processes: Processes,
        remembered: Remembered,
        room: RoomDesk,
        tasks: Tasks,
        succession: Succession,
        neighbours: Callable[[], Neighbours],
    ) -> None:
        self._host = host
        self._seats = seats
        self._processes = processes
        self._remembered = remembered
        self._room = room
        self._tasks = tasks
        self._succession = succession
        self._neighbours = neighbours
        self._cause = CauseWatch()

    def begin(self, effect: Work, seat: Seat) -> None:
        match effect:
            case lifecycle.InspectPort():
                work, name = self._inspect(effect.attempt, seat), "inspect"
            case lifecycle.Spawn():
                work, name = self._spawn(effect.attempt, seat), "spawn"
            case lifecycle.Adopt():
                work, name = self._adopt(effect, seat), "adopt"
            case _:
                work, name = self._check_cause(effect), "cause"
        self._tasks.start(seat.around.attempted(effect, work), name)

    def remember_cause(self) -> None:
        """Look at the cause of the failure for which the server was given up just now."""
        self._tasks.start(self._look_at_cause(), "cause")

    async def _inspect(self, attempt: int, seat: Seat) -> None:
        if seat is not self._seats.own:
            await self._succession.choose_port(seat, attempt)
            return
        spec = self._host.next_config.spec
        found = await launch.inspect(seat.around, attempt, spec)
        seat.around.report(judge(found, spec.port, self._neighbours()))

    async def _spawn(self, attempt: int, seat: Seat) -> None:
        if seat is self._seats.own:
            seat.config = self._host.next_config
        elif not await self._succession.may_spawn(seat, attempt):
            return
        self._take(*await launch.spawn(seat.around, attempt, seat.config.spec, self._host.load), seat)

    async def _adopt(self, effect: lifecycle.Adopt, seat: Seat) -> None:
        if seat is self._seats.own:
            seat.config = self._host.config
        argv = argv_of(effect, self._remembered, seat.config.spec)
        self._take(*await launch.adopt(seat.around, effect, seat.config.spec, argv, self._host.load), seat)

    def _take(self, event: lifecycle.Event, process: WatchedProcess | None, seat: Seat) -> None:
        """Take over a process that was spawned or adopted; None: there is none."""
        if process is not None:
            seat.watched = process
        seat.around.report(event)

    async def _look_at_cause(self) -> None:
        config, failure = self._host.config, self._seats.own.state.failure
        if failure is not None and failure.permanent and failure.kind is not FailureKind.DOES_NOT_FIT:
            self._cause.begin_unseen()
            with suppress(*CANNOT):
                self._cause.begin(await self._processes.cause_of(config.name, failure, config.spec))

    async def _check_cause(self, effect: lifecycle.CheckCause) -> None:
        config = self._host.config
        if effect.failure.kind is FailureKind.DOES_NOT_FIT:
            gone = await self._room.may_fit(config.name)
        else:
            cause = await self._processes.cause_of(config.name, effect.failure, config.spec)
            gone = self._cause.is_gone(cause)
        self._host.tell(lifecycle.CauseChecked(effect.attempt, gone))
