"""Conversations of one process, kept over its planned end: saved, restored, and judged by what was of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle
from supervisor_app.core.context.rules import RESTORE_SECONDS, VERIFY_SECONDS, Use, judge
from supervisor_app.core.context.saved import Kept

if TYPE_CHECKING:
    from supervisor_app.core.ports import Process
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.core.surroundings import Surroundings

JUDGE_SECONDS = 2.0
"""Pause between two looks at the first answers; gateways write their records every other second."""


class Conversations:
    """Save and restore the conversations of a process; what comes of that is an event of its `attempt`."""

    def __init__(self, process: Process, around: Surroundings, *, attempt: int, taken_over: bool) -> None:
        """`taken_over`: the process ran already, with its own conversations."""
        self._process = process
        self._around = around
        self._attempt = attempt
        self._taken_over = taken_over

    async def restore(self, spec: LaunchSpec) -> Kept | None:
        """Restore the conversations before anybody may ask; None: none are kept, or it runs with its own.

        Not once it is ready: a request would have taken a slot by then, and compute what was saved.
        """
        if self._taken_over or not spec.slot_dir or not self._around.keeps_context():
            return None
        return await self._around.contexts.restore(self._around.name, spec, RESTORE_SECONDS)

    async def save(self, spec: LaunchSpec, seconds: float) -> None:
        """Save the conversations before the end, within so many seconds."""
        kept = Kept()
        if spec.slot_dir:
            name, since = self._around.name, self._process.started_at
            kept = await self._around.contexts.save(name, spec, since, seconds)
        self._around.report(lifecycle.ContextSaved(self._attempt, kept))

    async def judge(self, context: Kept) -> None:
        """Wait for the first answers, which tell whether the restored conversations were of use."""
        clock, since = self._around.clock, self._around.clock.time()
        end = clock.monotonic() + VERIFY_SECONDS
        while clock.monotonic() < end:
            await clock.sleep_until(clock.monotonic() + JUDGE_SECONDS)
            cached = await self._around.contexts.answers(self._around.name, since, len(context.tokens))
            use, tokens = judge(context.tokens, cached)
            if use is not Use.OPEN:
                self._around.report(lifecycle.ContextJudged(self._attempt, tokens, len(cached)))
                return
