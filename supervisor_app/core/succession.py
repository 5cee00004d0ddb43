"""A restart without a gap: a second process of a server, beside its own, until one of them has gone.

`lifecycle.beside` says what follows from where both stand; here it is done. The rest of the supervisor knows
the server's own process alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from supervisor_app.core import lifecycle
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.beside import (
    COMING_BACK,
    Move,
    may_leave,
    next_move,
    why_not_seamless,
)
from supervisor_app.core.shortage import CANNOT
from supervisor_app.core.sightings import PortHolder
from supervisor_app.core.status import FailureKind, Replacement, Stage
from supervisor_app.core.survivor import stage_of, unfinished

if TYPE_CHECKING:
    from supervisor_app.core.changes import Remembered
    from supervisor_app.core.ports import Clock, Processes, RoomDesk
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.seat import Seat
    from supervisor_app.core.seats import Seats
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.surroundings import ServerLog
    from supervisor_app.core.tasks import Tasks

SAVE_SECONDS = 5.0
"""Time for writing down what is about to be done."""
LOOK_SECONDS = 0.25
"""Pause between two questions to the old process whether it has finished."""
REQUESTS_SECONDS = 1.0
REPLACED = "A new process took its place without a gap."
OTHER_KEY = "It has another API key now, and gateways use one at a time."
NO_PORT = "no port of its range is free"
NOT_BEGUN = frozenset({FailureKind.DOES_NOT_FIT, FailureKind.PORT_TAKEN})
"""Failures before anything was started."""


class Host(Protocol):
    """The steps of the server."""

    config: ServerConfig
    ports: set[int]
    """Ports of this node that were chosen for second processes: nobody else may choose them."""

    def step(self, event: lifecycle.Event, seat: Seat | None = None) -> None:
        """Take an event of a seat, and do what follows; None: of the server's own."""

    def act_in_turn(self, event: lifecycle.Event) -> None:
        """Do in the ordinary way what is to be done; a planned restart once its turn has come."""

    def instate(self, seat: Seat, *, closing: bool) -> None:
        """Make it the server's own, with its history. `closing`: the run of the one before ends with that."""


