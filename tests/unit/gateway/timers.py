"""An event loop's timers, whose time passes when a test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """`asyncio.TimerHandle`, as far as it is used."""

    def __init__(self, when: float, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.when = when
        self.call = call
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """A stand-in for an event loop, for what only sets timers."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._set: list[Timer] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, call: Callable[..., Any], *arguments: Any) -> Timer:
        self._set.append(Timer(when, call, arguments))
        return self._set[-1]

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> Timer:
        return self.call_at(self._now + seconds, call, *arguments)

    def call_soon(self, call: Callable[..., Any], *arguments: Any) -> Timer:
        return self.call_later(0.0, call, *arguments)

    @property
    def pending(self) -> list[Timer]:
        """Next first."""
        return sorted((timer for timer in self._set if not timer.cancelled), key=lambda timer: timer.when)

    def advance(self, seconds: float) -> None:
        """Everything that becomes due happens, in its order."""
        end = self._now + seconds
        while self.pending and self.pending[0].when <= end:
            timer = self.pending[0]
            self._set.remove(timer)
            self._now = max(self._now, timer.when)
            timer.call(*timer.arguments)
        self._now = end
