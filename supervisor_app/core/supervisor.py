"""Runs one server's lifecycle against the world: events in, `decide`, effects out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core import lifecycle
from supervisor_app.core.chronicle import Chronicle
from supervisor_app.core.effects import Effects
from supervisor_app.core.hands import Hands
from supervisor_app.core.neighbours import owner_of
from supervisor_app.core.placed import PlacedConfig
from supervisor_app.core.seat import Seat
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.status import FailureKind, LlamaStatus, Status
from supervisor_app.core.succession import REPLACED, Succession
from supervisor_app.core.surroundings import ServerLog, Surroundings
from supervisor_app.core.survivor import look_back, past_loads, port_of
from supervisor_app.core.tasks import Tasks
from supervisor_app.core.turn import Turn
from supervisor_app.core.use import Use, concerns_room
from supervisor_app.core.wakes import Wakes
from supervisor_app.core.watch.loading import LoadWatch
from supervisor_app.core.wishes import event_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.devices import Survey
    from supervisor_app.core.neighbours import Neighbours
    from supervisor_app.core.ports import Clock, Contexts, Footprints, Probe, Processes, RoomDesk, Turns
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.vitals import Vitals
    from supervisor_app.core.watched import WatchedProcess

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.02
REQUESTS_SECONDS = 1.0
"""Time for an answer to how many requests are in flight: a server that is silent counts as busy."""
OWN_CONFIG = frozenset({lifecycle.Phase.SERVING, lifecycle.Phase.DRAINING})
"""Phases of a process that requests are sent to: what is said of it is as it was started."""


class ServerSupervisor:
    """Keeps one server in its desired state.

    One task (`run`) owns `state` and decides; work that takes time runs in a task of its own and comes back
    as an event. So no answer, however late, is seen twice or out of turn.
    """

    def __init__(
        self,
        config: ServerConfig,
        remembered: Remembered,
        *,
        processes: Processes,
        probe: Probe,
        clock: Clock,
        footprints: Footprints,
        contexts: Contexts,
        recorder: Recorder,
        room: RoomDesk,
        turns: Turns,
        ports: set[int] | None = None,
        spread: Callable[[], float] = lambda: 0.0,
        neighbours: Callable[[], Neighbours] = dict,
    ) -> None:
        """`ports`: those of the node that were chosen for second processes, shared by all its servers.

        `spread`: seconds by which a retry is later, as other servers of the node are down now.

        `neighbours`: supervisors of those other servers.
        """
        self._spread = spread
        self._neighbours = neighbours
        self.ports = set() if ports is None else ports
        self.placed = PlacedConfig(config, remembered.port)
        self.config = self.placed.config
        self.leaving = False
        self.has_begun = False
        """True once it has found out what the last supervisor left."""
        self.use = Use(clock)
        self._room = room
        self._ending = False
        """The supervisor was told to stop for good."""
        self._processes = processes
        self._probe = probe
        self._clock = clock
        self._chronicle = Chronicle(config.name, remembered, clock=clock, recorder=recorder)
        self._remembered = remembered
        self._generation = self._acted = remembered.generation
        self.load = LoadWatch(past_loads(remembered, config.spec))
        self._wakes = Wakes(clock)
        self._tasks = Tasks(config.name, self._on_bug)
        self._bug: BaseException | None = None
        self._idle = asyncio.Event()
        self._log = ServerLog(log, {"server": config.name})
        self._contexts = contexts
        self._footprints = footprints
        self.seat = Seat(self.config, self._surroundings)
        self.succession = Succession(
            self,
            name=config.name,
            processes=processes,
            clock=clock,
            recorder=recorder,
            room=room,
            tasks=self._tasks,
            log=self._log,
        )
        self._turn = Turn(self, turns, recorder=recorder, tasks=self._tasks, held=remembered.holds_turn)
        self._hands = Hands(
            self,
            processes=processes,
            remembered=remembered,
            room=room,
            tasks=self._tasks,
            succession=self.succession,
            neighbours=neighbours,
        )
        self._effects = Effects(
            self,
            hands=self._hands,
            chronicle=self._chronicle,
            succession=self.succession,
            room=room,
            tasks=self._tasks,
            clock=clock,
            log=self._log,
        )

    def _surroundings(self, seat: Seat) -> Surroundings:
        return Surroundings(
            name=self.config.name,
            processes=self._processes,
            probe=self._probe,
            clock=self._clock,
            footprints=self._footprints,
            contexts=self._contexts,
            log=self._log,
            state=lambda: seat.state,
            report=lambda event: self._wakes.put(event, seat),
            keeps_context=lambda: self._keeps_context and seat is self.seat,
            shares_log=lambda: seat is not self.seat or self.succession.seat is not None,
            progressed=self._record,
            on_bug=self._on_bug,
        )

    @property
    def state(self) -> lifecycle.State:
        """State of the server's own process."""
        return self.seat.state

    @property
    def second(self) -> lifecycle.State | None:
        """State of the process beside that one; None: there is none."""
        beside = self.succession.seat
        return None if beside is None else beside.state

    @property
    def next_config(self) -> ServerConfig:
        """Configuration of its next process."""
        return self.seat.config if self._turn.keeps else self.config

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of its processes."""
        return tuple(pid for seat in self.seats for pid in seat.pids)

    @property
    def vitals(self) -> Vitals | None:
        """Vital signs of its own process; None while nobody can have looked at what it does."""
        return None if self._watched is None else self._watched.vitals

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Seats of its processes, its own first."""
        beside = self.succession.seat
        return (self.seat,) if beside is None else (self.seat, beside)

    @property
    def _watched(self) -> WatchedProcess | None:
        return self.seat.watched

    @property
    def snapshot(self) -> LlamaStatus:
        """The snapshot that was published last."""
        return self._chronicle.snapshot

    # Its wishes and questions

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
            self._record()
        if launch_changed:
            self.tell(lifecycle.ConfigChanged())
        if not config.explained.isdisjoint(self.state.deaths):
            self.tell(lifecycle.Explained(config.explained))
        asked, self._generation = event_of(config, self._generation), config.generation
        if asked is not None:
            self.tell(asked)
        self._turn.poll()

    def stop(self, note: str, *, spare_adopted: bool, at_once: bool = True) -> None:
        """Stop for good: nothing is begun after this."""
        self._ending = True
        self._idle.clear()
        self.tell(lifecycle.Stop(note, spare_adopted=spare_adopted, at_once=at_once))

    def leave(self, note: str) -> None:
        """Stop, because this server does not exist any more; what it has begun may finish."""
        self.leaving = True
        self.stop(note, spare_adopted=True, at_once=False)

    def tell(self, event: lifecycle.Event) -> None:
        """Take a wish, or a decision about its room in memory."""
        self._wakes.put(event)

    async def requests(self) -> int:
        """Ask the server how many requests are in flight; 1 where that cannot be told."""
        if self._watched is None:
            return 0
        try:
            count = await self._watched.requests(REQUESTS_SECONDS)
        except CANNOT:
            return 1
        if count:
            self.use.used()
        return count

    @property
    def closed_since(self) -> int | None:
        """Version of the first snapshot that said: it takes no new requests. None: it takes some."""
        return self._chronicle.closed_since

    @property
    def load_seconds(self) -> float:
        """Seconds that its last starts took; 0 when there are none."""
        return self.load.usual

    def moved(self) -> None:
        """Note that content of an answer of this server has passed a gateway."""
        self.use.used()
        for seat in self.seats:
            if seat.watched is not None:
                seat.watched.moved = True

    def surveyed(self, survey: Survey) -> None:
        """Note what each process was seen to use of each device."""
        for seat in self.seats:
            if seat.watched is not None:
                for pid in seat.pids:
                    seat.watched.surveyed(survey.used_by(pid))

    @property
    def _keeps_context(self) -> bool:
        """Are its conversations kept? A server that was deleted leaves nothing behind."""
        return self.config.keeps_context and not self.leaving

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    def kill(self) -> None:
        """Send SIGKILL now: somebody asked twice."""
        for seat in self.seats:
            if not seat.state.adopted or seat.state.phase is lifecycle.Phase.ENDING:
                self._effects.perform(lifecycle.Kill(seat.state.attempt), seat)

    async def idle(self) -> None:
        """Wait until there is no process and nothing is planned."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Wait until no process is being spawned or adopted."""
        spawning = lifecycle.Phase.SPAWNING
        while any(seat.state.phase is spawning for seat in self.seats) and self._bug is None:
            await self._clock.sleep_until(self._clock.monotonic() + SETTLE_SECONDS)

    async def run(self) -> None:
        """Run until cancelled. Any error in here is a bug, and is raised."""
        await self._begin()
        self.has_begun = True
        self._room.nudge()
        self._wakes.begin()
        try:
            while True:
                await self._wakes.wait(self._deadline, pulse=self._has_process)
                self._wake()
        finally:
            self._tasks.cancel()
            for seat in self.seats:
                seat.let_go()

    def _wake(self) -> None:
        """Do what has come: an event, or a deadline."""
        if self._bug is not None:
            raise self._bug
        if self._wakes.missed:
            for seat in self.seats:
                self.step(lifecycle.Unobserved(self._wakes.missed), seat)
        taken = self._wakes.take()
        if taken is None:
            self._tick()
            return
        of, event = taken
        if of is None or of in self.seats:  # else its process was let go
            self.step(event, of)

    def _tick(self) -> None:
        for seat in self.seats:
            due = seat.state.deadline
            if due is not None and self._clock.monotonic() >= due:
                self.step(lifecycle.Tick(), seat)

    @property
    def _has_process(self) -> bool:
        return any(seat.state.phase in lifecycle.HAS_PROCESS for seat in self.seats)

    @property
    def _deadline(self) -> float | None:
        deadlines = [due for seat in self.seats if (due := seat.state.deadline) is not None]
        return min(deadlines, default=None)

    async def _begin(self) -> None:
        """Find out what the last supervisor left, before anything else."""
        remembered = self._remembered
        has_new_name = bool(owner_of(remembered.identity, self._neighbours()))
        if has_new_name:  # under the old one its process is let go
            remembered = replace(remembered, identity=None, replacement=None)
        looked = await look_back(self.seat.around, self.config.spec, remembered, lambda: self._ending)
        found, beside = looked or (None, None)
        if looked is not None and remembered.run_open and (found is None or not found.recorded):
            self._chronicle.close_unseen(has_new_name=has_new_name)
        elif found is not None:
            self._chronicle.resume()
        if found is not None:
            self.placed.port = port_of(found, remembered, self.placed.port)
            self.config = self.placed.config
            self.step(found)
        if self._ending:  # told to stop meanwhile: an older wish must not follow the stop
            return
        if found is not None:
            rest = self.succession.resume_left(found, beside, remembered)
            if rest is not None:
                self.tell(rest)
        elif remembered.status in (Status.CRASHED, Status.ERROR) and self.config.desired_running:
            given_up = remembered.status is Status.ERROR
            self.step(lifecycle.Continue(given_up, remembered.retries, remembered.failure, remembered.deaths))
        self.apply(self.placed.given)
        if self._wakes.empty and self.config.desired_running and self.state.status is Status.INITIAL:
            self.tell(lifecycle.Start(preload=True))
        if self._wakes.empty:  # else the first step says more, and no page flashes "initial"
            self._record()

    # One step

    def step(self, event: lifecycle.Event, seat: Seat | None = None) -> None:
        """Take an event of a seat, and do what follows; None: of the server's own process."""
        if seat is None or seat is self.seat:
            taken = self.succession.take(event)
            if taken is None:
                self._count(event)
            else:
                self.act_in_turn(taken)
        else:
            self.decide(event, seat)
        self.succession.follow()
        self._turn.follow()
        self._leave_taken_port()
        at_rest = self.state.phase is lifecycle.Phase.IDLE and self.succession.seat is None
        (self._idle.set if at_rest else self._idle.clear)()
        self._record()

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
        self.decide(event, self.seat)

    def decide(self, event: lifecycle.Event, seat: Seat) -> None:
        before, policy = seat.state, self._policy_of(seat)
        if isinstance(event, lifecycle.Exited | lifecycle.SpawnFailed):
            policy = replace(policy, spread=self._spread())
        seat.state, effects = lifecycle.decide(before, event, policy, self._clock.monotonic())
        if seat is self.seat:
            self.use.follow(before, seat.state, event)
        if concerns_room(before, seat.state, beside=seat is not self.seat):
            self._room.nudge()
        for effect in effects:
            self._effects.perform(effect, seat)
        given_up = seat.state.status is Status.ERROR and before.status is not Status.ERROR
        if given_up and seat is self.seat:
            self._hands.remember_cause()

    def _policy_of(self, seat: Seat) -> lifecycle.Policy:
        own, health = seat is self.seat, self.config.health
        return lifecycle.Policy(
            restart=self.config.restart,
            health=health if own else replace(health, max_memory_mb=0, canary_minutes=0),
            room=self._room.is_on or not own,
            in_turn=self._room.in_turn,
            keeps_context=own and self._keeps_context,
            beside=not own,
            adopts=not self.config.spare_ports,
        )

    # For a restart without a gap

    def new_seat(self, config: ServerConfig) -> Seat:
        return Seat(config, self._surroundings)

    def instate(self, seat: Seat, *, closing: bool) -> None:
        """Make a seat the server's own, with its history, all in one change.

        `closing`: the run of the process before ends with that.
        """
        if closing:
            self._effects.close_run(self.seat, REPLACED)
        self.seat = seat
        self._effects.write_withheld(seat)
        self.placed.port = seat.config.spec.port
        self.config = self.placed.config
        self.use.instated(seat.state)
        self._room.nudge()

    def _leave_taken_port(self) -> None:
        """Go back to the port that was chosen first, when a stranger holds the one of the last process."""
        failure = self.state.failure
        taken = failure is not None and failure.kind is FailureKind.PORT_TAKEN
        if taken and self.state.status is Status.ERROR and self.placed.port is not None:
            self.placed.port = None
            self.apply(self.placed.given)

    def _record(self) -> None:
        seat, config, watched = self.seat, self.config, self.seat.watched
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

    def _on_bug(self, bug: BaseException) -> None:
        self._bug = bug
        self._wakes.put(lifecycle.Tick())  # wakes `run`, which raises it
