"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SETTLE_ROUNDS = 50
"""Turns of the event loop after which what still moves is taken to go on for ever."""


class FakeClock:
    """`advance` wakes sleepers in the order of their deadlines and lets everything settle after each."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._now = 0.0
        self._wall = wall
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._wall + self._now

    async def sleep_until(self, deadline: float) -> None:
        if deadline > self._now:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((deadline, future))
            await future

    def call_at(self, deadline: float, call: Callable[[], None]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: None if done.cancelled() else call())
        if deadline > self._now:
            self._sleepers.append((deadline, future))
        else:
            future.set_result(None)
        return future

    def freeze(self, seconds: float) -> None:
        """Let time pass in which nothing runs: nobody is woken until the next `advance`."""
        self._now += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock alone, as when somebody sets it."""
        self._wall += seconds

    async def advance(self, seconds: float) -> None:
        target = self._now + seconds
        await settle()
        while True:
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= target and not sleeper[1].done()]
            if not due:
                break
            self._now = max(self._now, min(deadline for deadline, _ in due))
            woken = [sleeper for sleeper in due if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in woken]
            for _, future in woken:
                future.set_result(None)
            await settle()
        self._now = target
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]


async def settle() -> None:
    """Let every task run as far as it gets."""
    # No public name says whether anything is left to run. All rounds each time were half of the CPU of tests.
    ready = getattr(asyncio.get_running_loop(), "_ready", True)
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)
        if not ready:
            return