class Succession:
    """Owner of the seat beside the server's own, and of what is to be said of it."""

    def __init__(
        self,
        host: Host,
        seats: Seats,
        *,
        name: str,
        processes: Processes,
        clock: Clock,
        recorder: Recorder,
        room: RoomDesk,
        tasks: Tasks,
        log: ServerLog,
    ) -> None:
        self._host = host
        self._seats = seats
        self._name = name
        self._processes = processes
        self._clock = clock
        self._recorder = recorder
        self._room = room
        self._tasks = tasks
        self._log = log
        self._stage = Stage.LOADING
        self._of_change = False
        """The new process was begun for a change of the configuration."""
        self._pending: lifecycle.Restart | lifecycle.ConfigChanged | None = None
        """A wish that waits until the server is ready and has one process."""
        self._outcome: Replacement | None = None

    @property
    def replacement(self) -> Replacement | None:
        """Description for people and for the next supervisor."""
        beside = self._seats.beside
        if beside is None:
            return self._outcome
        identity, port = beside.state.identity, beside.config.spec.port
        number = f"pid {identity.pid}" if identity is not None else "a process"
        if self._stage is Stage.LEAVING:
            said = f"The process before, {number}, finishes what it does and ends then."
        else:
            said = (
                f"It is being restarted without a gap: {number} starts beside it and takes over once ready."
            )
        return Replacement(stage=self._stage, detail=said, identity=identity, port=port)

    # Wishes

    def take(self, event: lifecycle.Event) -> lifecycle.Event | None:
        """Take a wish; return what is to be done in the ordinary way, None: nothing."""
        match event:
            case lifecycle.Restart(seamless=True):
                self._restart(event)
                return None
            case lifecycle.ConfigChanged() if self._host.config.seamless:
                return self._change(event)
            case lifecycle.Restart() | lifecycle.Stop() | lifecycle.ConfigChanged():
                self._pending = self._outcome = None
        beside = self._seats.beside
        if isinstance(event, lifecycle.Stop | lifecycle.Restart) and event.at_once and beside is not None:
            self._host.step(lifecycle.Stop(event.note, at_once=True), beside)
        return event

    def _wait_for(self, event: lifecycle.Restart | lifecycle.ConfigChanged) -> None:
        """Keep a wish until the server is ready and has one process."""
        self._pending = event

    def _restart(self, event: lifecycle.Restart) -> None:
        if self._seats.beside is not None:
            if self._stage is Stage.LEAVING:
                self._wait_for(event)
            return
        if why := self._why_not():
            self._outcome = Replacement(stage=Stage.REFUSED, detail=f"Not restarted without a gap. {why}")
            self._log.warning("⚠️ [LLAMA] %s", self._outcome.detail)
            return
        self._begin(event.note)

    def _change(self, event: lifecycle.ConfigChanged) -> lifecycle.Event | None:
        self._outcome = None
        if self._seats.own.state.phase is not lifecycle.Phase.SERVING:
            return event
        if self._seats.beside is not None:
            self._wait_for(event)
            if self._stage is Stage.LOADING:  # it is of a configuration that is no more
                self._host.step(lifecycle.Stop(event.note), self._seats.beside)
            return None
        old, new = self._seats.own.config.spec, self._host.config.spec
        if why := OTHER_KEY if old.api_key != new.api_key else self._why_not():
            return self._fall_back(event.note, why)
        self._begin(event.note, of_change=True)
        return None

    def _why_not(self) -> str:
        state = self._seats.own.state
        return why_not_seamless(
            state.status,
            state.models,
            adopted=state.adopted,
            draining=bool(state.draining),
            port_is_chosen=bool(self._host.config.spare_ports),
        )

    def _fall_back(self, note: str, why: str) -> lifecycle.ConfigChanged:
        said = f"{note} Not restarted without a gap. {why}"
        self._log.warning("⚠️ [LLAMA] %s", said)
        return lifecycle.ConfigChanged(said)

    # Its process

    def _begin(self, note: str, *, of_change: bool = False) -> None:
        host = self._host
        self._outcome, self._stage, self._of_change = None, Stage.LOADING, of_change
        self._log.info("🔁 [LLAMA] A new process starts beside the one that serves")
        self._seats.beside = seat = self._seats.new(host.config)
        seat.state = lifecycle.State(attempt=self._seats.own.state.attempt)
        host.step(lifecycle.Start(note), seat)

    def _resume(self, stage: Stage, holder: PortHolder, config: ServerConfig) -> None:
        """Take over the process that the last supervisor had beside the server's own."""
        self._stage = stage
        self._seats.beside = seat = self._seats.new(config)
        self._host.ports.add(config.spec.port)
        self._host.step(lifecycle.Resume(holder, adopted=False, retries=0, recorded=False), seat)
        if stage is Stage.LEAVING:
            self._tasks.start(self._see_off(seat), "see off")

    def resume_left(
        self, found: lifecycle.Resume, holder: PortHolder | None, remembered: Remembered
    ) -> lifecycle.Event | None:
        """Go on with a restart without a gap that was under way; return what else is to be done.

        `holder`: the process beside the one that was `found`.
        """
        config, left = self._host.config, remembered.replacement
        rest = unfinished(found, remembered, config)
        if left is not None and holder is not None:
            launch = replace(config, spec=config.spec.on_port(left.port))
            stage = stage_of(left, holder, launch.spec)
            self._resume(stage, holder, launch)
            if isinstance(rest, lifecycle.ConfigChanged) and stage is Stage.LOADING:
                return None  # that is what it was begun for
        elif left is not None and left.stage is Stage.LOADING and found.recorded and rest is None:
            self._wait_for(lifecycle.Restart(seamless=True))
        if isinstance(rest, lifecycle.ConfigChanged) and config.seamless and config.spare_ports:
            self._wait_for(rest)
            return None
        return rest

    async def choose_port(self, seat: Seat, attempt: int) -> None:
        """Choose a port on which nobody listens, in place of looking who holds the server's own."""
        used, spec = self._host.ports, self._host.config.spec
        used.discard(seat.config.spec.port)
        for port in seat.config.spare_ports:
            if port in used or port == spec.port:
                continue
            used.add(port)
            if await self._processes.port_holder(self._name, spec.on_port(port)) is None:
                seat.config = replace(seat.config, spec=seat.config.spec.on_port(port))
                seat.around.report(lifecycle.Inspected(attempt, None))
                return
            used.discard(port)
        nobody = PortHolder(identity=None, command="", is_llama_server=False, problem=NO_PORT)
        seat.around.report(lifecycle.Inspected(attempt, nobody))

    async def ask_room(self, seat: Seat, attempt: int) -> None:
        why = await self._room.fits_beside(self._name, seat.config.spec)
        if why:
            failure = failure_of(FailureKind.DOES_NOT_FIT, why.rstrip("."))
            seat.around.report(lifecycle.RoomRefused(attempt, failure))
        else:
            seat.around.report(lifecycle.RoomGiven(attempt))

    async def may_spawn(self, seat: Seat, attempt: int) -> bool:
        """Write down that there will be a second process: the next supervisor must look for it."""
        if await self._recorder.saved(SAVE_SECONDS):
            return True
        away = failure_of(FailureKind.UNKNOWN, "the database is away, so it could not be written down")
        seat.around.report(lifecycle.SpawnFailed(attempt, away))
        return False

    # The next step

    def follow(self) -> None:
        """Do what follows from where both processes stand now."""
        main, beside = self._seats.own.state, self._seats.beside
        if beside is None:
            self._take_pending(main)
            return
        match next_move(self._stage, main, beside.state):
            case Move.SWITCH:
                self._switch(beside)
            case Move.TAKE_OVER:
                self._take_over(beside)
            case Move.END:
                self._host.step(lifecycle.Stop(main.note), beside)
            case Move.FAIL:
                self._forget(beside)
                self._fail(beside)
            case Move.FORGET:
                self._forget(beside)
                self._take_pending(main)

    def _take_pending(self, main: lifecycle.State) -> None:
        if main.phase is lifecycle.Phase.SPAWNING:  # another process: what was said is of the one before
            self._outcome = None
        event = self._pending
        if event is None or main.phase in COMING_BACK:
            return
        self._pending = None
        if main.phase is lifecycle.Phase.SERVING:
            self._host.step(event)

    def _switch(self, seat: Seat) -> None:
        old, self._stage = self._seats.own, Stage.LEAVING
        self._log.info("🔁 [LLAMA] pid %s takes the place of pid %s", *seat.pids, *old.pids)
        self._seats.beside = old
        self._host.instate(seat, closing=True)
        self._tasks.start(self._see_off(old), "see off")

    def _take_over(self, seat: Seat) -> None:
        """Go on with the new process, under the retries of the one that has died."""
        died, self._seats.beside = self._seats.own, None
        self._host.ports.discard(died.config.spec.port)
        self._log.info("🔁 [LLAMA] pid %s goes on in its place", *seat.pids)
        seat.state = replace(
            seat.state, retries=died.state.retries, deaths=died.state.deaths, failure=died.state.failure
        )
        self._host.instate(seat, closing=False)

    def _forget(self, seat: Seat) -> None:
        self._seats.beside = None
        seat.let_go()
        self._host.ports.discard(seat.config.spec.port)

    def _fail(self, seat: Seat) -> None:
        """Say why there is no new process; None is tried again."""
        failure = seat.state.failure
        if failure is None:  # it was asked to end
            self._take_pending(self._seats.own.state)
            return
        if failure.kind in NOT_BEGUN and self._of_change:
            event = self._fall_back(lifecycle.ConfigChanged().note, f"{failure.detail}.")
            self._host.act_in_turn(event)
            return
        if failure.kind in NOT_BEGUN:
            detail, stage = f"Not restarted without a gap. {failure.detail}.", Stage.REFUSED
        else:
            whose, then = "process", ""
            if self._of_change:
                whose, then = "configuration", " and was rolled back"
            detail = (
                f"The new {whose} did not get ready{then}; the process before serves on. {failure.sentence}."
            )
            stage = Stage.FAILED
        self._outcome = Replacement(stage=stage, detail=detail)
        self._log.warning("⚠️ [LLAMA] %s", detail)

    async def _see_off(self, seat: Seat) -> None:
        """End the old process once the new one is written down and the old one has finished what it does."""
        while not await self._recorder.saved(SAVE_SECONDS):
            pass
        since, requests = self._clock.monotonic(), 1
        while self._seats.beside is seat:
            await self._clock.sleep_until(self._clock.monotonic() + LOOK_SECONDS)
            if seat.watched is not None:
                try:
                    requests = await seat.watched.requests(REQUESTS_SECONDS)
                except CANNOT:
                    requests = 1
            seconds, given = self._clock.monotonic() - since, self._host.config.restart.drain_seconds
            if may_leave(seat.state, requests, seconds, given):
                seat.around.report(lifecycle.Stop(REPLACED, at_once=True))
                return
