"""Runs one server's lifecycle against the world: events in, `decide`, effects out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import replace
from typing import Any, assert_never

from supervisor_app.core import lifecycle as life
from supervisor_app.core.activity import WorkMeter
from supervisor_app.core.chronicle import Chronicle
from supervisor_app.core.diagnosis import decisive_line, diagnose, failure_of
from supervisor_app.core.evidence import Evidence, Trail, blame
from supervisor_app.core.fallback import gpu_warnings
from supervisor_app.core.loading import LoadWatch
from supervisor_app.core.ports import (
    Clock,
    Probe,
    ProbeError,
    Process,
    Processes,
    Remembered,
    ServerConfig,
    SignalDeniedError,
    SpawnError,
    Wish,
)
from supervisor_app.core.recorder import Recorder
from supervisor_app.core.sightings import Cause, PortHolder
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import FailureKind, LlamaStatus, Model, Progress, Status
from supervisor_app.core.watchdog import Activity
from supervisor_app.core.wording import idle_note

log = logging.getLogger(__name__)

LAST_LINES = 50
"""Kept of each life's output."""
DIAGNOSIS_LINES = 400
"""Read to find the decisive one: a failed assertion is followed by a debugger's backtrace of hundreds."""
STARTUP_LINES = 2000
"""Read once it is ready, to find what it complained about while it loaded."""
LOAD_LOOKS = (0.1, 0.5)
"""Seconds between two looks at the memory of a process that loads: the first `QUICK_LOOKS`, and later."""
QUICK_LOOKS = 20
SETTLE_SECONDS = 0.02
EVENT_OF_WISH: dict[Wish, Callable[..., life.Event]] = {
    Wish.RUN: life.Start,
    Wish.RESTART: life.Restart,
    Wish.STOP: life.Stop,
}
"""Each takes why it is wished, in words."""


def serving(activity: Activity) -> str:
    """What it was doing, for its crash card."""
    if not activity.answered:
        return "It did not say what it was doing."
    if not activity.busy:
        return "It was idle."
    slots = "slot" if activity.slots == 1 else "slots"
    verb = "was" if activity.working == 1 else "were"
    return f"{activity.working} of {activity.slots} {slots} {verb} working on a request."


