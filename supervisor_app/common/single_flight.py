"""Make once what many ask for at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

Made = TypeVar("Made")
Key = TypeVar("Key", bound="Hashable")


class SingleFlight(Generic[Key, Made]):
    """Calls of a slow function, shared by all who ask with the same key.

    A caller that comes while a call runs gets the result of the next: that of the running call may be older
    than what the caller has heard of already. So a thousand callers cost two calls.
    """

    def __init__(self, make: Callable[[Key], Coroutine[None, None, Made]]) -> None:
        self._make = make
        self._running: dict[Key, asyncio.Task[Made]] = {}
        self._next: dict[Key, asyncio.Task[Made]] = {}

    async def get(self, key: Key) -> Made:
        """Return what a call made that began after this. Raises what the call raises."""
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._call(key), name="single-flight")
        return await asyncio.shield(self._next[key])  # a caller that leaves ends it for nobody else

    async def _call(self, key: Key) -> Made:
        try:
            while key in self._running:
                await asyncio.wait([self._running[key]])
        finally:
            this = self._next.pop(key)
        self._running[key] = this
        try:
            return await self._make(key)
        finally:
            del self._running[key]

    def close(self) -> None:
        """Cancel all calls."""
        for task in (*self._running.values(), *self._next.values()):
            task.cancel()
