"""Runs one server's lifecycle against the world: events in, `decide`, effects out."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from supervisor_app.core import launch, lifecycle
from supervisor_app.core.chronicle import Chronicle
from supervisor_app.core.diagnosis.cause_watch import CauseWatch
from supervisor_app.core.ports import (
    Clock,
    Contexts,
    Footprints,
    Probe,
    Processes,
    Remembered,
    RoomDesk,
    ServerConfig,
    Wish,
)
from supervisor_app.core.shortage import CANNOT, why_not
from supervisor_app.core.status import FailureKind, LlamaStatus, Status
from supervisor_app.core.surroundings import ServerLog, Surroundings
from supervisor_app.core.survivor import argv_of, find_survivor, past_loads, unfinished
from supervisor_app.core.tasks import Tasks
from supervisor_app.core.watch.loading import LoadWatch
from supervisor_app.core.wording import idle_note

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervisor_app.core.devices import Survey
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.watched import WatchedProcess

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.02
PULSE_SECONDS = 1.0
"""Pause between two moments in which we see that we run, while there is a process."""
FIRST_GENERATION = 1
"""Generation of a server that was made, and that nobody has asked for since."""
REQUESTS_SECONDS = 1.0
"""Time for an answer to how many requests are in flight: a server that is silent counts as busy."""
GAP_SECONDS = 2.0
"""Later than planned by more than this: we were stopped, frozen or starved, perhaps the server with us."""
UNTOLD = frozenset({lifecycle.Phase.WAITING, lifecycle.Phase.READING_MODELS, lifecycle.Phase.ENDING})
"""Phases whose begin changes nothing for those who wait for room."""
EVENT_OF_WISH: dict[Wish, Callable[..., lifecycle.Event]] = {
    Wish.START: lifecycle.Start,
    Wish.RESTART: lifecycle.Restart,
    Wish.STOP: lifecycle.Stop,
}
"""Events of wishes; each takes the reason for the wish, in words."""


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
    ) -> None:
        self.config = config
        self.state = lifecycle.State()
        self.leaving = False
        self.has_begun = False
        """True once it has found out what the last supervisor left."""
        self.ready_since: float | None = None
        """Monotonic seconds."""
        self.last_used = clock.monotonic()
        """Monotonic seconds: at the last sign of a request, or when it got ready."""
        self._room = room
        self._ending = False
        """The supervisor was told to stop for good."""
        self._processes = processes
        self._probe = probe
        self._clock = clock
        self._chronicle = Chronicle(config.name, remembered, clock=clock, recorder=recorder)
        self._remembered = remembered
        self._generation = self._acted = remembered.generation
        self._watched: WatchedProcess | None = None
        self._load = LoadWatch(past_loads(remembered, config.spec))
        self._cause = CauseWatch()
        self._events: asyncio.Queue[lifecycle.Event] = asyncio.Queue()
        self._tasks = Tasks(config.name, self._on_bug)
        self._bug: BaseException | None = None
        self._woken_at = 0.0
        self._idle = asyncio.Event()
        self._log = ServerLog(log, {"server": config.name})
        self._around = Surroundings(
            name=config.name,
            processes=processes,
            probe=probe,
            clock=clock,
            footprints=footprints,
            contexts=contexts,
            log=self._log,
            state=lambda: self.state,
            report=self._events.put_nowait,
            keeps_context=lambda: self._keeps_context,
            progressed=self._record,
            on_bug=self._on_bug,
        )

    @property
    def snapshot(self) -> LlamaStatus:
        """The snapshot that was published last."""
        return self._chronicle.snapshot

    # Its wishes and questions

    def apply(self, config: ServerConfig) -> None:
        """Take a new configuration; restart the server only when its launch has changed."""
        launch_changed = config.spec != self.config.spec
        if config.spec.model_path != self.config.spec.model_path:
            self._load = LoadWatch()
        refusal_changed = config.context_refusal != self.config.context_refusal
        self.config = config
        if refusal_changed and self.has_begun:
            self._record()
        if launch_changed:
            self._events.put_nowait(lifecycle.ConfigChanged())
        if not config.explained.isdisjoint(self.state.deaths):
            self._events.put_nowait(lifecycle.Explained(config.explained))
        wish, is_new = config.wish_since(self._generation), not self._generation
        self._generation = config.generation
        if wish is Wish.START and is_new and config.generation == FIRST_GENERATION:
            self._events.put_nowait(lifecycle.Start(generation=config.generation, preload=True))
        elif wish is not None:
            why = "" if config.idle_seconds is None else idle_note(config.idle_seconds)
            self._events.put_nowait(EVENT_OF_WISH[wish](why, generation=config.generation))

    def stop(self, note: str, *, spare_adopted: bool) -> None:
        """Stop for good: nothing is begun after this."""
        self._ending = True
        self._idle.clear()
        self._events.put_nowait(lifecycle.Stop(note, spare_adopted=spare_adopted))

    def leave(self, note: str) -> None:
        """Stop, because this server does not exist any more."""
        self.leaving = True
        self.stop(note, spare_adopted=True)

    def tell(self, event: lifecycle.Event) -> None:
        """Take a decision about its room in memory."""
        self._events.put_nowait(event)

    async def requests(self) -> int:
        """Ask the server how many requests are in flight; 1 where that cannot be told."""
        if self._watched is None:
            return 0
        try:
            count = await self._watched.requests(REQUESTS_SECONDS)
        except CANNOT:
            return 1
        if count:
            self.last_used = self._clock.monotonic()
        return count

    @property
    def load_seconds(self) -> float:
        """Seconds that its last starts took; 0 when there are none."""
        return self._load.usual

    def moved(self) -> None:
        """Note that content of an answer of this server has passed a gateway."""
        self.last_used = self._clock.monotonic()
        if self._watched is not None:
            self._watched.moved = True

    def surveyed(self, survey: Survey) -> None:
        """Note what the process was seen to use of each device."""
        if self._watched is not None and self.state.identity is not None:
            self._watched.surveyed(survey.used_by(self.state.identity.pid))

    @property
    def _keeps_context(self) -> bool:
        """Are its conversations kept? A server that was deleted leaves nothing behind."""
        return self.config.keeps_context and not self.leaving

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    def kill(self) -> None:
        """Send SIGKILL now: somebody asked twice."""
        if not self.state.adopted or self.state.phase is lifecycle.Phase.ENDING:
            self._perform(lifecycle.Kill(self.state.attempt))

    async def idle(self) -> None:
        """Wait until there is no process and nothing is planned."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Wait until no process is being spawned or adopted."""
        while self.state.phase is lifecycle.Phase.SPAWNING and self._bug is None:
            await self._clock.sleep_until(self._clock.monotonic() + SETTLE_SECONDS)

    async def run(self) -> None:
        """Run until cancelled. Any error in here is a bug, and is raised."""
        await self._begin()
        self.has_begun = True
        self._room.nudge()
        self._woken_at = self._clock.monotonic()
        next_event: asyncio.Task[lifecycle.Event] = asyncio.create_task(self._events.get())
        try:
            while True:
                await self._wait(next_event)
                if next_event.done():
                    self._step(next_event.result())
                    next_event = asyncio.create_task(self._events.get())
                elif self.state.deadline is not None and self._clock.monotonic() >= self.state.deadline:
                    self._step(lifecycle.Tick())
        finally:
            next_event.cancel()
            self._tasks.cancel()
            self._let_go()

    def _let_go(self) -> None:
        """Throw away all that belongs to the process, whether it has ended or lives on."""
        if self._watched is not None:
            self._watched.close()
        self._watched = None

    async def _wait(self, next_event: asyncio.Task[lifecycle.Event]) -> None:
        """Wait until something has happened or the state's deadline has come.

        While there is a process, wake once a second: a much longer pause means that we did not run.
        """
        waiting: set[asyncio.Task[lifecycle.Event] | asyncio.Task[None]] = {next_event}
        due = self.state.deadline
        if self.state.phase in lifecycle.HAS_PROCESS:
            due = min(self._clock.monotonic() + PULSE_SECONDS, due or inf)
        alarm = None
        if due is not None:
            alarm = asyncio.create_task(self._clock.sleep_until(due))
            waiting.add(alarm)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if alarm is not None:
                alarm.cancel()
        if self._bug is not None:
            raise self._bug
        before, self._woken_at = self._woken_at, self._clock.monotonic()
        if (
            self.state.phase in lifecycle.HAS_PROCESS
            and self._woken_at - before > PULSE_SECONDS + GAP_SECONDS
        ):
            self._step(lifecycle.Unobserved(self._woken_at - before))

    async def _begin(self) -> None:
        """Find out what the last supervisor left, before anything else."""
        remembered = self._remembered
        found = await self._look_back()
        if found is not None:
            self._step(found)
        if self._ending:  # told to stop meanwhile: an older wish must not follow the stop
            return
        if found is not None:
            rest = unfinished(found, remembered, self.config)
            if rest is not None:
                self._events.put_nowait(rest)
        elif remembered.status in (Status.CRASHED, Status.ERROR) and self.config.desired_running:
            given_up = remembered.status is Status.ERROR
            self._step(
                lifecycle.Continue(given_up, remembered.retries, remembered.failure, remembered.deaths)
            )
        self.apply(self.config)
        if self._events.empty() and self.config.desired_running and self.state.status is Status.INITIAL:
            self._events.put_nowait(lifecycle.Start(preload=True))
        if self._events.empty():  # else the first step says more, and no page flashes "initial"
            self._record()

    async def _look_back(self) -> lifecycle.Resume | None:
        """Find the process that lives on, as soon as we can look; None when we are to end before that."""
        told = ""
        while not self._ending:
            try:
                found = await find_survivor(
                    self._processes, self.config.name, self.config.spec, self._remembered
                )
            except CANNOT as error:
                why = why_not(error)
                if why != told:
                    self._log.warning("⚠️ [LLAMA] %s: it cannot be seen whether it runs. Trying again.", why)
                told = why
            else:
                if self._remembered.run_open and (found is None or not found.recorded):
                    self._chronicle.close_unseen()
                elif found is not None:
                    self._chronicle.resume()
                return found
            await self._clock.sleep_until(self._clock.monotonic() + lifecycle.AGAIN_SECONDS)
        return None

    # One step

    def _step(self, event: lifecycle.Event) -> None:
        if isinstance(event, lifecycle.Start | lifecycle.Restart | lifecycle.Stop):
            self._acted = event.generation or self._acted
        before = self.state
        policy = lifecycle.Policy(
            restart=self.config.restart,
            health=self.config.health,
            room=self._room.is_on,
            keeps_context=self._keeps_context,
        )
        self.state, effects = lifecycle.decide(before, event, policy, self._clock.monotonic())
        self._note_use(before, event)
        for effect in effects:
            self._perform(effect)
        if self.state.status is Status.ERROR and before.status is not Status.ERROR:
            self._tasks.start(self._remember_cause(), "cause")
        (self._idle.set if self.state.phase is lifecycle.Phase.IDLE else self._idle.clear)()
        self._record()

    def _note_use(self, before: lifecycle.State, event: lifecycle.Event) -> None:
        """Note what its right to room depends on."""
        serves = self.state.phase is lifecycle.Phase.SERVING
        if serves and before.phase is not lifecycle.Phase.SERVING:
            self.ready_since = self.last_used = self._clock.monotonic()
        elif not serves:
            self.ready_since = None
        elif isinstance(event, lifecycle.ActivitySeen) and not event.activity.quiet:
            self.last_used = self._clock.monotonic()
        if (self.state.phase is not before.phase and self.state.phase not in UNTOLD) or (
            self.state.gone and not before.gone
        ):
            self._room.nudge()

    def _perform(self, effect: lifecycle.Effect) -> None:
        match effect:
            case lifecycle.AskRoom():
                self._room.nudge()
            case lifecycle.Log():
                self._log.log(effect.level, effect.text)
            case lifecycle.InspectPort():
                self._start(effect, self._inspect(effect.attempt), "inspect")
            case lifecycle.Spawn():
                self._start(effect, self._spawn(effect.attempt), "spawn")
            case lifecycle.Adopt():
                self._start(effect, self._adopt(effect), "adopt")
            case lifecycle.CheckCause():
                self._start(effect, self._check_cause(effect), "cause")
            case lifecycle.Forget():
                self._let_go()
            case (
                lifecycle.OpenRun()
                | lifecycle.MarkReady()
                | lifecycle.CloseRun()
                | lifecycle.CountContext()
                | lifecycle.CountRoom()
            ):
                self._write_history(effect)
            case _:
                if self._watched is not None:
                    self._watched.perform(effect, self.config.health)

    def _write_history(self, effect: lifecycle.Historic) -> None:
        first_ready = isinstance(effect, lifecycle.MarkReady) and not self._chronicle.reached_ready
        if first_ready and not self.state.adopted and self._watched is not None:
            self._load.learned(self._clock.monotonic() - self._watched.since)
        self._chronicle.write(effect, process=self._watched, config=self.config)
        if isinstance(effect, lifecycle.CloseRun):
            self._let_go()

    def _record(self) -> None:
        watched = self._watched
        self._chronicle.record(
            self.state,
            self.config,
            generation=self._acted,
            has_process=watched is not None,
            endpoint=watched.endpoint if watched else None,
            progress=watched.progress if watched and self.state.phase is lifecycle.Phase.WAITING else None,
        )

    # Effects that take time: each comes back as an event

    def _on_bug(self, bug: BaseException) -> None:
        self._bug = bug
        self._events.put_nowait(lifecycle.Tick())  # wakes `run`, which raises it

    def _start(self, effect: lifecycle.Attempted, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.start(self._around.attempted(effect, work), name)

    async def _inspect(self, attempt: int) -> None:
        self._events.put_nowait(await launch.inspect(self._around, attempt, self.config.spec))

    async def _spawn(self, attempt: int) -> None:
        self._take(*await launch.spawn(self._around, attempt, self.config.spec, self._load))

    async def _adopt(self, effect: lifecycle.Adopt) -> None:
        argv = argv_of(effect, self._remembered, self.config.spec)
        self._take(*await launch.adopt(self._around, effect, self.config.spec, argv, self._load))

    def _take(self, event: lifecycle.Event, process: WatchedProcess | None) -> None:
        """Take over a process that was spawned or adopted; None: there is none."""
        if process is not None:
            self._watched = process
        self._events.put_nowait(event)

    async def _remember_cause(self) -> None:
        failure = self.state.failure
        if failure is not None and failure.permanent and failure.kind is not FailureKind.DOES_NOT_FIT:
            self._cause.begin_unseen()
            with suppress(*CANNOT):
                self._cause.begin(await self._processes.cause_of(self.config.name, failure, self.config.spec))

    async def _check_cause(self, effect: lifecycle.CheckCause) -> None:
        if effect.failure.kind is FailureKind.DOES_NOT_FIT:
            gone = await self._room.may_fit(self.config.name)
            self._events.put_nowait(lifecycle.CauseChecked(effect.attempt, gone))
            return
        cause = await self._processes.cause_of(self.config.name, effect.failure, self.config.spec)
        self._events.put_nowait(lifecycle.CauseChecked(effect.attempt, self._cause.is_gone(cause)))
