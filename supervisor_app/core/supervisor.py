"""Supervises one server: takes what others ask and tell, and steps through what comes, each in its turn."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle
from supervisor_app.core.beginning import begin
from supervisor_app.core.chronicle import Chronicle
from supervisor_app.core.placed import PlacedConfig
from supervisor_app.core.seats import Seats
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.steps import Steps
from supervisor_app.core.surroundings import ServerLog, Surroundings
from supervisor_app.core.tasks import Tasks
from supervisor_app.core.use import Use
from supervisor_app.core.wakes import Wakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.devices import Survey
    from supervisor_app.core.neighbours import Neighbours
    from supervisor_app.core.ports import Clock, Contexts, Footprints, Probe, Processes, RoomDesk, Turns
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.status import LlamaStatus
    from supervisor_app.core.vitals import Vitals

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.02
REQUESTS_SECONDS = 1.0
"""Time for an answer to how many requests are in flight: a server that is silent counts as busy."""


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
        self._neighbours = neighbours
        self.placed = PlacedConfig(config, remembered.port)
        self.use = Use(clock)
        self._processes = processes
        self._probe = probe
        self._clock = clock
        self._footprints = footprints
        self._contexts = contexts
        self._room = room
        self._remembered = remembered
        self._ending = False
        """The supervisor was told to stop for good."""
        self._bug: BaseException | None = None
        self._log = ServerLog(log, {"server": config.name})
        self._wakes = Wakes(clock)
        self._tasks = Tasks(config.name, self._on_bug)
        self._chronicle = Chronicle(config.name, remembered, clock=clock, recorder=recorder)
        self.seats = Seats(self.placed.config, self._surroundings)
        self._steps = Steps(
            self.placed,
            remembered,
            seats=self.seats,
            use=self.use,
            chronicle=self._chronicle,
            recorder=recorder,
            processes=processes,
            clock=clock,
            room=room,
            turns=turns,
            tasks=self._tasks,
            wakes=self._wakes,
            log=self._log,
            ports=set() if ports is None else ports,
            spread=spread,
            neighbours=neighbours,
        )

    def _surroundings(self, seat: Seat) -> Surroundings:
        return Surroundings(
            name=self.placed.given.name,
            processes=self._processes,
            probe=self._probe,
            clock=self._clock,
            footprints=self._footprints,
            contexts=self._contexts,
            log=self._log,
            state=lambda: seat.state,
            report=lambda event: self._wakes.put(event, seat),
            keeps_context=lambda: self._steps.keeps_context and seat is self.seats.own,
            shares_log=lambda: seat is not self.seats.own or self.seats.beside is not None,
            progressed=self._progressed,
            on_bug=self._on_bug,
        )

    def _progressed(self) -> None:
        self._steps.record()

    def _on_bug(self, bug: BaseException) -> None:
        self._bug = bug
        self._wakes.put(lifecycle.Tick())  # wakes `run`, which raises it

    # Questions

    @property
    def state(self) -> lifecycle.State:
        """State of the server's own process."""
        return self.seats.own.state

    @property
    def second(self) -> lifecycle.State | None:
        """State of the process beside that one; None: there is none."""
        beside = self.seats.beside
        return None if beside is None else beside.state

    @property
    def config(self) -> ServerConfig:
        """Configuration as it is applied, at the port of the server's own process."""
        return self._steps.config

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of its processes."""
        return self.seats.pids

    @property
    def vitals(self) -> Vitals | None:
        """Vital signs of its own process; None while nobody can have looked at what it does."""
        watched = self.seats.own.watched
        return None if watched is None else watched.vitals

    @property
    def snapshot(self) -> LlamaStatus:
        """The snapshot that was published last."""
        return self._chronicle.snapshot

    @property
    def closed_since(self) -> int | None:
        """Version of the first snapshot that said: it takes no new requests. None: it takes some."""
        return self._chronicle.closed_since

    @property
    def load_seconds(self) -> float:
        """Seconds that its last starts took; 0 when there are none."""
        return self._steps.load.usual

    @property
    def has_begun(self) -> bool:
        """True once it has found out what the last supervisor left."""
        return self._steps.has_begun

    @property
    def leaving(self) -> bool:
        """True once its server does not exist any more."""
        return self._steps.leaving

    @property
    def is_idle(self) -> bool:
        return self._steps.at_rest.is_set()

    async def requests(self) -> int:
        """Ask the server how many requests are in flight; 1 where that cannot be told."""
        watched = self.seats.own.watched
        if watched is None:
            return 0
        try:
            count = await watched.requests(REQUESTS_SECONDS)
        except CANNOT:
            return 1
        if count:
            self.use.used()
        return count

    async def idle(self) -> None:
        """Wait until there is no process and nothing is planned."""
        await self._steps.at_rest.wait()

    async def settled(self) -> None:
        """Wait until no process is being spawned or adopted."""
        while self.seats.are_spawning and self._bug is None:
            await self._clock.sleep_until(self._clock.monotonic() + SETTLE_SECONDS)

    # Wishes and news

    def apply(self, config: ServerConfig) -> None:
        """Take a new configuration; restart the server only when its launch has changed."""
        self._steps.apply(config)

    def stop(self, note: str, *, spare_adopted: bool, at_once: bool = True) -> None:
        """Stop for good: nothing is begun after this."""
        self._ending = True
        self._steps.at_rest.clear()
        self.tell(lifecycle.Stop(note, spare_adopted=spare_adopted, at_once=at_once))

    def leave(self, note: str) -> None:
        """Stop, because this server does not exist any more; what it has begun may finish."""
        self._steps.leaving = True
        self.stop(note, spare_adopted=True, at_once=False)

    def tell(self, event: lifecycle.Event) -> None:
        """Take a wish, or a decision about its room in memory."""
        self._wakes.put(event)

    def moved(self) -> None:
        """Note that content of an answer of this server has passed a gateway."""
        self.use.used()
        self.seats.moved()

    def surveyed(self, survey: Survey) -> None:
        """Note what each process was seen to use of each device."""
        self.seats.surveyed(survey)

    def kill(self) -> None:
        """Send SIGKILL now: somebody asked twice."""
        self._steps.kill()

    # Its task

    async def run(self) -> None:
        """Run until cancelled. Any error in here is a bug, and is raised."""
        await begin(
            self._steps,
            self._remembered,
            chronicle=self._chronicle,
            wakes=self._wakes,
            neighbours=self._neighbours(),
            is_ending=lambda: self._ending,
        )
        self._steps.has_begun = True
        self._room.nudge()
        self._wakes.begin()
        try:
            while True:
                await self._wakes.wait(self.seats.deadline, pulse=self.seats.have_process)
                self._wake()
        finally:
            self._tasks.cancel()
            self.seats.let_go()

    def _wake(self) -> None:
        """Do what has come: an event, or a deadline."""
        if self._bug is not None:
            raise self._bug
        if self._wakes.missed:
            for seat in self.seats:
                self._steps.step(lifecycle.Unobserved(self._wakes.missed), seat)
        taken = self._wakes.take()
        if taken is None:
            self._tick()
            return
        of, event = taken
        if of is None or of in self.seats:  # else its process was let go
            self._steps.step(event, of)

    def _tick(self) -> None:
        for seat in self.seats:
            due = seat.state.deadline
            if due is not None and self._clock.monotonic() >= due:
                self._steps.step(lifecycle.Tick(), seat)
