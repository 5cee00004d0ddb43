"""Surroundings of the processes of one server: its supervisor, and the world."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.core import lifecycle
from supervisor_app.core.shortage import CANNOT, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, MutableMapping

    from supervisor_app.core.ports import Clock, Contexts, Footprints, Probe, Processes


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """Names the server in every record, beside what the call adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(self.extra or {}), **kwargs.get("extra", {})}}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Ports, log and supervisor of one server, as each of its processes gets them."""

    name: str
    processes: Processes
    probe: Probe
    clock: Clock
    footprints: Footprints
    contexts: Contexts
    log: logging.LoggerAdapter[logging.Logger]
    state: Callable[[], lifecycle.State]
    report: Callable[[lifecycle.Event], None]
    """Take an event to the supervisor."""
    keeps_context: Callable[[], bool]
    """Are its conversations kept over a planned end?"""
    shares_log: Callable[[], bool]
    """Does another process of the server write to the same log?"""
    progressed: Callable[[], None]
    """The model has loaded a bit further: publish it."""
    on_bug: Callable[[BaseException], None]

    async def attempted(self, effect: lifecycle.Attempted, work: Coroutine[None, None, None]) -> None:
        """Await the work for an effect. An effect that fails for want of our own resources is postponed."""
        since = self.clock.monotonic()
        try:
            await work
        except CANNOT as error:
            self.report(lifecycle.Postponed(effect.attempt, effect, why_not(error), since))
