"""The last runs of one server, as its page shows them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.core.status import Failure, RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.loaded import Loaded
    from supervisor_app.core.sightings import Exit

LENGTH = 10
LOOP_DEATHS = 5
LOOP_SECONDS = 600.0
"""Deaths of the same kind, and the seconds within which they make a crash loop."""


class Timeline:
    """The last runs, at most `LENGTH`; the newest may be open."""

    def __init__(self, newest_first: Sequence[RunSummary] = ()) -> None:
        self._runs = deque(newest_first, maxlen=LENGTH)

    @property
    def newest_first(self) -> tuple[RunSummary, ...]:
        return tuple(self._runs)

    @property
    def current(self) -> RunSummary | None:
        return self._runs[0] if self._runs and self._runs[0].open else None

    def in_crash_loop(self, now: float) -> bool:
        """`now` in Unix seconds. A failed spawn is no run, so it does not count."""
        kinds = [
            run.failure.kind if run.failure else None
            for run in self._runs
            if run.ended_at is not None and now - run.ended_at < LOOP_SECONDS
        ]
        return bool(kinds) and kinds[0] is not None and kinds.count(kinds[0]) >= LOOP_DEATHS

    def opened(self, at: float, *, retry: int, adopted: bool) -> None:
        self._runs.appendleft(RunSummary(started_at=at, retry=retry, adopted=adopted))

    def ready(self, at: float, loaded: Loaded | None = None) -> bool:
        """True when it was the first time in this run."""
        if self.current is None or self.current.ready_at is not None:
            return False
        self._runs[0] = replace(self._runs[0], ready_at=at, loaded=loaded)
        return True

    def closed(self, at: float, ended: Exit, failure: Failure | None, memory: str = "") -> None:
        if self.current is not None:
            self._runs[0] = replace(
                self._runs[0],
                ended_at=at,
                exit_code=ended.code,
                signal=ended.signal,
                failure=failure,
                memory=memory,
            )
