"""Steps of one server: an event or a configuration in, `decide`, effects out, and what follows from that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core import lifecycle
from supervisor_app.core.effects import Effects
from supervisor_app.core.hands import Hands
from supervisor_app.core.policy import policy_of
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.succession import REPLACED, Succession
from supervisor_app.core.survivor import past_loads
from supervisor_app.core.turn import Turn
from supervisor_app.core.use import concerns_room
from supervisor_app.core.watch.loading import LoadWatch
from supervisor_app.core.wishes import event_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.chronicle import Chronicle
    from supervisor_app.core.neighbours import Neighbours
    from supervisor_app.core.placed import PlacedConfig
    from supervisor_app.core.ports import Clock, Processes, RoomDesk, Turns
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.seats import Seats
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.surroundings import ServerLog
    from supervisor_app.core.tasks import Tasks
    from supervisor_app.core.use import Use
    from supervisor_app.core.wakes import Wakes

OWN_CONFIG = frozenset({lifecycle.Phase.SERVING, lifecycle.Phase.DRAINING})
"""Phases of a process that requests are sent to: what is said of it is as it was started."""


class Steps:
    """Owner of a server's state: each step is taken as a whole, and published at its end."""

    def __init__(
        self,
        placed: PlacedConfig,
        remembered: Remembered,
        *,
        seats: Seats,
        use: Use,
        chronicle: Chronicle,
        recorder: Recorder,
        processes: Processes,
        clock: Clock,
        room: RoomDesk,
        turns: Turns,
        tasks: Tasks,
        ports: set[int],
        wakes: Wakes,
        log: ServerLog,
        spread: Callable[[], float],
        neighbours: Callable[[], Neighbours],
    ) -> None:
        """`ports`, `spread`, `neighbours`: see `ServerSupervisor`."""
        self.placed = placed
        self.config = placed.config
        self.seats = seats
        self.ports = ports
        self.has_begun = False
        """True once it was found out what the last supervisor left."""
        self.leaving = False
        """The server does not exist any more."""
        self.at_rest = asyncio.Event()
        """Set while there is no process and nothing is planned."""
        self.load = LoadWatch(past_loads(remembered, self.config.spec))
        self._use = use
        self._chronicle = chronicle
        self._clock = clock
        self._room = room
        self._spread = spread
        self._wakes = wakes
        self._generation = self._acted = remembered.generation
        self.succession = Succession(
            self,
            seats,
            name=self.config.name,
            processes=processes,
            clock=clock,
            recorder=recorder,
            room=room,
            tasks=tasks,
            log=log,
        )
        self._turn = Turn(self, seats, turns, recorder=recorder, tasks=tasks, held=remembered.holds_turn)
        self._hands = Hands(
            self,
            seats,
            processes=processes,
            remembered=remembered,
            room=room,
            tasks=tasks,
            succession=self.succession,
            neighbours=neighbours,
        )
        self._effects = Effects(
            self,
            seats,
            hands=self._hands,
            chronicle=chronicle,
            succession=self.succession,
            room=room,
            tasks=tasks,
            clock=clock,
            log=log,
        )

    @property
    def state(self) -> lifecycle.State:
        """State of the server's own process."""
        return self.seats.own.state

    @property
    def next_config(self) -> ServerConfig:
        """Configuration of its next process."""
        return self.seats.own.config if self._turn.keeps else self.config

    @property
    def keeps_context(self) -> bool:
        """Are its conversations kept? A server that was deleted leaves nothing behind."""
        return self.config.keeps_context and not self.leaving

    # Configurations and wishes

    def apply(self, config: ServerConfig) -> None:
        """Take a new configuration; restart the server only when its launch has changed."""
        self.placed.take(config)
        config = self.placed.config
        launch_changed = config.spec != self.config.spec
        if config.spec.model_path != self.config.spec.model_path:
            self.load = LoadWatch()
        refusal_changed = config.context_refusal != self.config.context_refusal
        self.config = config
        if refusal_changed and self.has_begun:
            self.record()
        if launch_changed:
            self.tell(lifecycle.ConfigChanged())
        if not config.explained.isdisjoint(self.state.deaths):
            self.tell(lifecycle.Explained(config.explained))
        asked, self._generation = event_of(config, self._generation), config.generation
        if asked is not None:
            self.tell(asked)
        self._turn.poll()

    def move(self, port: int | None) -> None:
        """Go on at the port of the process that is the server's own now; None: at the configured one."""
        self.placed.port = port
        self.config = self.placed.config

    def tell(self, event: lifecycle.Event) -> None:
        """Queue an event of the server's own process."""
        self._wakes.put(event)

    def kill(self) -> None:
        """Send SIGKILL now; an adopted process that is not about to end runs on."""
        for seat in self.seats:
            if not seat.state.adopted or seat.state.phase is lifecycle.Phase.ENDING:
                self._effects.perform(lifecycle.Kill(seat.state.attempt), seat)

    # The step of an event

    def step(self, event: lifecycle.Event, seat: Seat | None = None) -> None:
        """Take an event of a seat, and do what follows; None: of the server's own process."""
        if seat is None or seat is self.seats.own:
            taken = self.succession.take(event)
            if taken is None:
                self._count(event)
            else:
                self.act_in_turn(taken)
        else:
            self._decide(event, seat)
        self.succession.follow()
        self._turn.follow()
        self._leave_taken_port()
        (self.at_rest.set if self.seats.are_at_rest else self.at_rest.clear)()
        self.record()

    def _count(self, event: lifecycle.Event) -> None:
        """Note that a wish was acted on."""
        if isinstance(event, lifecycle.Start | lifecycle.Restart | lifecycle.Stop):
            self._acted = event.generation or self._acted

    def act_in_turn(self, event: lifecycle.Event) -> None:
        """Do in the ordinary way what is to be done; a planned restart once its turn has come."""
        if not self._turn.holds_back(event):
            self.act(event)

    def act(self, event: lifecycle.Event) -> None:
        """Decide on an event of the server's own process now, and count its generation as acted on."""
        self._count(event)
        self._decide(event, self.seats.own)

    def _decide(self, event: lifecycle.Event, seat: Seat) -> None:
        before, own = seat.state, seat is self.seats.own
        policy = policy_of(
            self.config,
            own=own,
            room_is_on=self._room.is_on,
            in_turn=self._room.in_turn,
            keeps_context=self.keeps_context,
        )
        if isinstance(event, lifecycle.Exited | lifecycle.SpawnFailed):
            policy = replace(policy, spread=self._spread())
        seat.state, effects = lifecycle.decide(before, event, policy, self._clock.monotonic())
        if own:
            self._use.follow(before, seat.state, event)
        if concerns_room(before, seat.state, beside=not own):
            self._room.nudge()
        for effect in effects:
            self._effects.perform(effect, seat)
        given_up = seat.state.status is Status.ERROR and before.status is not Status.ERROR
        if given_up and seat is self.seats.own:
            self._hands.remember_cause()

    def instate(self, seat: Seat, *, closing: bool) -> None:
        """Make a seat the server's own, with its history, all in one change.

        `closing`: the run of the process before ends with that.
        """
        if closing:
            self._effects.close_run(self.seats.own, REPLACED)
        self.seats.own = seat
        self._effects.write_withheld(seat)
        self.move(seat.config.spec.port)
        self._use.instated(seat.state)
        self._room.nudge()

    def _leave_taken_port(self) -> None:
        """Go back to the port that was chosen first, when a stranger holds the one of the last process."""
        failure = self.state.failure
        taken = failure is not None and failure.kind is FailureKind.PORT_TAKEN
        if taken and self.state.status is Status.ERROR and self.placed.port is not None:
            self.placed.port = None
            self.apply(self.placed.given)

    def record(self) -> None:
        """Publish and save how the server is now, where that is news."""
        seat, config, watched = self.seats.own, self.config, self.seats.own.watched
        # Perhaps not yet, or not any more, as configured.
        if seat.state.phase in OWN_CONFIG or self._turn.keeps:
            config = config if config.spec is seat.config.spec else replace(config, spec=seat.config.spec)
        self._chronicle.record(
            seat.state,
            config,
            generation=self._acted,
            has_process=watched is not None,
            endpoint=watched.endpoint if watched else None,
            progress=watched.progress if watched and self.state.phase is lifecycle.Phase.WAITING else None,
            replacement=self.succession.replacement,
            port=self.placed.port,
            waits=self._turn.said,
        )
