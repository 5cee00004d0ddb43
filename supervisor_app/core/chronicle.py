"""Tells one server's story: its snapshot for everybody, its runs for the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from supervisor_app.common.records import replace
from supervisor_app.common.redact import redact_argv, redact_environment
from supervisor_app.common.words import span
from supervisor_app.core import lifecycle
from supervisor_app.core.changes import (
    Change,
    ContextCounted,
    Remembered,
    RoomCounted,
    RunClosed,
    RunEvent,
    RunOpened,
    RunReady,
)
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Endpoint, Exit
from supervisor_app.core.spans import SpanLog
from supervisor_app.core.status import DOWN, FailureKind, LlamaStatus, Progress, Replacement, Status
from supervisor_app.core.timeline import LOOP_DEATHS, LOOP_SECONDS, Timeline
from supervisor_app.core.wording import idle_sentence, last_error, said_of, sentence, warnings

if TYPE_CHECKING:
    from supervisor_app.core.ports import Clock
    from supervisor_app.core.recorder import Recorder
    from supervisor_app.core.server_config import ServerConfig
    from supervisor_app.core.watched import WatchedProcess

LOOKED_AT = frozenset({lifecycle.Phase.WAITING, lifecycle.Phase.SERVING})
"""Phases in which a server is asked again and again how it does."""
RENAMED = "The server has another name now."


class Chronicle:
    """Continues where the last supervisor's stopped: versions, runs. Hands on only what has changed."""

    def __init__(self, name: str, remembered: Remembered, *, clock: Clock, recorder: Recorder) -> None:
        # Never behind what pages have seen, also when the last states could not be saved.
        version = max(remembered.version, int(clock.time() * 1000))
        self.snapshot = LlamaStatus(name=name, version=version)
        self.closed_since: int | None = None
        """Version of the first snapshot of those that say: it takes no new requests."""
        self._clock = clock
        self._recorder = recorder
        self._timeline = Timeline(remembered.runs)
        self._run_events: list[RunEvent] = []
        self._spans = SpanLog(seen_at=remembered.seen_at, down_since=remembered.down_since)
        self._generation = remembered.generation
        self._last_good = remembered.last_good
        self._shown: tuple[object, ...] | None = None
        """All on which the snapshot depends, while the server is looked at: most looks change nothing."""

    def write(
        self,
        effect: lifecycle.Historic,
        *,
        process: WatchedProcess | None,
        config: ServerConfig,
    ) -> None:
        """Note one line of history, which the next `record` hands on."""
        now = self._clock.time()
        match effect:
            case lifecycle.OpenRun():
                self._spans.resumed = False
                started_at, argv = (process.started_at, process.argv) if process else (now, ())
                self._timeline.opened(started_at, retry=effect.retry, adopted=effect.adopted)
                opened = RunOpened(
                    identity=effect.identity,
                    adopted=effect.adopted,
                    retry=effect.retry,
                    started_at=started_at,
                    argv=() if effect.adopted else redact_argv(argv),
                    launch=config.launch,
                    secrets=config.secrets,
                    environment={} if effect.adopted else redact_environment(config.spec.environment),
                )
                self._run_events.append(opened)
            case lifecycle.MarkReady():
                self._timeline.ready(now, effect.loaded)
                self._last_good = config.launch
                self._run_events.append(RunReady(at=now, loaded=effect.loaded))
            case lifecycle.CloseRun():
                self._close(effect)
            case lifecycle.CountContext():
                self._run_events.append(ContextCounted(counts=effect.counts))
            case lifecycle.CountRoom():
                self._run_events.append(RoomCounted(outcome=effect.outcome))
            case never:
                assert_never(never)

    def resume(self) -> None:
        """The process of the last supervisor lives on, so it was there all the time."""
        self._spans.resumed = True

    def close_unseen(self, *, has_new_name: bool = False) -> None:
        """The process of the last supervisor is gone, and nobody saw it go.

        `has_new_name`: it is being let go under the name that the server had before.
        """
        if has_new_name:
            self._close(lifecycle.CloseRun(Exit(), None, RENAMED))
            return
        self._spans.ended_unseen = True
        unseen = failure_of(FailureKind.UNKNOWN, "it ended while no supervisor was watching")
        self._close(lifecycle.CloseRun(Exit(), unseen))

    def _close(self, end: lifecycle.CloseRun) -> None:
        self._spans.resumed = False
        at, evidence = end.report.at or self._clock.time(), end.report.evidence
        self._timeline.closed(at, end.exit, end.failure, evidence.summary if evidence else "")
        closed = RunClosed(
            at=at,
            exit=end.exit,
            failure=end.failure,
            last_lines=end.report.last_lines,
            evidence=evidence.as_json() if evidence else {},
            note=end.note,
        )
        self._run_events.append(closed)

    @property
    def reached_ready(self) -> bool:
        """Has the open run been ready before?"""
        current = self._timeline.current
        return current is not None and current.ready_at is not None

    def record(
        self,
        state: lifecycle.State,
        config: ServerConfig,
        *,
        generation: int,
        has_process: bool,
        endpoint: Endpoint | None,
        progress: Progress | None,
        replacement: Replacement | None = None,
        port: int | None = None,
        waits: str = "",
    ) -> None:
        """Save and publish, when people see something else or the next supervisor must know it.

        `waits`: why a restart of a server that serves has to wait, as a sentence.
        """
        given = (config, generation, has_process, endpoint, progress, replacement, waits, port)
        shown = (state.shown, given)
        is_looked_at = state.phase in LOOKED_AT
        if is_looked_at and shown == self._shown and not self._run_events:
            return
        self._shown = shown if is_looked_at else None
        began = self._spans.follow(
            state.status,
            state.failure,
            unloaded=bool(state.unloaded) or config.idle_seconds is not None,
            now=self._clock.time(),
        )
        snapshot = replace(
            self._snapshot(state, config, has_process, progress), endpoint=endpoint, replacement=replacement
        )
        if replacement is not None:
            snapshot = replace(snapshot, **said_of(replacement, snapshot))
        if waits and snapshot.status is Status.READY:
            snapshot = replace(snapshot, detail=waits)
        news = self._run_events or began is not None or generation != self._generation
        if snapshot == self.snapshot and not news:
            return
        self.snapshot = replace(snapshot, version=self.snapshot.version + 1)
        self.closed_since = (self.closed_since or self.snapshot.version) if snapshot.draining else None
        self._generation = generation
        change = Change(
            snapshot=self.snapshot,
            identity=state.identity,
            generation=generation,
            run_events=tuple(self._run_events),
            spans=(began,) if began is not None else (),
            port=port,
        )
        self._run_events.clear()
        self._recorder.submit(change)

    def _snapshot(
        self, state: lifecycle.State, config: ServerConfig, has_process: bool, progress: Progress | None
    ) -> LlamaStatus:
        policy = lifecycle.Policy(restart=config.restart, health=config.health)
        current = self._timeline.current if has_process else None
        return LlamaStatus(
            name=config.name,
            status=state.status,
            detail=self._detail(state, policy, config),
            url=config.spec.public_url,
            models=state.models,
            last_error=last_error(state, policy),
            failure=state.failure,
            retries=state.retries,
            max_retries=config.restart.max_retries,
            started_at=current.started_at if current else None,
            ready_at=current.ready_at if current else None,
            down_since=self._spans.down_since,
            next_retry_at=self._next_retry_at(state),
            adopted=state.adopted,
            pid=state.identity.pid if state.identity else None,
            progress=progress,
            warnings=warnings(state, policy, config.context_refusal),
            draining=bool(state.draining) or state.is_drained,
            unloaded=state.status is Status.INITIAL and bool(state.unloaded),
            can_roll_back=state.status in DOWN and self._last_good not in (None, config.launch),
            runs=self._timeline.newest_first,
            version=self.snapshot.version,
        )

    def _detail(self, state: lifecycle.State, policy: lifecycle.Policy, config: ServerConfig) -> str:
        if state.status is Status.INITIAL and config.idle_seconds is not None:
            return idle_sentence(config.idle_seconds)
        said = sentence(state, policy, config.spec)
        if state.status in DOWN and self._timeline.in_crash_loop(self._clock.time()):
            return f"Crash loop: it died of this {LOOP_DEATHS} times in {span(LOOP_SECONDS)}. {said}"
        return said

    def _next_retry_at(self, state: lifecycle.State) -> float | None:
        """Unix seconds, worked out once for each wait: the two clocks drift apart by microseconds."""
        if state.retry_at is None:
            return None
        known = self.snapshot.next_retry_at if self.snapshot.status is Status.CRASHED else None
        return known or self._clock.time() + state.retry_at - self._clock.monotonic()