def past_loads(remembered: Remembered, spec: LaunchSpec) -> list[float]:
    """Seconds that starts with this model took, newest first."""
    return [seconds for argv, seconds in remembered.loads if spec.model_path in argv]


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """Names the server in every record, beside what the call adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(self.extra or {}), **kwargs.get("extra", {})}}


class ServerSupervisor:
    """Keeps one server in its desired state.

    One task (`run`) owns `state` and decides; whatever takes time runs in a task of its own and comes back
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
        recorder: Recorder,
    ) -> None:
        self.config = config
        self.state = life.State()
        self.leaving = False
        self._ending = False
        """It was told to stop for good."""
        self._processes = processes
        self._probe = probe
        self._clock = clock
        self._chronicle = Chronicle(config.name, remembered, clock=clock, recorder=recorder)
        self._remembered = remembered
        self._generation = self._acted = remembered.generation
        self._argv: tuple[str, ...] = ()
        """What the process was started with."""
        self._process: Process | None = None
        self._watched_since = 0.0
        self._load = LoadWatch(past_loads(remembered, config.spec))
        self._progress: Progress | None = None
        self._meter = WorkMeter()
        self._moved = False
        self._last_lines: tuple[str, ...] = ()
        self._trail = Trail()
        self._evidence = Evidence()
        self._cause: Cause | None = None
        """What the permanent failure hung on when it happened."""
        self._cause_seen: Cause | None = None
        """What it was at the last look."""
        self._events: asyncio.Queue[life.Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        self._idle = asyncio.Event()
        self._log = ServerLog(log, {"server": config.name})

    @property
    def snapshot(self) -> LlamaStatus:
        """As it was published last."""
        return self._chronicle.snapshot

    # What others ask of it

    def apply(self, config: ServerConfig) -> None:
        """Take over what should run now; restarts the server only when what to launch has changed."""
        launch_changed = config.spec != self.config.spec
        if config.spec.model_path != self.config.spec.model_path:
            self._load = LoadWatch()
        self.config = config
        if launch_changed:
            self._events.put_nowait(life.ConfigChanged())
        wish = config.wish_since(self._generation)
        self._generation = config.generation
        if wish is not None:
            why = "" if config.idle_seconds is None else idle_note(config.idle_seconds)
            self._events.put_nowait(EVENT_OF_WISH[wish](why, generation=config.generation))

    def stop(self, note: str, *, spare_adopted: bool) -> None:
        """For good: nothing is begun after this."""
        self._ending = True
        self._idle.clear()
        self._events.put_nowait(life.Stop(note, spare_adopted=spare_adopted))

    def leave(self, note: str) -> None:
        """Stop, because this server does not exist any more."""
        self.leaving = True
        self.stop(note, spare_adopted=True)

    def moved(self) -> None:
        """Content of an answer of it has passed a gateway."""
        self._moved = True

    @property
    def is_idle(self) -> bool:
        return self._idle.is_set()

    def kill(self) -> None:
        """SIGKILL now: somebody asked twice."""
        if not self.state.adopted or self.state.phase is life.Phase.ENDING:
            self._signal(self.state.attempt, force=True)

    async def idle(self) -> None:
        """Until there is no process and nothing is planned."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Until no process is on its way."""
        while self.state.phase is life.Phase.SPAWNING and self._bug is None:
            await self._clock.sleep_until(self._clock.monotonic() + SETTLE_SECONDS)

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong in here is a bug, and is raised."""
        await self._begin()
        next_event: asyncio.Task[life.Event] = asyncio.create_task(self._events.get())
        try:
            while True:
                await self._wait(next_event)
                if next_event.done():
                    self._step(next_event.result())
                    next_event = asyncio.create_task(self._events.get())
                else:
                    self._step(life.Tick())
        finally:
            for task in (next_event, *self._tasks):
                task.cancel()
            self._forget_process()

    def _forget_process(self) -> None:
        if self._process is not None:
            self._process.forget()
        self._process = None

    async def _wait(self, next_event: asyncio.Task[life.Event]) -> None:
        """Until something happened or the state's deadline has come."""
        waiting: set[asyncio.Task[life.Event] | asyncio.Task[None]] = {next_event}
        alarm = None
        if self.state.deadline is not None:
            alarm = asyncio.create_task(self._clock.sleep_until(self.state.deadline))
            waiting.add(alarm)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if alarm is not None:
                alarm.cancel()
        if self._bug is not None:
            raise self._bug

    async def _begin(self) -> None:
        """Find out what the last supervisor left, before anything else."""
        remembered = self._remembered
        found = await self._find()
        if found is not None:
            self._step(found)
        if self._ending:  # since then: a wish from before must not be heard after that
            return
        if found is not None:
            self._resume(found)
        elif remembered.status in (Status.CRASHED, Status.ERROR) and self.config.desired_running:
            given_up = remembered.status is Status.ERROR
            self._step(life.Continue(given_up, remembered.retries, remembered.failure))
        self.apply(self.config)
        if self._events.empty() and self.config.desired_running and self.state.status is Status.INITIAL:
            self._events.put_nowait(life.Start())
        if self._events.empty():  # else the first step says more, and no page flashes "initial"
            self._record()

    async def _find(self) -> life.Resume | None:
        """The process that lives on: the one on record, or one that nobody had the time to write down."""
        remembered = self._remembered
        if remembered.run_open:
            identity = remembered.identity
            holder = identity and await self._processes.find(identity, self.config.spec)
            if holder:
                self._argv = remembered.argv
                return life.Resume(holder, adopted=remembered.adopted, retries=remembered.retries)
            self._chronicle.close_unseen()
        ours = await self._processes.find_ours(self.config.name)
        if ours is None:
            await self._processes.end_rest(self.config.name)
            return None
        self._argv = self._argv_of(ours)
        return life.Resume(ours, adopted=False, retries=remembered.retries, recorded=False)

    def _argv_of(self, ours: PortHolder) -> tuple[str, ...]:
        """What it was spawned with. A script may stand before it, but hands its flags on."""
        spec = self.config.spec
        as_now = ours.argv[len(ours.argv) - len(spec.args) :] == spec.args
        return spec.argv if as_now else ours.argv

    def _resume(self, found: life.Resume) -> None:
        """Finish what the last supervisor had begun."""
        if not self.config.desired_running:
            self._events.put_nowait(life.Stop())
        elif self._remembered.status is Status.STOPPING:
            self._events.put_nowait(life.Restart())
        elif not found.adopted and self._argv != self.config.spec.argv:
            self._events.put_nowait(life.ConfigChanged())

    # One step

    def _step(self, event: life.Event) -> None:
        if isinstance(event, life.Start | life.Restart | life.Stop):
            self._acted = event.generation or self._acted
        before = self.state
        policy = life.Policy(restart=self.config.restart, health=self.config.health)
        self.state, effects = life.decide(before, event, policy, self._clock.monotonic())
        for effect in effects:
            self._perform(effect)
        if self.state.status is Status.ERROR and before.status is not Status.ERROR:
            self._spawn_task(self._remember_cause(), "cause")
        if self.state.phase is not life.Phase.WAITING:
            self._progress = None
        (self._idle.set if self.state.phase is life.Phase.IDLE else self._idle.clear)()
        self._record()

    def _perform(self, effect: life.Effect) -> None:
        match effect:
            case life.Log():
                self._log.log(effect.level, effect.text)
            case life.InspectPort():
                self._spawn_task(self._inspect(effect.attempt), "inspect")
            case life.Spawn():
                self._spawn_task(self._spawn(effect.attempt), "spawn")
            case life.Adopt():
                self._spawn_task(self._adopt(effect), "adopt")
            case life.CheckHealth():
                self._spawn_task(self._check_health(effect.attempt), "health")
            case life.ReadModels():
                self._spawn_task(self._read_models(effect.attempt), "models")
            case life.Terminate():
                self._signal(effect.attempt, force=False)
            case life.Kill():
                self._signal(effect.attempt, force=True)
            case life.CheckActivity():
                self._spawn_task(self._check_activity(effect, self._process), "activity")
            case life.SendCanary():
                self._spawn_task(self._send_canary(effect.attempt), "canary")
            case life.CheckCause():
                self._spawn_task(self._check_cause(effect), "cause")
            case life.Forget():
                self._forget_process()
            case life.OpenRun() | life.MarkReady() | life.CloseRun():
                self._write_history(effect)
            case _ as never:
                assert_never(never)

    def _write_history(self, effect: life.OpenRun | life.MarkReady | life.CloseRun) -> None:
        if (
            isinstance(effect, life.MarkReady)
            and not self.state.adopted
            and not self._chronicle.reached_ready
        ):
            self._load.learned(self._clock.monotonic() - self._watched_since)
        self._chronicle.write(
            effect,
            process=self._process,
            config=self.config,
            argv=self._argv,
            last_lines=self._last_lines,
            evidence=self._evidence,
        )
        if isinstance(effect, life.CloseRun):
            self._process = None

    def _record(self) -> None:
        self._chronicle.record(
            self.state,
            self.config,
            generation=self._acted,
            has_process=self._process is not None,
            progress=self._progress,
        )

    # Effects that take time: each comes back as an event

    def _spawn_task(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{self.config.name}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._bug = task.exception()
            self._events.put_nowait(life.Tick())  # wakes `run`, which raises it

    async def _inspect(self, attempt: int) -> None:
        holder = await self._processes.port_holder(self.config.name, self.config.spec)
        self._events.put_nowait(life.Inspected(attempt, holder))

    async def _spawn(self, attempt: int) -> None:
        spec = self.config.spec
        self._log.info("🚀 Spawning llama-server with args: %s", " ".join(spec.args))
        try:
            process = await self._processes.spawn(self.config.name, spec)
        except SpawnError as error:
            self._events.put_nowait(life.SpawnFailed(attempt, error.failure))
            return
        self._argv = spec.argv
        self._watch(attempt, process, spec)
        self._events.put_nowait(life.Spawned(attempt, process.identity))

    async def _adopt(self, effect: life.Adopt) -> None:
        try:
            process = await self._processes.adopt(self.config.name, effect.holder, self.config.spec)
        except ProcessLookupError:
            gone = failure_of(FailureKind.EXITED, f"{effect.holder} ended while it was taken over")
            self._events.put_nowait(life.SpawnFailed(effect.attempt, gone))
            return
        self._watch(effect.attempt, process, self.config.spec)
        self._events.put_nowait(
            life.Spawned(effect.attempt, process.identity, adopted=effect.adopted, resumed=effect.resumed)
        )

    def _watch(self, attempt: int, process: Process, spec: LaunchSpec) -> None:
        self._process = process
        self._watched_since = self._clock.monotonic()
        self._meter = WorkMeter()
        self._last_lines = ()
        self._trail = Trail()
        self._evidence = Evidence()
        self._spawn_task(self._await_exit(attempt, process, spec), "exit")
        self._spawn_task(self._follow_load(process, spec), "load")
        self._spawn_task(self._follow_memory(process), "memory")

    async def _await_exit(self, attempt: int, process: Process, spec: LaunchSpec) -> None:
        ended = await process.wait()
        await self._processes.end_rest(self.config.name)
        lines = await process.last_lines(DIAGNOSIS_LINES)
        self._last_lines = tuple(lines[-LAST_LINES:])
        autopsy = await process.autopsy()
        was_ready = self.state.was_ready
        failure = diagnose(ended, lines, was_ready=was_ready, model_path=spec.model_path)
        failure = blame(failure, ended, self._trail.last, autopsy)
        self._evidence = self._trail.evidence(
            failure,
            autopsy,
            at=self._clock.time(),
            decisive=decisive_line(ended, lines, was_ready=was_ready),
            models=tuple(model.id for model in self.state.models),
        )
        self._events.put_nowait(life.Exited(attempt, ended, failure))

    async def _follow_load(self, process: Process, spec: LaunchSpec) -> None:
        """While the model loads: how far it is, twice a second."""
        total = await self._processes.model_bytes(spec)
        while self._process is process and not self.state.was_ready and total:
            await self._clock.sleep_until(self._clock.monotonic() + LoadWatch.INTERVAL)
            loaded = await process.resident_bytes()
            if self._process is process and self.state.loading and self.state.phase is life.Phase.WAITING:
                elapsed = self._clock.monotonic() - self._watched_since
                self._progress = self._load.progress(loaded, total, elapsed)
                self._log.info("%s", self._load.line(self._progress), extra={"transient": True})
                self._record()

    async def _follow_memory(self, process: Process) -> None:
        """While the model loads: most often that is when memory runs out."""
        trail = self._trail
        while self._process is process and not self.state.was_ready:
            trail.add(await process.sample())
            pause = LOAD_LOOKS[0] if len(trail.samples) < QUICK_LOOKS else LOAD_LOOKS[1]
            await self._clock.sleep_until(self._clock.monotonic() + pause)

    async def _check_health(self, attempt: int) -> None:
        spec, process = self.config.spec, self._process
        health = await self._probe.health(spec, self.config.health.timeout_ms / 1000)
        ours = True
        if self.state.phase is life.Phase.WAITING and process is not None:
            ours = await process.owns_port(spec)
        self._events.put_nowait(life.HealthChecked(attempt, health, ours))

    async def _check_activity(self, effect: life.CheckActivity, process: Process | None) -> None:
        trail = self._trail
        activity = await self._meter.look(
            process,
            self._probe,
            self.config.spec,
            busy=effect.busy,
            ask=effect.ask,
            timeout=self.config.health.timeout_ms / 1000,
            now=self._clock.monotonic(),
        )
        sample = await process.sample() if process else None
        trail.add(sample)
        trail.serving = serving(activity)
        seen = replace(activity, memory=sample.used if sample else 0, moved=self._moved)
        self._moved = False
        self._events.put_nowait(life.ActivitySeen(effect.attempt, seen))

    async def _send_canary(self, attempt: int) -> None:
        canary = await self._probe.canary(self.config.spec, self.config.health.canary_timeout)
        self._events.put_nowait(life.CanarySeen(attempt, canary))

    async def _read_models(self, attempt: int) -> None:
        spec, process, trail = self.config.spec, self._process, self._trail
        lines = await process.last_lines(STARTUP_LINES) if process else []
        warnings = gpu_warnings(lines, spec.args)
        models: tuple[Model, ...] = ()
        try:
            models = await self._probe.models(spec, self.config.health.timeout_ms / 1000)
        except ProbeError as error:
            warnings += (f"Its models could not be read: {error}.",)
        else:
            warnings += () if models else ("Its list of models is empty.",)
        sample = await process.sample() if process else None
        trail.add(sample)
        memory = sample.used if sample else 0
        self._events.put_nowait(life.ModelsRead(attempt, models, warnings, memory))

    def _signal(self, attempt: int, *, force: bool) -> None:
        if self._process is None:
            return
        try:
            (self._process.kill if force else self._process.terminate)()
        except SignalDeniedError:
            self._events.put_nowait(life.SignalDenied(attempt))

    async def _remember_cause(self) -> None:
        failure = self.state.failure
        if failure is not None and failure.permanent:
            self._cause = self._cause_seen = await self._processes.cause_of(failure, self.config.spec)

    async def _check_cause(self, effect: life.CheckCause) -> None:
        """Gone means changed and then at rest: a file that still grows is a download under way."""
        cause = await self._processes.cause_of(effect.failure, self.config.spec)
        settled, self._cause_seen = cause == self._cause_seen, cause
        gone = settled and cause is not None and (not cause.present or cause != self._cause)
        self._events.put_nowait(life.CauseChecked(effect.attempt, gone))
