"""Effects of decisions, performed: at once, in the history, or by hands that report back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.core import lifecycle
from supervisor_app.core.sightings import Exit

if TYPE_CHECKING:
    from supervisor_app.core.chronicle import Chronicle
    from supervisor_app.core.hands import Hands
    from supervisor_app.core.ports import Clock, RoomDesk
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.seats import Seats
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.succession import Succession
    from supervisor_app.core.surroundings import ServerLog
    from supervisor_app.core.tasks import Tasks
    from supervisor_app.core.watch.loading import LoadWatch


class Host(Protocol):
    """The steps of the server."""

    config: ServerConfig
    load: LoadWatch


class Effects:
    """Perform effects for the seats of one server."""

    def __init__(
        self,
        host: Host,
        seats: Seats,
        *,
        hands: Hands,
        chronicle: Chronicle,
        succession: Succession,
        room: RoomDesk,
        tasks: Tasks,
        clock: Clock,
        log: ServerLog,
    ) -> None:
        self._host = host
        self._seats = seats
        self._hands = hands
        self._chronicle = chronicle
        self._succession = succession
        self._room = room
        self._tasks = tasks
        self._clock = clock
        self._log = log

    def perform(self, effect: lifecycle.Effect, seat: Seat) -> None:
        match effect:
            case lifecycle.AskRoom() if seat is not self._seats.own:
                self._tasks.start(self._succession.ask_room(seat, effect.attempt), "room")
            case lifecycle.AskRoom():
                self._room.nudge()
            case lifecycle.Log():
                own = seat is self._seats.own
                self._log.log(effect.level, effect.text if own else f"[beside] {effect.text}")
            case lifecycle.InspectPort() | lifecycle.Spawn() | lifecycle.Adopt() | lifecycle.CheckCause():
                self._hands.begin(effect, seat)
            case lifecycle.Forget():
                seat.let_go()
            case (
                lifecycle.OpenRun()
                | lifecycle.MarkReady()
                | lifecycle.CloseRun()
                | lifecycle.CountContext()
                | lifecycle.CountRoom()
            ):
                self._write(effect, seat)
            case _:
                if seat.watched is not None:
                    seat.watched.perform(effect, self._host.config.health)

    # The history

    def close_run(self, seat: Seat, why: str) -> None:
        """End the run of a process that lives on, and is the server's own no more."""
        end = lifecycle.CloseRun(Exit(), None, why)
        self._chronicle.write(end, process=seat.watched, config=seat.config)

    def write_withheld(self, seat: Seat) -> None:
        """Write what came to pass with a process before it became the server's own."""
        for effect in seat.withheld:
            self._write(effect, seat)
        seat.withheld.clear()

    def _write(self, effect: lifecycle.Historic, seat: Seat) -> None:
        ends = isinstance(effect, lifecycle.CloseRun)
        if seat is self._seats.own:
            self._learn_load(effect, seat)
            self._chronicle.write(effect, process=seat.watched, config=seat.config)
        elif not ends:  # a process that never was the server's own leaves no history
            seat.withheld.append(effect)
        if ends:
            seat.let_go()

    def _learn_load(self, effect: lifecycle.Historic, seat: Seat) -> None:
        first_ready = isinstance(effect, lifecycle.MarkReady) and not self._chronicle.reached_ready
        if first_ready and not seat.state.adopted and seat.watched is not None:
            self._host.load.learned(self._clock.monotonic() - seat.watched.since)
