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
from supervisor_app.common.words import counted, noun
from supervisor_app.core import lifecycle
from supervisor_app.core.context.rules import RESTORE_SECONDS, VERIFY_SECONDS, Use, judge
from supervisor_app.core.context.saved import Kept
from supervisor_app.core.diagnosis.evidence import Trail
from supervisor_app.core.diagnosis.fallback import gpu_warnings
from supervisor_app.core.ports import ProbeError, Process, SignalDeniedError
from supervisor_app.core.post_mortem import PostMortem, insist
from supervisor_app.core.shortage import CANNOT, why_not
from supervisor_app.core.sightings import Endpoint, Health
from supervisor_app.core.tasks import Tasks
from supervisor_app.core.vitals import Vitals
from supervisor_app.core.watch.activity import WorkMeter
from supervisor_app.core.watch.loading import LEAST_BYTES, LoadWatch
from supervisor_app.core.watch.peak import Peak
from supervisor_app.core.watch.watchdog import NO_CPU, Activity

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from supervisor_app.core.sightings import MemorySample
    from supervisor_app.core.spec import HealthPolicy, LaunchSpec
    from supervisor_app.core.status import Failure, Model, Progress
    from supervisor_app.core.surroundings import Surroundings

STARTUP_LINES = 2000
"""Lines read once the server is ready, to find what it complained about while it loaded."""
LOAD_LOOKS = (0.1, 0.5)
"""Seconds between two looks at the memory of a process that loads: the first `QUICK_LOOKS`, and later."""
QUICK_LOOKS = 20
FETCH_SECONDS = 1.0
REST_SECONDS = 0.3
"""Rest before the post-mortem of a server that has made room: the next one starts meanwhile."""
PAGES_SECONDS = 0.5
"""Time from ready to the look at all that is mapped: the request that waited for it needs all cores."""
JUDGE_SECONDS = 2.0
"""Pause between two looks at the first answers; gateways write their records every other second."""


