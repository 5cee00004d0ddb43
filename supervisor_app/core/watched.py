"""A process of a server: all that is known of it and done for it, from its spawn or adoption on.

The object is made with the process and thrown away with it: `close` cancels every task that was started
for the process and stops watching it. So a process that was let go cannot touch its server again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from supervisor_app.common.redact import redact_argv
from supervisor_app.core import lifecycle
from supervisor_app.core.command_line.shared_context import context_flags
from supervisor_app.core.conversations import Conversations
from supervisor_app.core.diagnosis.fallback import gpu_warnings
from supervisor_app.core.load_follower import LoadFollower
from supervisor_app.core.measured import Measured
from supervisor_app.core.ports import ProbeError, Process, SignalDeniedError
from supervisor_app.core.post_mortem import PostMortem, insist
from supervisor_app.core.shortage import CANNOT, why_not
from supervisor_app.core.sightings import Endpoint, Health
from supervisor_app.core.tasks import Tasks
from supervisor_app.core.vitals import Vitals
from supervisor_app.core.watch.activity import WorkMeter
from supervisor_app.core.watch.watchdog import NO_CPU

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from supervisor_app.core.spec import HealthPolicy, LaunchSpec
    from supervisor_app.core.status import Model, Progress
    from supervisor_app.core.surroundings import Surroundings
    from supervisor_app.core.watch.loading import LoadWatch

STARTUP_LINES = 2000
"""Lines read once the server is ready, to find what it complained about while it loaded."""
REST_SECONDS = 0.3
"""Rest before the post-mortem of a server that has made room: the next one starts meanwhile."""


class WatchedProcess:
    """Watch `process` and answer questions about it, each with an event of its `attempt`."""

    def __init__(
        self,
        process: Process,
        around: Surroundings,
        *,
        attempt: int,
        spec: LaunchSpec,
        argv: tuple[str, ...],
        adopted: bool,
        taken_over: bool,
        load: LoadWatch,
        context_refusal: str = "",
    ) -> None:
        """`context_refusal`: why this process cannot keep its conversations, as a sentence."""
        self.attempt = attempt
        self.argv = argv
        """Command line of the process; empty when it is not known."""
        self.moved = False
        """Content of an answer has passed a gateway since the last look."""
        self.vitals: Vitals | None = None
        """Vital signs; None until somebody has looked."""
        self._process = process
        self._around = around
        self._spec = spec
        self._adopted = adopted
        self._taken_over = taken_over
        self._context_refusal = context_refusal
        self._meter = WorkMeter()
        self._silence: tuple[float, float] | None = None
        """Time of the last check if that was silent, and the seconds of CPU used by then."""
        # Nobody knows the flags of a process that was adopted.
        runs_its_spec = not adopted and redact_argv(argv) == redact_argv(spec.argv)
        self._context = context_flags(argv or spec.args, dict(spec.environment) if not adopted else {})
        self._measured = Measured(process, around, teaches=runs_its_spec)
        self._conversations = Conversations(process, around, attempt=attempt, taken_over=taken_over)
        self._load = LoadFollower(process, around, attempt=attempt, load=load)
        self._healthy: tuple[int, int] | None = None
        """Positions in the log at which the last two good health checks began, the older first."""
        self._unasked = asyncio.Event()
        """Set while it is not asked for its health: our own connection would count as a client."""
        self._unasked.set()
        self._tasks = Tasks(around.name, around.on_bug)
        self._tasks.start(self._await_exit(), "exit")
        self._tasks.start(self._load.follow_load(spec), "load")
        self._tasks.start(self._measured.follow_load(), "memory")
        if spec.fetches:
            self._tasks.start(self._load.follow_download(), "download")

    @property
    def started_at(self) -> float:
        """Unix seconds."""
        return self._process.started_at

    @property
    def since(self) -> float:
        """Moment of its spawn or adoption, in monotonic seconds."""
        return self._load.since

    @property
    def progress(self) -> Progress | None:
        """Progress of its load, until it is ready; None while nothing is known of it."""
        return self._load.progress

    @property
    def endpoint(self) -> Endpoint | None:
        """Address at which the process was proved to listen."""
        return self._spec.endpoint

    def surveyed(self, used: Mapping[str, int]) -> None:
        """Note the bytes that it was seen to use of each GPU."""
        self._measured.surveyed(used)
        self.vitals = replace(self.vitals or Vitals(), gpus=used)

    def close(self) -> None:
        """Let go of the process: nothing is heard of it after this, and nothing is done to it."""
        self._tasks.cancel()
        self._process.forget()

    def perform(self, effect: lifecycle.OnProcess, health: HealthPolicy) -> None:
        """Signal the process, or ask it something: the answer comes as an event."""
        timeout = health.timeout_ms / 1000
        match effect:
            case lifecycle.Terminate() | lifecycle.Kill():
                self._signal(effect)
            case lifecycle.SaveContext():
                self._start(effect, self._conversations.save(self._spec, effect.seconds), "context")
            case lifecycle.CheckHealth():
                self._start(effect, self._check_health(timeout), "health")
            case lifecycle.CheckActivity():
                self._start(effect, self._check_activity(effect, timeout), "activity")
            case lifecycle.CheckRequests():
                self._start(effect, self._check_requests(timeout), "requests")
            case lifecycle.SendCanary():
                self._start(effect, self._send_canary(health.canary_timeout), "canary")
            case lifecycle.ReadModels():
                self._start(effect, self._read_models(timeout), "models")
            case lifecycle.ReadModelsAgain():
                self._start(effect, self._read_models_again(timeout), "models")
            case never:
                assert_never(never)

    def _start(self, effect: lifecycle.OnProcess, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.start(self._around.attempted(effect, work), name)

    def _signal(self, effect: lifecycle.Terminate | lifecycle.Kill) -> None:
        try:
            (self._process.kill if isinstance(effect, lifecycle.Kill) else self._process.terminate)()
        except SignalDeniedError:
            self._around.report(lifecycle.SignalDenied(self.attempt))
        except CANNOT as error:
            now = self._around.clock.monotonic()
            self._around.report(lifecycle.Postponed(self.attempt, effect, why_not(error), now))

    async def _check_health(self, timeout: float) -> None:  # noqa: ASYNC109
        asked_at = self._around.clock.monotonic()
        position = await self._process.log_position()
        if self._around.state().phase is lifecycle.Phase.WAITING or self.endpoint is None:
            await self._prove()
        ours, health = self.endpoint is not None, Health.REFUSED
        if ours:
            self._unasked.clear()
            try:
                health = await self._around.probe.health(self._spec, timeout)
            finally:
                self._unasked.set()
        if health is Health.OK and self._healthy is not None:
            self._healthy = (self._healthy[1], position)
        if health is not Health.SILENT:
            self._silence = None
        computing = health is Health.SILENT and await self._computes()
        self._around.report(lifecycle.HealthChecked(self.attempt, health, ours, asked_at, computing))

    async def _prove(self) -> None:
        """Find where the process listens: nobody is asked anything before it is proved to be ours."""
        self._spec = self._spec.at(await self._process.endpoint(self._spec))

    async def _computes(self) -> bool:
        """Has the process computed since the last silent check, or is a GPU busy while it has clients?"""
        now, usage = self._around.clock.monotonic(), await self._process.usage(self._spec)
        before, self._silence = self._silence, (now, usage.cpu_seconds)
        if before is None or now <= before[0]:
            return False
        cores = (usage.cpu_seconds - before[1]) / (now - before[0])
        sample = await self._process.sample()
        on_gpu = sample is not None and usage.connections > 0 and any(gpu.works for gpu in sample.gpus)
        return cores >= NO_CPU or on_gpu

    async def _check_activity(self, effect: lifecycle.CheckActivity, timeout: float) -> None:  # noqa: ASYNC109
        await self._unasked.wait()
        now, (usage, sample) = self._around.clock.monotonic(), await self._process.look(self._spec)
        activity = await self._meter.look(
            usage,
            self._around.probe,
            self._spec,
            busy=effect.busy,
            ask=effect.ask,
            timeout=timeout,
            now=now,
        )
        self._measured.looked(sample, activity)
        at = self._around.clock.time()
        self.vitals = (self.vitals or Vitals()).after(activity, sample, at, self._context)
        trouble = await self._process.log_trouble()
        memory = sample.used if sample else 0
        seen = replace(activity, memory=memory, moved=self.moved, log_trouble=trouble)
        self.moved = False
        self._measured.worked(self._spec, seen)
        self._around.report(lifecycle.ActivitySeen(self.attempt, seen))

    async def requests(self, timeout: float) -> int:  # noqa: ASYNC109
        """Ask how many requests are in flight; 1 where that cannot be told, 0 of one that sleeps.

        One without clients is not asked: the kernel tells that in no time.
        """
        there = self.endpoint
        if there is not None and not there.unseen and not self._process.has_clients(there):
            return 0
        slots = await self._around.probe.slots(self._spec, timeout, may_wake=False)
        if not slots.answered:
            return 1
        if slots.total:
            return slots.working
        return min(1, (await self._process.usage(self._spec)).connections)

    async def _check_requests(self, timeout: float) -> None:  # noqa: ASYNC109
        if self.endpoint is None:
            await self._prove()
        count = 1 if self.endpoint is None else await self.requests(timeout)
        self._around.report(lifecycle.RequestsSeen(self.attempt, count))

    async def _send_canary(self, timeout: float) -> None:  # noqa: ASYNC109
        asked_at = self._around.clock.monotonic()
        canary = await self._around.probe.canary(self._spec, timeout)
        self._around.report(lifecycle.CanarySeen(self.attempt, canary, asked_at))

    async def _read_models(self, timeout: float) -> None:  # noqa: ASYNC109
        position = await self._process.log_position()
        self._healthy = (position, position)
        spec, warnings = await self._as_it_runs(timeout)
        lines, (models, unread), sample = await asyncio.gather(
            self._process.last_lines(STARTUP_LINES), self._offered(spec, timeout), self._measured.look()
        )
        # The last supervisor has heard all that a process which is taken over has told.
        self._measured.told(self._spec, () if self._taken_over else lines)
        unseen = self.endpoint.unseen if self.endpoint is not None else ""
        said = (*gpu_warnings(lines, self._spec.args), unseen, *warnings, unread, self._context_refusal)
        context = await self._conversations.restore(self._spec)
        memory = sample.used if sample else 0
        seen = lifecycle.ModelsRead(self.attempt, models, tuple(filter(None, said)), memory, context)
        self._around.report(seen)
        if context is not None and context.tokens:
            self._tasks.start(self._conversations.judge(context), "judge context")
        self._tasks.start(self._measured.look_at_pages(), "pages")

    async def _offered(self, spec: LaunchSpec, timeout: float) -> tuple[tuple[Model, ...], str]:  # noqa: ASYNC109
        """Ask for its models; where there are none, also say why, as a sentence."""
        try:
            models = await self._around.probe.models(spec, timeout)
        except ProbeError as error:
            return (), f"Its models could not be read: {error}."
        return models, "" if models else "Its list of models is empty."

    async def _as_it_runs(self, timeout: float) -> tuple[LaunchSpec, tuple[str, ...]]:  # noqa: ASYNC109
        """Return the spec as the process runs: one that was found may run another model."""
        file = self._spec.model_file
        if not self._adopted or file is None:
            return self._spec, ()
        running = await self._around.probe.running_model(self._spec, timeout)
        if not running or await self._process.means_file(running, file):
            return self._spec, ()
        said = (
            f"It was running already, with the model {running}; configured is {self._spec.model_path}. "
            "Restart ends it and starts what is configured."
        )
        return replace(self._spec, model_path=None), (said,)

    async def _read_models_again(self, timeout: float) -> None:  # noqa: ASYNC109
        models: tuple[Model, ...] | None = None
        with suppress(ProbeError):
            models = await self._around.probe.models(self._spec, timeout)
        self._around.report(lifecycle.ModelsReadAgain(self.attempt, models))

    # Its end

    async def _await_exit(self) -> None:
        if self._taken_over:  # what it wrote before is not of our time
            position = await insist(self._process.log_position, self._around.clock, without=0)
            self._healthy = (position, position)
        ended, clock = await self._process.wait(), self._around.clock
        at, state = clock.time(), self._around.state()
        # A router's children may be in groups of their own.
        if self._spec.model_path is not None and self._process.leaves_nothing():
            self._around.report(lifecycle.Gone(self.attempt))
            if state.unloaded and not state.start_next:
                await clock.sleep_until(clock.monotonic() + REST_SECONDS)
        # As it is now: to find out may take a while, in which another process may answer at the port.
        post_mortem = PostMortem(
            process=self._process,
            around=self._around,
            spec=self._spec,
            trail=self._measured.trail,
            adopted=self._adopted,
            taken_over=self._taken_over,
            healthy=self._healthy,
            at=at,
        )
        failure, report = await post_mortem.examine(ended)
        self._measured.ended(self._spec, failure)
        self._around.report(lifecycle.Exited(self.attempt, ended, failure, report))
