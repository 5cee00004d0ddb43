"""An event loop whose time passes at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

from tests.unit.gateway.boards import BEGIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class _Clock(selectors.SelectSelector):
    """Never waits: says that the time is over, and that nothing has come from outside."""

    now = BEGIN

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Goes to the next timer as soon as there is nothing to do. Connections are made by `connect`."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self.connect: Callable[[Callable[[], Any], str, int], Awaitable[Any]]
        """Protocol factory, host, port. Raises OSError."""

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run the call at once: a thread would take its time while ours flies."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        return await self.connect(*args, **kwargs)