def serving(activity: Activity) -> str:
    """Say what the server was doing, for its crash card."""
    if not activity.answered:
        return "It did not say what it was doing."
    if not activity.busy:
        return "It was idle."
    slots = counted(activity.slots, "slot")
    verb = noun(activity.working, "was", "were")
    return f"{activity.working} of {slots} {verb} working on a request."


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
        self.since = around.clock.monotonic()
        self.progress: Progress | None = None
        self.moved = False
        """Content of an answer has passed a gateway since the last look."""
        self.vitals: Vitals | None = None
        """Vital signs; None until somebody has looked."""
        self._process = process
        self._around = around
        self._spec = spec
        self._adopted = adopted
        self._taken_over = taken_over
        self._load = load
        self._context_refusal = context_refusal
        self._meter = WorkMeter()
        self._silence: tuple[float, float] | None = None
        """Time of the last check if that was silent, and the seconds of CPU used by then."""
        self._trail = Trail()
        self._peak = Peak()
        self._teaches = not adopted and redact_argv(argv) == redact_argv(spec.argv)
        """The process runs its spec. Nobody knows the flags of one that was adopted."""
        self._healthy: tuple[int, int] | None = None
        """Positions in the log at which the last two good health checks began, the older first."""
        self._unasked = asyncio.Event()
        """Set while it is not asked for its health: our own connection would count as a client."""
        self._unasked.set()
        self._tasks = Tasks(around.name, around.on_bug)
        self._tasks.start(self._await_exit(), "exit")
        self._tasks.start(self._follow_load(), "load")
        self._tasks.start(self._follow_memory(), "memory")
        if spec.fetches:
            self._tasks.start(self._follow_download(), "download")

    @property
    def started_at(self) -> float:
        """Unix seconds."""
        return self._process.started_at

    @property
    def endpoint(self) -> Endpoint | None:
        """Address at which the process was proved to listen."""
        return self._spec.endpoint

    def surveyed(self, used: Mapping[str, int]) -> None:
        """Note the bytes that it was seen to use of each GPU."""
        self._peak.surveyed(used)
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
                self._start(effect, self._save_context(effect.seconds), "context")
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
        self._note(sample)
        self.vitals = (self.vitals or Vitals()).after(activity, sample, self._around.clock.time())
        self._trail.serving = serving(activity)
        trouble = await self._process.log_trouble()
        memory = sample.used if sample else 0
        seen = replace(activity, memory=memory, moved=self.moved, log_trouble=trouble)
        self.moved = False
        self._peak.worked = self._peak.worked or not seen.quiet
        self._teach()
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

    async def _look_at_memory(self) -> MemorySample | None:
        sample = await self._process.sample()
        self._note(sample)
        return sample

    def _note(self, sample: MemorySample | None) -> None:
        self._trail.add(sample)
        self._peak.sampled(sample)

    def _teach(self, failure: Failure | None = None, *, ended: bool = False) -> None:
        """Hand on what the process has shown of the memory that it needs, if there is news."""
        if not self._teaches:
            return
        name, run = self._around.name, self._process.identity
        short_of = self._peak.short_of(failure.kind) if failure is not None else None
        if short_of is not None:
            self._around.footprints.learned(name, self._spec, short_of, out_of_memory=True, run=run)
        elif (news := self._peak.lesson(self._around.clock.monotonic(), ended=ended)) is not None:
            self._around.footprints.learned(name, self._spec, news, run=run)

    async def _send_canary(self, timeout: float) -> None:  # noqa: ASYNC109
        asked_at = self._around.clock.monotonic()
        canary = await self._around.probe.canary(self._spec, timeout)
        self._around.report(lifecycle.CanarySeen(self.attempt, canary, asked_at))

    async def _read_models(self, timeout: float) -> None:  # noqa: ASYNC109
        position = await self._process.log_position()
        self._healthy = (position, position)
        spec, warnings = await self._as_it_runs(timeout)
        lines, (models, unread), sample = await asyncio.gather(
            self._process.last_lines(STARTUP_LINES), self._offered(spec, timeout), self._look_at_memory()
        )
        if self._teaches:
            # The last supervisor has heard all that a process which is taken over has told.
            name, heard = self._around.name, () if self._taken_over else lines
            self._around.footprints.told(name, self._spec, heard, self._process.identity)
        unseen = self.endpoint.unseen if self.endpoint is not None else ""
        said = (*gpu_warnings(lines, self._spec.args), unseen, *warnings, unread, self._context_refusal)
        context = await self._restore_context()
        memory = sample.used if sample else 0
        seen = lifecycle.ModelsRead(self.attempt, models, tuple(filter(None, said)), memory, context)
        self._around.report(seen)
        if context is not None and context.tokens:
            self._tasks.start(self._judge_context(context), "judge context")
        self._tasks.start(self._look_at_pages(), "pages")

    async def _look_at_pages(self) -> None:
        clock = self._around.clock
        await clock.sleep_until(clock.monotonic() + PAGES_SECONDS)
        with suppress(*CANNOT):
            sample, mapped = await self._process.sample(), await self._process.mapped_bytes()
            self._peak.became_ready(clock.monotonic(), mapped, sample)

    async def _offered(self, spec: LaunchSpec, timeout: float) -> tuple[tuple[Model, ...], str]:  # noqa: ASYNC109
        """Ask for its models; where there are none, also say why, as a sentence."""
        try:
            models = await self._around.probe.models(spec, timeout)
        except ProbeError as error:
            return (), f"Its models could not be read: {error}."
        return models, "" if models else "Its list of models is empty."

    async def _restore_context(self) -> Kept | None:
        """Restore the conversations before anybody may ask; None: none are kept, or it runs with its own.

        Not once it is ready: a request would have taken a slot by then, and compute what was saved.
        """
        if self._taken_over or not self._spec.slot_dir or not self._around.keeps_context():
            return None
        return await self._around.contexts.restore(self._around.name, self._spec, RESTORE_SECONDS)

    async def _save_context(self, seconds: float) -> None:
        kept = Kept()
        if self._spec.slot_dir:
            name, since = self._around.name, self._process.started_at
            kept = await self._around.contexts.save(name, self._spec, since, seconds)
        self._around.report(lifecycle.ContextSaved(self.attempt, kept))

    async def _judge_context(self, context: Kept) -> None:
        """Wait for the first answers, which tell whether the restored conversations were of use."""
        clock, since = self._around.clock, self._around.clock.time()
        end = clock.monotonic() + VERIFY_SECONDS
        while clock.monotonic() < end:
            await clock.sleep_until(clock.monotonic() + JUDGE_SECONDS)
            cached = await self._around.contexts.answers(self._around.name, since, len(context.tokens))
            use, tokens = judge(context.tokens, cached)
            if use is not Use.OPEN:
                self._around.report(lifecycle.ContextJudged(self.attempt, tokens, len(cached)))
                return

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

    # Tasks that live as long as the process, or until it is ready

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
            trail=self._trail,
            adopted=self._adopted,
            taken_over=self._taken_over,
            healthy=self._healthy,
            at=at,
        )
        failure, report = await post_mortem.examine(ended)
        self._teach(failure, ended=True)
        self._around.report(lifecycle.Exited(self.attempt, ended, failure, report))

    async def _follow_load(self) -> None:
        """Report twice a second how far the model is loaded."""
        around, total = self._around, 0
        with suppress(*CANNOT):
            total = await around.processes.model_bytes(around.name, self._spec)
        while not around.state().was_ready and total >= LEAST_BYTES:
            await around.clock.sleep_until(around.clock.monotonic() + LoadWatch.INTERVAL)
            try:
                loaded = await self._process.resident_bytes()
            except CANNOT:
                continue
            state = around.state()
            if state.loading and state.phase is lifecycle.Phase.WAITING:
                elapsed = around.clock.monotonic() - self.since
                self.progress = self._load.progress(loaded, total, elapsed)
                around.log.info("%s", self._load.line(self.progress), extra={"transient": True})
                around.progressed()

    async def _follow_download(self) -> None:
        """Report once a second whether the download gets on, until the model loads."""
        around, most = self._around, -1
        while not (around.state().was_ready or around.state().loading):
            with suppress(*CANNOT):
                fetched = await self._process.fetched()
                if fetched > most and around.state().phase is lifecycle.Phase.WAITING:
                    most = fetched
                    around.report(lifecycle.Fetching(self.attempt, fetched))
            await around.clock.sleep_until(around.clock.monotonic() + FETCH_SECONDS)

    async def _follow_memory(self) -> None:
        """Sample the memory while the model loads: most often that is when memory runs out."""
        clock = self._around.clock
        while not self._around.state().was_ready:
            with suppress(*CANNOT):
                await self._look_at_memory()
            pause = LOAD_LOOKS[0] if len(self._trail.samples) < QUICK_LOOKS else LOAD_LOOKS[1]
            await clock.sleep_until(clock.monotonic() + pause)
